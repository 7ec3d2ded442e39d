description = "Run flows, schedules and the control socket until told to stop."
usage = [[
secrun serve [--config FILE] [--standby] [--grace D] [--lease D] [--jobs N]
       secrun serve status|reload|stop [--json]   about the one that runs
       secrun serve fire SCHEDULE]]
needs = {}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
  {name = "standby", type = "flag", doc = "wait until the one that runs is gone"},
  {name = "grace", type = "duration", value = "D",
    doc = "for what runs when it is told to stop, 20s by default"},
  {name = "lease", type = "duration", value = "D",
    doc = "until another machine takes over what hangs, 30s"},
  {name = "jobs", type = "integer", value = "N", positive = true,
    doc = "flows at a time, 64 by default"},
  {name = "json", type = "flag", doc = "status: one JSON value instead of a table"},
}

local args = require "args"
local cli = require "cli"
local control = require "control"
local estate = require "estate"
local expected = require "expected"
local flow_text = require "flow_text"
local json = require "json"
local server = require "server"
local textable = require "textable"
local time = require "time"

--- Times of a schedule, for people.
local function moment(text)
  return text and ("%s, %s"):format(text, flow_text.distance(time.parse(text))) or ""
end

local function show_status(opts, status)
  if opts.json then
    print(json.encode(status, {pretty = true}))
    return 0
  end
  local states, rows = {}, {}
  for state, n in pairs(status.flows) do states[#states + 1] = n .. " " .. state end
  table.sort(states)
  for i, one in ipairs(status.schedules) do
    rows[i] = {one.name, one.at .. (one.zone ~= "UTC" and " " .. one.zone or ""),
      one.run and table.concat(one.run, " ") or one.flow and "flow " .. one.flow
        or one.name, moment(one.last), moment(one.due)}
  end
  print(("pid %d since %s, %s"):format(status.pid, moment(status.since),
    status.stopping and "stopping" or "working"))
  print(("settings %s, read %s"):format(status.config, moment(status.read)))
  print(("store %s: %s"):format(status.store,
    #states > 0 and table.concat(states, ", ") or "no flows yet"))
  print(textable.format({"schedule", "at", "starts", "fired up to", "next"}, rows))
  return 0
end

local commands = {}

function commands.status(opts, client) return show_status(opts, client:call "status") end

function commands.reload(_, client)
  print(client:call("reload").config .. " is in use")
  return 0
end

function commands.stop(_, client)
  client:call "stop"
  print "it hands back what runs, and stops"
  return 0
end

function commands.fire(_, client, name)
  if not name then cli.usage_error "fire needs the name of a schedule" end
  local started = client:call("fire", {name = name})
  print(started.text or ("flow %s %s"):format(started.id, started.created and "is started"
    or "goes on already"))
  return 0
end

local function ask(opts, path, words)
  local name, names = words[1], {"status", "reload", "stop", "fire"}
  local command = commands[name]
  if not command then
    local close = args.suggest(name, names)
    cli.usage_error(("there is no `secrun serve %s`; %s"):format(name, close
      and "did you mean " .. close .. "?" or "it has: " .. table.concat(names, ", ")))
  end
  if words[name == "fire" and 3 or 2] then
    cli.usage_error(("secrun serve %s: %q is one word too many"):format(name,
      words[#words]))
  end
  local client <close> = control.connect(server.control_path(estate.load(path)))
  return command(opts, client, words[2])
end

function main(words)
  local opts, rest = require("options").parse(words, options)
  local path = estate.find(opts.config)
  if rest[1] then return expected.run(ask, opts, path, rest) end
  return expected.run(server.run, {config = path, standby = opts.standby,
    grace = opts.grace or 20, lease = opts.lease, jobs = opts.jobs})
end
