--- The statements that write flows, steps and messages: one place for what a row means.
--
--     db:batch{rows.message{flow = id, topic = "approved", …}, rows.wake(id, now)}
--
-- Each function gives one statement of a batch, {sql, parameters, expect =, code =}. Times
-- are ms since 1970. A statement about a running flow carries its fence, the number that
-- grows with every claim: after another worker claimed the flow it changes no row, the
-- batch is rolled back with code FENCE, and whoever sent it lets go.

local rows = {}

--- Later than any timer: a wait without end.
rows.NEVER = 9000000000000000

--- States in which a flow goes no further by itself.
rows.ENDED = {ok = true, failed = true, cancelled = true, dead = true}
local ENDED_LIST <const> = "('ok','failed','cancelled','dead')"

--- Keep the source of a flow body.
---@param bundle {hash: string, text: string}
function rows.code(bundle, now)
  return {"INSERT INTO code(hash, bundle, added_at) VALUES($hash, $bundle, $now) "
    .. "ON CONFLICT(hash) DO NOTHING", {hash = bundle.hash, bundle = bundle.text,
      now = now}}
end

local NEW <const> = [[
INSERT INTO flow(id, name, code, org, ca, account, priority, state, input, actor,
  available_at, dedup, parent, deadline, max_attempts, created_at, updated_at)
VALUES($id, $name, $code, $org, $ca, $account, $priority, 'ready', $input, $actor,
  $at, $dedup, $parent, $deadline, $max_attempts, $now, $now)
ON CONFLICT DO NOTHING RETURNING id]]

--- A new flow, unless one of this id or unfinished dedup key is there. Returns its id.
function rows.flow(new) return {NEW, new} end

-- ---------------------------------------------------------------- under a lease

local PROGRESS <const> = [[
UPDATE flow SET lease_until = $lease, attempts = 0, updated_at = $now
WHERE id = $id AND fence = $fence AND state = 'running' RETURNING stop]]
local HOLD <const> = [[
SELECT stop FROM flow WHERE id = $id AND fence = $fence AND state = 'running']]

--- First statement of whatever a running flow writes: it is still ours. The first progress of
--- a run clears the count of attempts; after that nothing about the flow has to be written,
--- as the engine renews its lease. Returns `stop`, the wish that the flow should end.
--- (A database with several writers must lock the row that it reads here.)
function rows.hold(run, now, first_progress)
  if not first_progress then
    return {HOLD, {id = run.id, fence = run.fence}, expect = 1, code = "FENCE"}
  end
  return {PROGRESS, {id = run.id, fence = run.fence, lease = now + run.lease, now = now},
    expect = 1, code = "FENCE"}
end

local STEP <const> = [[
INSERT INTO step(flow, seq, name, kind, args, args_sha, status, idem_key, result, error,
  attempts, until, fence, started_at, ended_at)
VALUES($flow, $seq, $name, $kind, $args, $args_sha, $status, $idem_key, $result, $error,
  $attempts, $until, $fence, $started_at, $ended_at)
ON CONFLICT(flow, seq) DO UPDATE SET status = excluded.status, result = excluded.result,
  error = excluded.error, attempts = excluded.attempts, until = excluded.until,
  fence = excluded.fence, ended_at = excluded.ended_at]]

--- A step as it stands now: inserted, or its earlier state replaced.
function rows.step(step) return {STEP, step} end

