--- Telling: from alerts that are due to deliveries, and from those to channels.
--
-- A round decides about every alert that is due (alert_rules), chooses its channels
-- (alert_routes), and in one transaction marks the alerts as told and queues one delivery a
-- channel. Then each channel's deliveries are sent, one after the other. Whoever dies between
-- the two steps leaves deliveries that the next round sends.

local args = require "args"
local errors = require "errors"
local log = require "log"
local outbox = require "alert_outbox"
local routes = require "alert_routes"
local rows = require "alert_rows"
local rules = require "alert_rules"
local send = require "alert_send"
local task = require "task"
local time = require "time"

local tell = {}

local DAY = 86400
local AT_ONCE = 900             -- alerts told in one transaction
local GIVE_UP = 3 * DAY         -- a delivery is tried for that long
local KEEP = {told = 30 * DAY, over = 90 * DAY}
local TIDY = 3600

------------------------------------------------------------------ what to whom

local ITEM = {"id", "kind", "subject", "severity", "org", "owner", "message", "details",
  "cause", "starts_at", "ends_at", "deadline"}

local function item_of(row, reason)
  local item = {reason = reason}
  for _, key in ipairs(ITEM) do item[key] = row[key] end
  return item
end

--- Channels of a row: those that were told of its beginning, for its end. What is worth a
--- line of the log goes to notes.
local function channels_of(config, row, reason, notes)
  local names, routed = row.told_to or {}, true
  if reason ~= "resolved" then names, routed = routes.channels(config, row) end
  local kept = {}
  for _, name in ipairs(names) do
    local itself = row.kind == "channel" and row.subject == name
    if config.channels[name] and not itself then kept[#kept + 1] = name end
  end
  if #kept == 0 then
    notes.untold[#notes.untold + 1] = ("alert %s (%s, %s): %s; no channel takes it")
      :format(row.id, row.severity, reason, row.message or row.kind)
  elseif not routed then
    notes.unrouted[#notes.unrouted + 1] = row.id
  end
  return kept
end

--- Log them, once they are true.
local function log_notes(config, notes)
  for _, line in ipairs(notes.untold) do log.warn("%s", line) end
  local count = #notes.unrouted
  if count == 0 or #config.routes == 0 then return end
  log.info("%d alert%s no route takes, told to the default (%s): %s%s", count,
    count == 1 and "" or "s", table.concat(config.default, ", "),
    table.concat(notes.unrouted, ", ", 1, math.min(count, 10)), count > 10 and " …" or "")
end

local function cause_of(db, row, seen)
  if not row.cause then return nil end
  if seen[row.cause] == nil then seen[row.cause] = rows.get(db, row.cause) or false end
  return seen[row.cause] or nil
end

--- What becomes of one due row: the row to write, and the item for its channels.
local function decide(db, config, row, now, seen, notes)
  local reason = rules.due(row, now)
  if reason and rules.is_inhibited(row, cause_of(db, row, seen)) then
    row.notify_at = now + 60 -- its cause speaks for it; look again
    return row
  end
  if not reason then
    row.notify_at = rules.next_at(row, now)
    return row
  end
  local names = channels_of(config, row, reason, notes)
  local after = rules.told(row, reason, now)
  if reason ~= "resolved" then after.told_to = names end
  after.notify_at = rules.next_at(after, now)
  return after, item_of(row, reason), names
end

--- One round: rows that are due become deliveries, all in one transaction. Their number.
local function plan(db, config, now)
  local due, statements, items, seen = rows.due(db, now, AT_ONCE), {}, {}, {}
  local notes = {untold = {}, unrouted = {}}
  for _, row in ipairs(due) do
    local after, item, names = decide(db, config, row, now, seen, notes)
    statements[#statements + 1] = rows.write(after)
    for _, name in ipairs(names or {}) do
      items[name] = items[name] or {}
      table.insert(items[name], item)
    end
  end
  local told = 0
  for name, list in pairs(items) do
    statements[#statements + 1] = outbox.queue(name, list, now)
    told = told + #list
  end
  if #statements > 0 then db:batch(statements) end
  log_notes(config, notes)
  return #due, told
end

--- Queue all that is due. When somebody else writes the same rows, look at them again.
local function plan_all(db, config, now)
  local told, conflicts = 0, 0
  while true do
    local ok, count, more = pcall(plan, db, config, now)
    if ok then
      told = told + more
      if count < AT_ONCE then return told end
    else
      local err = errors.object(count)
      conflicts = conflicts + 1
      if err.code ~= "ALERT" or conflicts > 20 then error(err, 0) end
      task.sleep(0.01 * conflicts)
    end
  end
end

------------------------------------------------------------------ sending

--- A channel that fails is an alert to the others.
local function raise_channel(db, config, name, failures, err)
  if failures < config.fail_after and not send.is_final(err) then return end
  if not config.channels[name] then return end
  require "alert".raise{store = db, kind = "channel", subject = name,
    severity = "warning", message = ("alerts do not get through: %s"):format(err.message),
    details = {error = err, failures_in_a_row = failures,
      next = {"secrun alerts list", "secrun alerts test " .. name}}}
end

local function get_through(db, name)
  require "alert".resolve{store = db, kind = "channel", subject = name,
    message = "alerts get through again"}
end

local function failed(db, config, delivery, err)
  local now = rows.now()
  local old = now - delivery.created_at > GIVE_UP
  local final = send.is_final(err) or old
  local failures = outbox.failed(db, delivery, now, {
    text = rows.text(tostring(err), 1000), retry_after = err.retry_after, final = final,
    only_this = send.is_final(err)})
  log.warn("alerts to %s: %s (%s)", delivery.channel, err,
    final and "given up" or "will be tried again")
  raise_channel(db, config, delivery.channel, failures, err)
end

--- Some recipients were refused: those who may take it later get it later.
local function partly(db, config, delivery, done)
  local now, note = rows.now(), done.note
  if done.later[1] then
    outbox.failed(db, delivery, now, {text = rows.text(note, 1000),
      recipients = done.later, only_this = true})
  else
    outbox.sent(db, delivery, now, done.reply, rows.text(note, 1000))
  end
  log.warn("alerts to %s: %s", delivery.channel, note)
  if done.never[1] then
    raise_channel(db, config, delivery.channel, config.fail_after, errors.new{
      kind = "not_found", code = "SMTP_550", status = 550, message = note})
  end
end

local function one(db, config, delivery)
  local done, err = try(task.timeout, outbox.LEASE - 5, send.deliver, config, delivery)
  if not done then return failed(db, config, delivery, err) end
  if done.later[1] or done.never[1] then
    partly(db, config, delivery, done)
  else
    outbox.sent(db, delivery, rows.now(), done.reply)
    get_through(db, delivery.channel)
  end
  return true
end

--- Send what a channel has, one after the other. A delivery that somebody else took over
--- meanwhile is theirs.
local function drain(db, config, name)
  local sent, bad = 0, 0
  while true do
    local delivery = outbox.claim(db, name, rows.now())
    if not delivery then return sent, bad end
    local ok, good = pcall(one, db, config, delivery)
    if not ok then
      local err = errors.object(good)
      if err.code ~= "FENCE" then error(err, 0) end
      log.warn("alerts to %s: delivery %s took longer than its lease", name, delivery.id)
    elseif good then
      sent = sent + 1
    else
      bad = bad + 1
    end
  end
end

local function send_all(db, config)
  local total = {sent = 0, failed = 0}
  outbox.release_gone(db, rows.now())
  task.each(outbox.channels(db), {limit = 8, stop_on_error = true}, function(name)
    local sent, bad = drain(db, config, name)
    total.sent, total.failed = total.sent + sent, total.failed + bad
  end)
  return total
end

--- Tell what is due. See alert.deliver.
---@param db store.Db
---@param config table
---@return {told: integer, sent: integer, failed: integer}
function tell.deliver(db, config)
  local told = plan_all(db, config, rows.now())
  local total = send_all(db, config)
  if total.failed > 0 then -- a channel's own alert goes to the others now
    told = told + plan_all(db, config, rows.now())
    local more = send_all(db, config)
    total.sent, total.failed = total.sent + more.sent, total.failed + more.failed
  end
  total.told = told
  return total
end

--- Forget what is over since long, and channels that the estate has no more.
---@param db store.Db
---@param config table
function tell.tidy(db, config)
  for _, row in ipairs(rows.list(db)) do
    if row.kind == "channel" and not config.channels[row.subject] then
      get_through(db, row.subject)
    end
  end
  outbox.forget(db, rows.now() - KEEP.told)
  rows.forget(db, rows.now() - KEEP.over)
end

--- When tell.deliver has something to do; nil: never, unless something is raised.
---@param db store.Db
---@return number?
function tell.next_at(db)
  local row = db:row "SELECT MIN(notify_at) AS at FROM alert"
  local first, second = row and row.at and row.at / 1000, outbox.next_at(db)
  if first and second then return math.min(first, second) end
  return first or second
end

local RUN = {
  {name = "wait", type = "duration", doc = "to gather alerts into one mail (10s)"},
  {name = "longest", type = "duration", doc = "between two looks (1m)"},
}

--- One look of the loop: wait until something is due, gather, tell.
local function look(db, config, watcher, wait, longest)
  local at = tell.next_at(db)
  if at and at <= rows.now() then
    task.sleep(wait)
    return tell.deliver(db, config)
  end
  watcher:wait(math.min(longest, at and at - rows.now() or longest))
  task.sleep(0.25) -- a busy store commits all the time
end

--- Deliver for ever. What fails in the store is logged and tried again. See alert.run.
---@param db store.Db
---@param config table
---@param options table? see RUN
function tell.run(db, config, options)
  local o = args.check("alert.run", RUN, options)
  local wait, longest = args.duration(o.wait or "10s"), args.duration(o.longest or "1m")
  local watcher <close> = db:watch()
  local tidied = -TIDY
  while true do
    local ok, err = pcall(function()
      if time.mono() - tidied >= TIDY then
        tell.tidy(db, config)
        tidied = time.mono()
      end
      look(db, config, watcher, wait, longest)
    end)
    if not ok then
      if task.cancelled() then error(err, 0) end
      log.error("alerts cannot be told: %s", errors.object(err))
      task.sleep(longest)
    end
  end
end

return tell
