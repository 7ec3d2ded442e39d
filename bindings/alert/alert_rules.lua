--- When to alert, and when to say so again. Pure functions of a row, an event and an instant.
--
--     local rules = require "alert_rules"
--     rules.expiry{not_before = a, not_after = b, now = now, healthy = true}  --> nil
--     local row = rules.raise(row, event, now)      -- also rules.resolve(row, now)
--     local reason = rules.due(row, now)            -- "new", "climbed", "repeat" … or nil
--     if reason then row = rules.told(row, reason, now) end
--
-- One alert per kind and subject. Its severity is an attribute that only climbs while it
-- fires. What was told is stored beside what is: a threshold that was crossed in the night,
-- or during a week without a run, is told once, at its worst, when somebody looks again.
--
-- An episode lasts from the first raise to the resolve. When an alert comes and goes, the
-- resolve waits until it has held for a while, longer with each episode of the last day; a
-- raise within that time goes on with the same episode and says nothing.

local rules = {}

local HOUR, DAY = 3600, 86400

--- Rank of a severity; higher is worse.
rules.RANK = {info = 1, warning = 2, critical = 3}
rules.SEVERITIES = {"info", "warning", "critical"}

local REPEAT = {info = 7 * DAY, warning = DAY, critical = 4 * HOUR}
local SOON = 2 * DAY          -- a critical alert this close to its deadline repeats hourly
local SETTLE, LONGEST = 600, 6 * HOUR
local CALM = DAY              -- episodes further apart than this are not flapping

------------------------------------------------------------------ thresholds

local FIXED = {info = {30 * DAY, 3}, warning = {14 * DAY, 6}, critical = {7 * DAY, 12}}

--- Seconds before the end of a certificate of that lifetime at which each severity begins:
--- 30, 14 and 7 days, or a third, a sixth and a twelfth of its life if that is less.
---@param lifetime number seconds
---@return {info: number, warning: number, critical: number}
function rules.thresholds(lifetime)
  local found = {}
  for severity, rule in pairs(FIXED) do
    found[severity] = math.min(rule[1], lifetime / rule[2])
  end
  return found
end

--- Severity of a certificate that expires, or nil while it is far. `healthy`: its renewal is
--- not due, or under way in time; info is not worth a word then.
---@param c {not_before: number, not_after: number, now: number, healthy: boolean?}
---@return string? severity
function rules.expiry(c)
  local left = c.not_after - c.now
  local at = rules.thresholds(c.not_after - c.not_before)
  if left <= at.critical then return "critical" end
  if left <= at.warning then return "warning" end
  if left <= at.info and not c.healthy then return "info" end
end

--- How long after the due instant a renewal may take before it is late: a day, or less for
--- short lives.
---@param lifetime number seconds
---@return number seconds
function rules.slack(lifetime) return math.min(DAY, lifetime / 24) end

--- Severity of a renewal that is late (due, and not served by due + slack), or nil.
---@param c {not_before: number, not_after: number, due: number, now: number}
---@return string? severity
function rules.late(c)
  local lifetime = c.not_after - c.not_before
  if c.now < c.due + rules.slack(lifetime) then return nil end
  local critical = rules.thresholds(lifetime).critical
  return c.not_after - c.now <= critical and "critical" or "warning"
end

------------------------------------------------------------------ what happens to a row

local function copy(row)
  local made = {}
  for key, value in pairs(row or {}) do made[key] = value end
  return made
end

local function worse(a, b) return rules.RANK[a] > rules.RANK[b] and a or b end

local EVENT = {"org", "owner", "message", "details", "cause", "deadline"}

local function take(row, event, now)
  for _, key in ipairs(EVENT) do row[key] = event[key] end
  row.seen_at = now
  return row
end

local function new_episode(row, event, now)
  local again = row.ends_at and now - row.ends_at < CALM
  row.state, row.severity = "firing", event.severity
  row.episodes = again and row.episodes + 1 or 1
  row.starts_at, row.ends_at, row.settles_at = now, nil, nil
  row.told_state, row.told_severity, row.told_owner, row.told_at = nil, nil, nil, nil
  row.ack_by, row.ack_until, row.ack_severity, row.ack_comment = nil, nil, nil, nil
  return row
end

--- Whether a resolved row's end was told already, or there was nothing to tell.
local function is_over(row)
  return row.state == "resolved" and row.told_state ~= "firing"
end

