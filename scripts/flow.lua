description = "See and steer durable flows."
usage = [[
secrun flow list [--state STATE] [--name NAME] [--org ORG] [--unfinished] [--limit N]
       secrun flow show|why ID
       secrun flow signal ID TOPIC [JSON] [--key KEY]
       secrun flow retry ID | cancel ID [--reason TEXT] | fork ID --from STEP
       secrun flow migrate ID [--to HASH] [--check]
Each takes --config FILE and --json, and works whether or not a server runs.]]
needs = {run = {}}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
  {name = "json", type = "flag", doc = "one JSON value instead of a table"},
  {name = "state", type = "string", doc = "list: only flows in this state"},
  {name = "name", type = "string", doc = "list: only flows of this name"},
  {name = "org", type = "string", doc = "list: only flows of this organization"},
  {name = "unfinished", type = "flag", doc = "list: only those that have not ended"},
  {name = "limit", type = "integer", value = "N", positive = true,
    doc = "list: so many, the newest first; 50"},
  {name = "key", type = "string", doc = "signal: the same key is one message"},
  {name = "reason", type = "string", value = "TEXT", doc = "cancel: why"},
  {name = "from", type = "string", value = "STEP", doc = "fork: first step done again"},
  {name = "id", type = "string", doc = "fork: id of the new flow"},
  {name = "to", type = "string", value = "HASH", doc = "migrate: the source to take"},
  {name = "check", type = "flag", doc = "migrate: only say whether it would go"},
}

local args = require "args"
local cli = require "cli"
local estate = require "estate"
local expected = require "expected"
local flow = require "flow"
local flow_text = require "flow_text"
local json = require "json"
local process = require "process"
local renewal = require "renewal"
local store = require "store"

local function show(opts, value, text)
  print(opts.json and json.encode(flow_text.plain(value), {pretty = true}) or text)
  return 0
end

local function actor() return {via = "flow", uid = process.uid} end

local commands = {}

local STATES = {"ready", "running", "waiting", "ok", "failed", "cancelled", "dead"}

local function check_state(state)
  for _, known in ipairs(STATES) do
    if not state or state == known then return end
  end
  local close = args.suggest(state, STATES)
  cli.usage_error(("--state %s is unknown; %s"):format(state, close
    and "did you mean " .. close .. "?" or "there are: " .. table.concat(STATES, ", ")))
end

function commands.list(db, opts)
  check_state(opts.state)
  local list = flow.list(db, {state = opts.state, name = opts.name, org = opts.org,
    unfinished = opts.unfinished, limit = opts.limit or 50})
  if #list == 0 and not opts.json then
    print("there is no such flow")
    return 0
  end
  return show(opts, json.array(list), flow_text.list(list))
end

function commands.show(db, opts, id)
  local why = flow.why(db, id) -- raises for an id that there is not
  local one = flow.get(db, why.id)
  return show(opts, one, flow_text.show(one))
end

function commands.why(db, opts, id)
  local why = flow.why(db, id)
  return show(opts, why, flow_text.why(why))
end

local function payload_of(text)
  if not text then return nil end
  local ok, value = pcall(json.decode, text)
  if ok then return value end
  cli.usage_error(("the payload is JSON such as '{\"ok\": true}' or '\"text\"', got %q")
    :format(text))
end

function commands.signal(db, opts, id, topic, payload)
  local waits = (flow.get(db, id) or {}).topic
  local new = flow.signal(db, id, topic, payload_of(payload),
    {key = opts.key, actor = actor()})
  local text = new and ("flow %s has the message %s"):format(id, topic)
    or ("flow %s had this message already"):format(id)
  if new and waits ~= topic then
    text = ("%s; it is kept until the flow waits for it%s"):format(text,
      waits and ", now it waits for " .. waits or "")
  end
  return show(opts, {id = id, topic = topic, new = new}, text)
end

function commands.retry(db, opts, id)
  local one = flow.retry(db, id)
  return show(opts, one, ("flow %s goes on where it stopped"):format(id))
end

function commands.cancel(db, opts, id)
  local one = flow.cancel(db, id, {reason = opts.reason, actor = actor()})
  return show(opts, one, one.state == "cancelled" and ("flow %s is cancelled"):format(id)
    or ("flow %s will be cancelled by the worker, after its clean-ups"):format(id))
end

function commands.fork(db, opts, id)
  if not opts.from then cli.usage_error("fork needs --from STEP, a name or number") end
  local new = flow.fork(db, id, {from = opts.from, id = opts.id})
  return show(opts, new, ("flow %s does %s again from step %s"):format(new.id, id,
    opts.from))
end

function commands.migrate(db, opts, id)
  local result = flow.migrate(db, id, {to = opts.to, check = opts.check,
    folders = not opts.to and opts.folders or nil})
  return show(opts, result, opts.check
    and ("flow %s can go on with the new source"):format(id)
    or ("flow %s goes on with the new source"):format(id))
end

--- How many words a command takes: at least, at most, and what they are.
local WORDS = {list = {0, 0, "nothing"}, signal = {2, 3, "ID TOPIC [JSON]"}}
local ONE = {1, 1, "ID"}

local function command_of(words)
  local names = {}
  for name in pairs(commands) do names[#names + 1] = name end
  table.sort(names)
  local name = words[1]
  if commands[name] then return commands[name], WORDS[name] or ONE end
  local close = name and args.suggest(name, names)
  cli.usage_error(("%s; %s"):format(name and ("there is no `secrun flow %s`"):format(name)
    or "secrun flow needs a command", close and "did you mean " .. close .. "?"
    or "it has: " .. table.concat(names, ", ")))
end

local function run(e, command, opts, ...)
  opts.folders = renewal.folders(e)
  local db <close> = store.open(e.store, {create = false})
  return command(db, opts, ...)
end

function main(words)
  local opts, rest = require("options").parse(words, options)
  local command, takes = command_of(rest)
  local count = #rest - 1
  if count < takes[1] or count > takes[2] then
    cli.usage_error(("secrun flow %s takes %s, got %d word%s"):format(rest[1], takes[3],
      count, count == 1 and "" or "s"))
  end
  local e = estate.load(estate.find(opts.config))
  return expected.run(run, e, command, opts, table.unpack(rest, 2))
end
