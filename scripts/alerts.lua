description = "See alerts, acknowledge them, try a channel."
usage = [[
secrun alerts [list] [--all]
       secrun alerts show ALERT
       secrun alerts ack ALERT [--for TIME] [--comment TEXT] [--by NAME]
       secrun alerts test CHANNEL
Each takes --config FILE and --json. An ALERT is KIND/SUBJECT, as the list shows it.]]
needs = {run = {}}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
  {name = "json", type = "flag", doc = "print JSON, for programs"},
  {name = "all", type = "flag", doc = "list: also what is over"},
  {name = "for", type = "duration", value = "TIME", doc = "ack: how long"},
  {name = "comment", type = "string", value = "TEXT", doc = "ack: why"},
  {name = "by", type = "string", value = "NAME", doc = "ack: who ($USER)"},
}

local alert = require "alert"
local args = require "args"
local cli = require "cli"
local estate = require "estate"
local fs = require "fs"
local json = require "json"
local process = require "process"
local store = require "store"
local textable = require "textable"
local time = require "time"
local view = require "alert_view"

local commands = {}

function commands.list(db, config, opts)
  local list = alert.list{store = db, state = not opts.all and "firing" or nil}
  local channels = view.by_name(alert.channels(db, config))
  if opts.json then
    print(json.encode({alerts = view.plain_list(list),
      channels = view.plain_list(channels)}, {pretty = true}))
  else
    print(view.list(list, channels))
  end
  return 0
end

--- Kind and subject of an id; raises when the alert is not there.
local function find(db, id)
  local kind, subject = id:match("^([^/]+)/(.+)$")
  local row = kind and select(2, pcall(alert.get, kind, subject, db))
  if type(row) == "table" and row.id then return row end
  local known = {}
  for i, one in ipairs(alert.list{store = db}) do known[i] = one.id end
  local close = args.suggest(id, known)
  cli.usage_error(("there is no alert %q; %s"):format(id, close
    and "did you mean " .. close .. "?" or "`secrun alerts list --all` shows them"))
end

function commands.show(db, _, opts, id)
  local row = find(db, id)
  local history = alert.history(id, db)
  if opts.json then
    local made = view.plain(row)
    made.deliveries = view.plain_list(history)
    print(json.encode(made, {pretty = true}))
  else
    print(view.show(row, history, time.now()))
  end
  return 0
end

local function user()
  return process.env("SUDO_USER") or process.env("USER") or "uid " .. process.uid
end

function commands.ack(db, _, opts, id)
  local found = find(db, id)
  local row = alert.ack{store = db, kind = found.kind, subject = found.subject,
    by = opts.by or user(), comment = opts.comment,
    expires = opts["for"] and time.now() + opts["for"] or nil}
  if opts.json then
    print(json.encode(view.plain(row), {pretty = true}))
  else
    print(("%s is silent %s, or until it gets worse"):format(id, row.ack_until
      and "until " .. time.rfc3339(row.ack_until // 1) or "until it is over"))
  end
  return 0
end

function commands.test(_, config, opts, name)
  if not config.channels[name] then
    local known = {}
    for one in pairs(config.channels) do known[#known + 1] = one end
    local close = args.suggest(name, known)
    cli.usage_error(("the estate has no channel %q; %s"):format(name, close
      and "did you mean " .. close .. "?" or #known > 0
      and "it has: " .. table.concat(known, ", ") or "add alerts = {channels = {…}}"))
  end
  local done, err = try(alert.test, config, name)
  if not done then
    io.stderr:write("secrun: ", textable.clean(err), "\n")
    return 1
  end
  if opts.json then
    print(json.encode(done, {pretty = true}))
  else
    print(("%s took the test message: %s"):format(name, done.reply))
  end
  return 0
end

local COMMANDS = {"list", "show", "ack", "test"}
local WANTS = {show = "an alert, such as expiry/www", test = "a channel",
  ack = "an alert, such as expiry/www"}

function main(words)
  local opts, rest = require("options").parse(words, options)
  local command = rest[1] or "list"
  if not commands[command] then
    local close = args.suggest(command, COMMANDS)
    cli.usage_error(("there is no `secrun alerts %s`; %s"):format(command, close
      and "did you mean " .. close .. "?"
      or "there are: " .. table.concat(COMMANDS, ", ")))
  end
  if WANTS[command] and not rest[2] then
    cli.usage_error(("secrun alerts %s needs %s"):format(command, WANTS[command]))
  end
  local extra = rest[WANTS[command] and 3 or 2]
  if extra then cli.usage_error(("%q is too much"):format(extra)) end
  local e = estate.load(estate.find(opts.config))
  fs.mkdir(e.state, {parents = true, mode = "0700"})
  local db <close> = store.open(e.store)
  return commands[command](db, alert.config(e), opts, rest[2])
end