--- The end of a run, with the state it leaves the flow in.
---@param run {id: string, fence: integer}
---@param set table<string, any> columns
function rows.leave(run, set, now)
  local columns, params = {}, {id = run.id, fence = run.fence, now = now}
  for column, item in pairs(set) do
    columns[#columns + 1] = ("%s = $%s"):format(column, column)
    params[column] = item
  end
  table.sort(columns)
  columns[#columns + 1] = ""
  return {("UPDATE flow SET %slease_owner = NULL, lease_until = NULL, updated_at = $now "
    .. "WHERE id = $id AND fence = $fence AND state = 'running'"):format(
      table.concat(columns, ", ")), params, expect = 1, code = "FENCE"}
end

--- Park a flow until an instant, a message on one of the topics, or the end of one of the
--- children; what has come already makes it due at once, so no wake-up is lost.
---@param run {id: string, fence: integer}
---@param wait {at: integer, topics: string[], children: string[], stoppable: boolean}
---  stoppable: a wish to end it makes it due, too
function rows.park(run, wait, now)
  local params = {id = run.id, fence = run.fence, now = now, at = wait.at,
    until_ = wait.at < rows.NEVER and wait.at or nil}
  local due = {wait.stoppable and "stop IS NOT NULL" or "FALSE"}
  for i, topic in ipairs(wait.topics) do
    params["topic" .. i] = topic
    due[#due + 1] = ("EXISTS(SELECT 1 FROM msg WHERE msg.flow = $id AND msg.topic = "
      .. "$topic%d AND msg.consumed IS NULL)"):format(i)
  end
  for i, child in ipairs(wait.children) do
    params["child" .. i] = child
    due[#due + 1] = ("EXISTS(SELECT 1 FROM flow c WHERE c.id = $child%d AND c.state IN "
      .. "%s)"):format(i, ENDED_LIST)
  end
  local topics = {}
  table.move(wait.topics, 1, #wait.topics, 1, topics)
  for _, child in ipairs(wait.children) do topics[#topics + 1] = "child:" .. child end
  params.topic = #topics > 0 and table.concat(topics, " ") or nil
  return {("UPDATE flow SET state = 'waiting', lease_owner = NULL, lease_until = NULL, "
    .. "attempts = 0, wait_topic = $topic, wait_since = $now, wait_until = $until_, "
    .. "updated_at = $now, available_at = CASE WHEN %s THEN $now ELSE $at END "
    .. "WHERE id = $id AND fence = $fence AND state = 'running' RETURNING available_at")
    :format(table.concat(due, " OR ")), params, expect = 1, code = "FENCE"}
end

-- ---------------------------------------------------------------- waking

local WAKE <const> = [[
UPDATE flow SET available_at = $now WHERE id = $id AND state = 'waiting'
AND wait_topic IS NOT NULL AND available_at > $now]]

--- Make a flow due that waits for a message or a child.
function rows.wake(id, now) return {WAKE, {id = id, now = now}} end

local WAKE_PARENT <const> = [[
UPDATE flow SET available_at = $now WHERE id = (SELECT parent FROM flow WHERE id = $id)
AND state = 'waiting' AND available_at > $now]]

--- The same for the parent of a flow that ends.
function rows.wake_parent(id, now) return {WAKE_PARENT, {id = id, now = now}} end

local MESSAGE <const> = [[
INSERT INTO msg(flow, n, topic, idem_key, payload, sent_at, actor)
SELECT id, (SELECT COALESCE(MAX(n), 0) + 1 FROM msg WHERE msg.flow = $flow), $topic,
  $idem_key, $payload, $now, $actor FROM flow WHERE id = $flow
ON CONFLICT DO NOTHING]]

--- A message to a flow; one with the same topic and key is there once.
function rows.message(message) return {MESSAGE, message} end

local CONSUME <const> = [[
UPDATE msg SET consumed = $seq WHERE flow = $id AND n = $n AND consumed IS NULL]]

--- The oldest message of a topic that no step has taken.
rows.NEXT_MESSAGE = "SELECT n, payload FROM msg WHERE flow = $id AND topic = $topic AND "
  .. "consumed IS NULL ORDER BY n LIMIT 1"

--- Take a message for a step. Another branch may be faster: code RACE.
function rows.consume(id, n, seq)
  return {CONSUME, {id = id, n = n, seq = seq}, expect = 1, code = "RACE"}
end

return rows