--- The row after a raise.
---@param row table? nil: the first one
---@param event table kind, subject, severity; org, owner, message, details, cause, deadline
---@param now number
---@return table row
function rules.raise(row, event, now)
  local made = copy(row)
  made.kind, made.subject = event.kind, event.subject
  if not row or is_over(row) then
    return take(new_episode(made, event, now), event, now)
  end
  made.state, made.ends_at, made.settles_at = "firing", nil, nil
  made.severity = worse(row.severity, event.severity)
  return take(made, event, now)
end

--- How long a resolve must hold before it is told.
local function settle(episodes)
  if episodes < 2 then return 0 end
  return math.min(SETTLE * 2 ^ (episodes - 2), LONGEST)
end

--- The row after a resolve; nil when nothing changes.
---@param row table?
---@param now number
---@return table? row
function rules.resolve(row, now)
  if not row or row.state == "resolved" then return nil end
  local made = copy(row)
  made.state, made.ends_at, made.settles_at = "resolved", now, now + settle(row.episodes)
  return made
end

--- The row after somebody said: I know. Repeats stop until that instant (nil: until it is
--- over), or until it gets worse. nil when it does not fire.
---@param row table
---@param ack {by: string, expires: number?, comment: string?}
---@return table? row
function rules.ack(row, ack)
  if row.state ~= "firing" then return nil end
  local made = copy(row)
  made.ack_by, made.ack_until, made.ack_comment = ack.by, ack.expires, ack.comment
  made.ack_severity = row.severity
  return made
end

------------------------------------------------------------------ what is to be told

--- Seconds between repeats.
---@param row table
---@param now number
---@return number
function rules.repeat_after(row, now)
  if row.severity == "critical" and row.deadline and row.deadline - now < SOON then
    return HOUR
  end
  return REPEAT[row.severity]
end

local function is_acked(row, now)
  return row.ack_by ~= nil and rules.RANK[row.severity] <= rules.RANK[row.ack_severity]
    and (row.ack_until == nil or now < row.ack_until)
end

--- Why a row is to be told now: "new", "climbed", "owner" (somebody else's now), "repeat",
--- "resolved"; or nil.
---@param row table
---@param now number
---@return string? reason
function rules.due(row, now)
  if row.state == "resolved" then
    return row.told_state == "firing" and now >= row.settles_at and "resolved" or nil
  end
  if row.told_state ~= "firing" then return "new" end
  if rules.RANK[row.severity] > rules.RANK[row.told_severity] then return "climbed" end
  if is_acked(row, now) then return nil end
  if row.owner ~= row.told_owner then return "owner" end
  if now >= row.told_at + rules.repeat_after(row, now) then return "repeat" end
end

--- The instant from which due() says something if nothing happens until then; nil: never.
---@param row table
---@param now number
---@return number?
function rules.next_at(row, now)
  if rules.due(row, now) then return now end
  if row.state == "resolved" then
    return row.told_state == "firing" and row.settles_at or nil
  end
  if is_acked(row, now) then
    if not row.ack_until then return nil end
    if row.owner ~= row.told_owner then return row.ack_until end
  end
  local at = row.told_at + rules.repeat_after(row, now)
  if row.severity == "critical" and row.deadline then -- hours become shorter near the end
    at = math.min(at, math.max(row.deadline - SOON + 1, row.told_at + HOUR))
  end
  return is_acked(row, now) and math.max(at, row.ack_until) or at
end

--- The row after it was told.
---@param row table
---@param reason string
---@param now number
---@return table row
function rules.told(row, reason, now)
  local made = copy(row)
  made.told_state = reason == "resolved" and "resolved" or "firing"
  made.told_severity, made.told_owner, made.told_at = row.severity, row.owner, now
  return made
end

--- Whether the cause of a row speaks for it: the cause fires, and the row is no worse.
---@param row table
---@param cause table? the row of its cause
---@return boolean
function rules.is_inhibited(row, cause)
  return cause ~= nil and cause.state == "firing" and row.state == "firing"
    and rules.RANK[row.severity] <= rules.RANK[cause.severity]
end

------------------------------------------------------------------ deliveries

local FIRST, CAP = 30, 2 * HOUR

--- Seconds until the next attempt after n failed ones: 30 s, doubling to two hours; longer
--- when the other side asked for it, at most a day.
---@param failures integer
---@param asked number? Retry-After
---@return number
function rules.backoff(failures, asked)
  local wait = math.min(FIRST * 2 ^ math.min(failures - 1, 20), CAP)
  return math.max(wait, math.min(asked or 0, DAY))
end

return rules
