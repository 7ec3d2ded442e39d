--- Alerts: raised, resolved, acknowledged; told to people once, and again when it matters.
--
--     local alert = require "alert"
--     alert.use(db, config)                       -- store.open(…), alert.config(estate)
--     alert.raise{kind = "expiry", subject = "www", severity = "warning", message = "…"}
--     alert.resolve{kind = "expiry", subject = "www"}
--     alert.deliver()                             -- tell what is due
--
-- There is one alert per kind and subject, "expiry/www". Raising writes a row and returns;
-- telling is a step of its own that any process may take: it decides (alert_rules), chooses
-- channels (alert_routes), queues deliveries and sends them (alert_tell, alert_outbox).

local args = require "args"
local digest = require "digest"
local errors = require "errors"
local outbox = require "alert_outbox"
local routes = require "alert_routes"
local rows = require "alert_rows"
local rules = require "alert_rules"
local send = require "alert_send"
local tell = require "alert_tell"

local alert = {}

local default = {}

--- The store, and the configuration, of calls that name none.
---@param db store.Db?
---@param config table? from alert.config
function alert.use(db, config) default = {db = db, config = config} end

--- The configuration from an estate that estate.load gave; without one nobody is told and
--- alerts are only logged.
---@param e table?
---@return table
function alert.config(e)
  local config, problems = routes.read(e and e.alerts, e and e.orgs)
  if #problems > 0 then
    errors.raise("usage", problems[1], {code = "ESTATE", details = problems})
  end
  return config
end

local function db_of(given)
  local db = given or default.db
  if db then return db end
  errors.raise("usage", "alerts are kept in a store; give store = db, or call "
    .. "alert.use(db) first", {code = "NO_STORE"})
end

local function config_of(given) return given or default.config or routes.read() end

------------------------------------------------------------------ checking

local function clean_details(place, value, depth)
  if type(value) == "string" then return rows.text(value, 4000) end
  if type(value) == "number" or type(value) == "boolean" then return value end
  if type(value) == "table" and depth < 8 then
    if errors.is(value) then return rows.text(tostring(value), 4000) end
    local made = {}
    for key, one in pairs(value) do
      made[key] = clean_details(place .. "." .. tostring(key), one, depth + 1)
    end
    return made
  end
  errors.raise("usage", ("alert.raise: %s is a %s; details are text, numbers and lists "
    .. "of them"):format(place, type(value)), {code = "BAD_ALERT"})
end

local IDENTITY = {
  {name = "store", type = "any", doc = "an open store"},
  {name = "kind", type = "string", required = true, nonempty = true},
  {name = "subject", type = "string", required = true, nonempty = true},
}

