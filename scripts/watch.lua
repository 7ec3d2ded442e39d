description = "Look at every certificate, raise alerts and tell them."
usage = "secrun watch [--once [--no-fail] | --every TIME] [--config FILE] [--json] [NAME]"
needs = {run = {}}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
  {name = "once", type = "flag", doc = "look once and end; status 1 if all is not well"},
  {name = "no-fail", type = "flag", doc = "status 0 also then: the alerts say it"},
  {name = "every", type = "duration", value = "TIME", doc = "between two looks (10m)"},
  {name = "json", type = "flag", doc = "print JSON, for programs"},
}

local alert = require "alert"
local cli = require "cli"
local estate = require "estate"
local fs = require "fs"
local json = require "json"
local log = require "log"
local store = require "store"
local task = require "task"
local textable = require "textable"
local time = require "time"
local watch = require "watch"

local function shown(instant)
  return instant and time.rfc3339(math.floor(instant)) or ""
end

local function print_table(found)
  local rows = {}
  for i, one in ipairs(found) do
    rows[i] = {one.name, one.state, shown(one.not_after), shown(one.due),
      one.severity or "", one.message or ""}
  end
  print(textable.format({"certificate", "state", "expires", "renewal due", "alert",
    "why"}, rows))
end

local function print_json(found, total)
  local list = {}
  for i, one in ipairs(found) do
    list[i] = {name = one.name, state = one.state, severity = one.severity,
      kind = one.kind, message = one.message, not_after = one.not_after
        and shown(one.not_after), due = one.due and shown(one.due)}
  end
  print(json.encode({certificates = json.array(list), sent = total.sent,
    failed = total.failed}, {pretty = true}))
end

--- Channels that fail, in the log.
local function failing(db, config)
  local any = false
  for name, channel in pairs(alert.channels(db, config)) do
    if channel.failures > 0 then
      any = true
      log.error("alerts to %s do not get through, %d wait: %s", name, channel.waiting,
        channel.error)
    end
  end
  return any
end

--- One look. Whether anything is wrong: a certificate, or a channel.
local function look(db, e, chosen, config, opts)
  local found = watch.look(db, e, chosen)
  local total = alert.deliver(db, config)
  local bad = failing(db, config)
  for _, one in ipairs(found) do
    bad = bad or one.severity == "warning" or one.severity == "critical"
  end
  if opts.json then print_json(found, total) else print_table(found) end
  return bad
end

function main(words)
  local opts, names = require("options").parse(words, options)
  if opts.once and opts.every then cli.usage_error("give --once or --every, not both") end
  if opts.no_fail and not opts.once then cli.usage_error("--no-fail is for --once") end
  local e = estate.load(estate.find(opts.config))
  local chosen = #names > 0 and estate.select(e, names) or nil
  local config = alert.config(e)
  if not next(config.channels) then
    log.warn("%s has no alert channels: alerts are only logged", e.path)
  end
  fs.mkdir(e.state, {parents = true, mode = "0700"})
  local db <close> = store.open(e.store)
  if opts.once then
    return look(db, e, chosen, config, opts) and not opts.no_fail and 1 or 0
  end
  local telling <const> = task.daemon(alert.run, db, config)
  while true do
    local _, err = try(look, db, e, chosen, config, opts)
    if err then log.error("%s", err) end
    if task.cancelled() then telling:cancel() end
    task.sleep(opts.every or 600)
  end
end
