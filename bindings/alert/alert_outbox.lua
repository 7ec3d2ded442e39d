--- The outbox: deliveries that wait, are under way, or are done; and how channels fare.
--
-- A delivery is claimed with a lease, and each claim raises its fence; what came of it is
-- recorded under that fence only. So two processes do not send one delivery at once, and
-- one that was asleep for longer than its lease records nothing. Between sending and
-- recording a process can die: then the delivery is sent again, with the same id, which is
-- its Message-ID and its Secrun-Delivery. At least once, and recognisable.

local digest = require "digest"
local json = require "json"
local rules = require "alert_rules"
local store = require "store"

local outbox = {}

--- Seconds; longer than a delivery may take (alert_routes bounds its time-out).
outbox.LEASE = 60

local INSERT = "INSERT INTO alert_outbox (id, channel, state, items, alerts, created_at, "
  .. "due_at, attempts, fence) VALUES ($id, $channel, 'queued', $items, $alerts, $now, "
  .. "$now, 0, 0)"

--- The statement that queues a delivery, in the batch that marks its alerts as told.
---@param channel string
---@param items table[]
---@param now number
---@return table statement
function outbox.queue(channel, items, now)
  local ids = {}
  for i, item in ipairs(items) do ids[i] = item.id end
  return {INSERT, {id = digest.hex(digest.random(12)), channel = channel,
    items = json.encode(items), alerts = "\n" .. table.concat(ids, "\n") .. "\n",
    now = store.ms(now)}, expect = 1}
end

-- A lease far in the future is one of a clock that was wrong.
local FREE = "(lease_until IS NULL OR lease_until <= $now OR lease_until > $far)"

local CLAIM = "UPDATE alert_outbox SET lease_owner = $owner, lease_until = $until, "
  .. "fence = fence + 1, attempts = attempts + 1 WHERE id = (SELECT id FROM alert_outbox "
  .. "WHERE channel = $channel AND state = 'queued' AND due_at <= $now AND " .. FREE
  .. " AND NOT EXISTS (SELECT 1 FROM alert_channel c WHERE c.name = $channel "
  .. "AND c.next_at > $now) ORDER BY created_at, id LIMIT 1) AND " .. FREE
  .. " RETURNING *"

--- Take the oldest delivery of a channel that is due and free; nil: there is none, or the
--- channel is to be left alone for a while.
---@param db store.Db
---@param channel string
---@param now number
---@return table? delivery
function outbox.claim(db, channel, now)
  local ms, lease = store.ms(now), store.ms(outbox.LEASE)
  local raw = db:exec(CLAIM, {channel = channel, owner = store.owner(), now = ms,
    ["until"] = ms + lease, far = ms + 2 * lease}).rows[1]
  if not raw then return nil end
  raw.items = json.decode(raw.items)
  raw.recipients = raw.recipients and json.decode(raw.recipients)
  raw.created_at = store.seconds(raw.created_at)
  return raw
end

local HELD = "SELECT id, fence, lease_owner FROM alert_outbox WHERE state = 'queued' "
  .. "AND lease_until > $now"
local RELEASE = "UPDATE alert_outbox SET lease_until = NULL WHERE id = $id "
  .. "AND fence = $fence AND lease_owner = $owner"

--- Void the leases of processes of this machine that are gone.
---@param db store.Db
---@param now number
function outbox.release_gone(db, now)
  for _, row in ipairs(db:rows(HELD, {now = store.ms(now)})) do
    if store.owner_gone(row.lease_owner) then
      db:exec(RELEASE, {id = row.id, fence = row.fence, owner = row.lease_owner})
    end
  end
end

------------------------------------------------------------------ what came of it

local MINE = " WHERE id = $id AND fence = $fence AND state = 'queued'"

local SENT = "UPDATE alert_outbox SET state = 'sent', sent_at = $now, reply = $reply, "
  .. "error = $error, lease_until = NULL" .. MINE
local AGAIN = "UPDATE alert_outbox SET due_at = $due, error = $error, "
  .. "recipients = $recipients, lease_until = NULL" .. MINE
local FAILED = "UPDATE alert_outbox SET state = 'failed', error = $error, "
  .. "lease_until = NULL" .. MINE

local CHANNEL_OK = "INSERT INTO alert_channel (name, failures, ok_at) VALUES ($name, 0, "
  .. "$now) ON CONFLICT (name) DO UPDATE SET failures = 0, failing_since = NULL, "
  .. "ok_at = $now, next_at = NULL"
local CHANNEL_BAD = "INSERT INTO alert_channel (name, failures, failing_since, "
  .. "failed_at, next_at, error) VALUES ($name, $failures, $now, $now, $next, $error) "
  .. "ON CONFLICT (name) DO UPDATE SET failures = $failures, failing_since = "
  .. "COALESCE(alert_channel.failing_since, $now), failed_at = $now, next_at = $next, "
  .. "error = $error"