local function with(more)
  local spec = table.move(IDENTITY, 1, #IDENTITY, 1, {})
  return table.move(more, 1, #more, #spec + 1, spec)
end

local RAISE = with{
  {name = "severity", type = "enum", choices = "info|warning|critical", required = true},
  {name = "org", type = "string"},
  {name = "owner", type = "string"},
  {name = "message", type = "string", doc = 'what is wrong: "expires in 3 days"'},
  {name = "details", type = "table", doc = "what was tried; next: what to type"},
  {name = "cause", type = "string", doc = "id of the alert that this one follows from"},
  {name = "deadline", type = "number", doc = "when it is too late, UTC seconds"},
}

local RESOLVE = with{
  {name = "message", type = "string"},
  {name = "details", type = "table"},
}

local ACK = with{
  {name = "by", type = "string", required = true, nonempty = true},
  {name = "expires", type = "number", doc = "UTC seconds; until it is over without"},
  {name = "comment", type = "string"},
}

--- The id of an alert.
---@param kind string lower-case letters, digits and '-'
---@param subject string
---@return string
function alert.id(kind, subject)
  if not kind:find("^%l[%l%d-]*$") or #kind > 60 then
    errors.raise("usage", ("the kind of an alert has lower-case letters, digits and '-', "
      .. "got %q"):format(kind), {code = "BAD_ALERT"})
  end
  if #subject > 300 or subject:find("[%c\127]") or not utf8.len(subject) then
    errors.raise("usage", ("the subject of an alert is at most 300 bytes without control "
      .. "characters, got %q"):format(subject:sub(1, 60)), {code = "BAD_ALERT"})
  end
  return kind .. "/" .. subject
end

------------------------------------------------------------------ raising

--- Say that something is wrong. The same again changes nothing but its words; a worse
--- severity climbs. Waits until it is on the disk.
---@param options table see RAISE
---@return table row
function alert.raise(options)
  local o = args.check("alert.raise", RAISE, options)
  local id, now = alert.id(o.kind, o.subject), rows.now()
  local event = {kind = o.kind, subject = o.subject, severity = o.severity, org = o.org,
    owner = o.owner, deadline = o.deadline, cause = o.cause,
    message = o.message and rows.text(o.message, 500),
    details = o.details and clean_details("details", o.details, 0)}
  return rows.change(db_of(o.store), id, now, function(row)
    return rules.raise(row, event, now)
  end) --[[@as table]]
end

--- Say that it is over. Nothing happens when it was not raised. message and details say how
--- things are now.
---@param options table store?, kind, subject, message?, details?
---@return boolean changed
function alert.resolve(options)
  local o = args.check("alert.resolve", RESOLVE, options)
  local id, now, changed = alert.id(o.kind, o.subject), rows.now(), false
  rows.change(db_of(o.store), id, now, function(row)
    local after = rules.resolve(row, now)
    changed = after ~= nil
    if not after then return nil end
    if o.message then after.message = rows.text(o.message, 500) end
    if o.details then after.details = clean_details("details", o.details, 0) end
    return after
  end)
  return changed
end

--- Stop repeats: until `expires`, until it gets worse, or until it is over. Raises not_found
--- when it does not fire.
---@param options table store?, kind, subject, by, expires?, comment?
---@return table row
function alert.ack(options)
  local o = args.check("alert.ack", ACK, options)
  local id, now = alert.id(o.kind, o.subject), rows.now()
  return rows.change(db_of(o.store), id, now, function(row)
    local after = row and rules.ack(row, {by = rows.text(o.by, 200), expires = o.expires,
      comment = o.comment and rows.text(o.comment, 500)})
    if after then return after end
    errors.raise("not_found", ("no alert %s fires"):format(id), {code = "NO_ALERT"})
  end) --[[@as table]]
end

---@param kind string
---@param subject string
---@param db store.Db?
---@return table? row
function alert.get(kind, subject, db)
  return rows.get(db_of(db), alert.id(kind, subject))
end

--- All alerts, those that fire first.
---@param filter {store: store.Db?, state: string?, kind: string?}?
---@return table[]
function alert.list(filter)
  filter = filter or {}
  local found = {}
  for _, row in ipairs(rows.list(db_of(filter.store))) do
    if (not filter.state or row.state == filter.state)
      and (not filter.kind or row.kind == filter.kind) then
      found[#found + 1] = row
    end
  end
  return found
end

------------------------------------------------------------------ telling

--- Tell what is due: decide, queue, send. Several processes may do this at once. A channel
--- that fails does not raise: its deliveries wait, and alert.channels shows it.
---@param db store.Db?
---@param config table?
---@return {told: integer, sent: integer, failed: integer} counts alerts, deliveries
function alert.deliver(db, config) return tell.deliver(db_of(db), config_of(config)) end

--- When alert.deliver has something to do, if nothing is raised; nil: never.
---@param db store.Db?
---@return number?
function alert.next_at(db) return tell.next_at(db_of(db)) end

--- Deliver for ever: whenever something is raised or becomes due. For a task of a server;
--- ends when that is cancelled. Options: wait = "10s" gathers alerts into one mail, longest =
--- "1m" bounds the time between two looks.
---@param db store.Db?
---@param config table?
---@param options {wait: number|string?, longest: number|string?}?
function alert.run(db, config, options)
  tell.run(db_of(db), config_of(config), options)
end

------------------------------------------------------------------ looking

--- How channels fare, those of the configuration and those that still have something.
---@param db store.Db?
---@param config table?
---@return table<string, table>
function alert.channels(db, config)
  local found = outbox.health(db_of(db))
  for name in pairs(config_of(config).channels) do
    found[name] = found[name] or {name = name, failures = 0, waiting = 0, lost = 0}
  end
  return found
end

--- The deliveries of an alert, the latest first.
---@param id string "expiry/www"
---@param db store.Db?
---@return table[]
function alert.history(id, db) return outbox.history(db_of(db), id) end

--- Send a test message to one channel, now and without the outbox. Raises what went wrong.
---@param config table
---@param name string
---@return {id: string, reply: string}
function alert.test(config, name)
  local now = rows.now()
  local id = digest.hex(digest.random(12))
  local done = send.deliver(config, {id = id, channel = name, created_at = now, items = {{
    id = "test/" .. name, kind = "test", subject = name, severity = "info",
    reason = "new", message = "a test: alerts get through", starts_at = now,
    details = {next = {"secrun alerts list"}}}}})
  if done.note then errors.raise("not_found", done.note, {code = "SMTP_REFUSED"}) end
  return {id = id, reply = done.reply}
end

return alert