--- Record. Raises conflict (code FENCE) when the delivery is somebody else's by now.
local function record(db, delivery, statement, channel)
  statement[2].id, statement[2].fence = delivery.id, delivery.fence
  statement.expect, statement.code = 1, "FENCE"
  db:batch{statement, channel}
end

--- It was accepted; `note` is what went wrong beside that.
function outbox.sent(db, delivery, now, reply, note)
  record(db, delivery, {SENT, {now = store.ms(now), reply = reply, error = note}},
    {CHANNEL_OK, {name = delivery.channel, now = store.ms(now)}})
end

local function failures_before(db, name)
  local row = db:row("SELECT failures FROM alert_channel WHERE name = $name",
    {name = name})
  return row and row.failures or 0
end

local function channel_bad(db, delivery, now, failure)
  local failures = failures_before(db, delivery.channel) + 1
  local wait = failure.only_this and 0 or rules.backoff(failures, failure.retry_after)
  return {CHANNEL_BAD, {name = delivery.channel, failures = failures, now = store.ms(now),
    next = store.ms(now + wait), error = failure.text}}, failures
end

--- It failed. failure: text, retry_after, final (never again), only_this (the channel is
--- well: others may follow at once), recipients (who is left).
---@return integer failures of the channel in a row
function outbox.failed(db, delivery, now, failure)
  local statement
  if failure.final then
    statement = {FAILED, {error = failure.text}}
  else
    local wait = rules.backoff(delivery.attempts, failure.retry_after)
    local left = failure.recipients or delivery.recipients
    statement = {AGAIN, {due = store.ms(now + wait), error = failure.text,
      recipients = left and json.encode(left)}}
  end
  local channel, failures = channel_bad(db, delivery, now, failure)
  record(db, delivery, statement, channel)
  return failures
end

------------------------------------------------------------------ looking

--- Channels that have something to send, by name.
---@param db store.Db
---@return string[]
function outbox.channels(db)
  local list = db:rows("SELECT DISTINCT channel FROM alert_outbox "
    .. "WHERE state = 'queued' ORDER BY channel")
  for i, row in ipairs(list) do list[i] = row.channel end
  return list
end

--- How channels fare: name, failures, failing_since, failed_at, ok_at, next_at, error, and
--- the numbers of deliveries that wait and that failed for good.
---@param db store.Db
---@return table<string, table>
function outbox.health(db)
  local found = {}
  for _, row in ipairs(db:rows "SELECT * FROM alert_channel") do
    for _, name in ipairs{"failing_since", "failed_at", "ok_at", "next_at"} do
      row[name] = row[name] and store.seconds(row[name])
    end
    row.waiting, row.lost = 0, 0
    found[row.name] = row
  end
  for _, row in ipairs(db:rows("SELECT channel, state, COUNT(*) AS n FROM alert_outbox "
    .. "WHERE state <> 'sent' GROUP BY channel, state")) do
    local one = found[row.channel]
      or {name = row.channel, failures = 0, waiting = 0, lost = 0}
    found[row.channel] = one
    one[row.state == "queued" and "waiting" or "lost"] = row.n
  end
  return found
end

--- The deliveries of an alert, the latest first.
---@param db store.Db
---@param id string
---@return table[]
function outbox.history(db, id)
  local like = "%\n" .. id:gsub("[%%_!]", "!%0") .. "\n%"
  local list = db:rows("SELECT id, channel, state, created_at, sent_at, attempts, error, "
    .. "reply, items FROM alert_outbox WHERE alerts LIKE $like ESCAPE '!' "
    .. "ORDER BY created_at DESC, id LIMIT 50", {like = like})
  for _, row in ipairs(list) do
    row.created_at = store.seconds(row.created_at)
    row.sent_at = row.sent_at and store.seconds(row.sent_at)
    for _, item in ipairs(json.decode(row.items)) do
      if item.id == id then row.reason, row.severity = item.reason, item.severity end
    end
    row.items = nil
  end
  return list
end

--- When something can be sent next; nil: nothing waits.
---@param db store.Db
---@return number?
function outbox.next_at(db)
  local list = db:rows("SELECT o.due_at, o.lease_until, c.next_at FROM alert_outbox o "
    .. "LEFT JOIN alert_channel c ON c.name = o.channel WHERE o.state = 'queued' "
    .. "ORDER BY o.due_at LIMIT 1000")
  local first
  for _, row in ipairs(list) do
    local at = math.max(row.due_at, row.lease_until or 0, row.next_at or 0)
    first = math.min(first or at, at)
  end
  return first and store.seconds(first)
end

--- Forget deliveries that ended before.
---@param db store.Db
---@param before number
function outbox.forget(db, before)
  db:exec("DELETE FROM alert_outbox WHERE state <> 'queued' AND created_at < $before",
    {before = store.ms(before)})
end

return outbox
