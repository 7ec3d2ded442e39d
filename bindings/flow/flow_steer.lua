--- See and steer flows: get, list, why, signal, retry, cancel, fork, budgets.
--
-- Each needs the store only, so a command works whether or not a worker runs; the worker
-- sees the commit. Times are UTC seconds here.

local args = require "args"
local digest = require "digest"
local errors = require "errors"
local rows = require "flow_rows"
local time = require "time"
local value = require "flow_value"

local steer = {}

local function now_ms() return math.floor(time.now() * 1000) end

local function seconds(ms)
  if ms == nil or ms >= rows.NEVER then return nil end
  return ms / 1000
end

local COLUMNS <const> = "id, name, code, org, ca, account, priority, state, input, "
  .. "output, error, actor, available_at, wait_topic, wait_since, wait_until, "
  .. "lease_owner, lease_until, attempts, max_attempts, dedup, parent, deadline, stop, "
  .. "created_at, updated_at, started_at, finished_at"

local function shown(row)
  return {id = row.id, name = row.name, code = row.code, org = row.org ~= "" and row.org
      or nil, ca = row.ca ~= "" and row.ca or nil,
    account = row.account ~= "" and row.account or nil, priority = row.priority,
    state = row.state, input = value.decode(row.input), output = value.decode(row.output),
    error = row.error and value.decode_error(row.error), actor = value.decode(row.actor),
    due = seconds(row.available_at), topic = row.wait_topic,
    since = seconds(row.wait_since or row.updated_at),
    ["until"] = seconds(row.wait_until),
    owner = row.lease_owner, lease_until = seconds(row.lease_until),
    attempts = row.attempts, max_attempts = row.max_attempts, dedup = row.dedup,
    parent = row.parent, deadline = seconds(row.deadline),
    stop = value.decode(row.stop), created = seconds(row.created_at),
    updated = seconds(row.updated_at), started = seconds(row.started_at),
    finished = seconds(row.finished_at)}
end

--- Numbers compared as numbers: "2" before "10", "7.2.1" before "7.10.1".
local function seq_before(a, b)
  local x, y = {}, {}
  for n in a:gmatch "%d+" do x[#x + 1] = math.tointeger(n) end
  for n in b:gmatch "%d+" do y[#y + 1] = math.tointeger(n) end
  if (a:sub(1, 1) == "c") ~= (b:sub(1, 1) == "c") then return b:sub(1, 1) == "c" end
  for i = 1, math.min(#x, #y) do
    if x[i] ~= y[i] then return x[i] < y[i] end
  end
  return #x < #y
end

local function steps_of(db, id)
  local list = {}
  for _, row in ipairs(db:rows("SELECT * FROM step WHERE flow = $id", {id = id})) do
    list[#list + 1] = {seq = row.seq, name = row.name, kind = row.kind,
      args = value.decode(row.args), status = row.status, key = row.idem_key,
      result = value.decode(row.result), attempts = row.attempts,
      error = row.error and row.error ~= '"timeout"' and value.decode_error(row.error)
        or nil, ["until"] = seconds(row["until"]), started = seconds(row.started_at),
      ended = seconds(row.ended_at)}
  end
  table.sort(list, function(a, b) return seq_before(a.seq, b.seq) end)
  return list
end

local function find(db, id)
  return db:row("SELECT " .. COLUMNS .. " FROM flow WHERE id = $id", {id = id})
end

local function must_find(db, id)
  local row = type(id) == "string" and find(db, id)
  if row then return row end
  local near = db:rows("SELECT id FROM flow ORDER BY created_at DESC LIMIT 500")
  local ids = {}
  for i, each in ipairs(near) do ids[i] = each.id end
  local close = args.suggest(tostring(id), ids)
  errors.raise("not_found", ("there is no flow %s%s"):format(tostring(id),
    close and "; did you mean " .. close .. "?" or ""), {code = "FLOW_ID"})
end

--- A flow with its steps, or nil.
---@param id string
---@return table?
function steer.get(db, id)
  local row = find(db, id)
  if not row then return nil end
  local found = shown(row)
  found.steps = steps_of(db, id)
  found.messages = {}
  for i, msg in ipairs(db:rows("SELECT topic, payload, sent_at, consumed FROM msg "
      .. "WHERE flow = $id ORDER BY n", {id = id})) do
    found.messages[i] = {topic = msg.topic, payload = value.decode(msg.payload),
      sent = seconds(msg.sent_at), step = msg.consumed}
  end
  return found
end

local FILTER <const> = {
  {name = "state", type = "enum",
    choices = "ready|running|waiting|ok|failed|cancelled|dead"},
  {name = "unfinished", type = "boolean", doc = "ready, running and waiting ones"},
  {name = "name", type = "string"}, {name = "org", type = "string"},
  {name = "parent", type = "string"},
  {name = "prefix", type = "string", doc = "of the id"},
  {name = "limit", type = "integer", positive = true, doc = "1000"},
}

--- Flows, the newest first, without their steps.
---@param filter {state: string?, unfinished: boolean?, name: string?, org: string?,
---  parent: string?, prefix: string?, limit: integer?}?
---@return table[]
function steer.list(db, filter)
  filter = args.check("flow.list", FILTER, filter)
  local where, params = {"TRUE"}, {limit = filter.limit or 1000}
  for _, column in ipairs{"state", "name", "org", "parent"} do
    if filter[column] then
      where[#where + 1] = ("%s = $%s"):format(column, column)
      params[column] = filter[column]
    end
  end
  if filter.unfinished then
    where[#where + 1] = "state IN ('ready', 'running', 'waiting')"
  end
  if filter.prefix then
    where[#where + 1] = "SUBSTR(id, 1, LENGTH($prefix)) = $prefix"
    params.prefix = filter.prefix
  end
  local list = {}
  for i, row in ipairs(db:rows(("SELECT %s FROM flow WHERE %s ORDER BY created_at DESC, "
      .. "id LIMIT $limit"):format(COLUMNS, table.concat(where, " AND ")), params)) do
    list[i] = shown(row)
  end
  return list
end

-- ---------------------------------------------------------------- why

local function waits_for(row, steps, open)
  if row.stop then return "its clean-ups" end
  if open and open.kind == "sleep" then return "a time" end
  if open and open.status == "retry" then
    return ("attempt %d of step %q"):format(open.attempts + 1, open.name)
  end
  if open and open.kind == "step" then
    return row.wait_topic and ("an answer about step %q"):format(open.name)
      or ("step %q, which is not ready yet"):format(open.name)
  end
  if row.wait_topic and row.wait_topic:find "^child:" then
    return "the child flow " .. row.wait_topic:sub(7)
  end
  if row.wait_topic then return "the message " .. row.wait_topic end
  return #steps == 0 and "its beginning" or "a worker"
end

local ANSWER <const> = "secrun flow signal %s %s '{\"happened\": true}' (or false)"

local function wakes(row, found)
  local ways = {}
  if row.wait_topic and row.wait_topic:find "^ask:" then
    ways[1] = ANSWER:format(row.id, row.wait_topic)
  elseif row.wait_topic and row.wait_topic:find "^child:" then
    ways[1] = ("the end of %s"):format(row.wait_topic:sub(7))
  elseif row.wait_topic then
    ways[1] = ("secrun flow signal %s %s"):format(row.id, row.wait_topic)
  end
  if found.due and row.state == "waiting" then
    ways[#ways + 1] = "the time " .. time.rfc3339(found.due)
  end
  if row.state == "ready" or (found.due and found.due <= time.now()) then
    ways[#ways + 1] = "a worker (secrun serve, or secrun renew) that has a place for it"
  end
  return ways
end

local STATE_TEXT <const> = {ok = "has ended well", failed = "has failed",
  cancelled = "was cancelled", dead = "is dead and will not go on by itself",
  running = "is running"}

--- What a flow waits for, since when, until when, and what would wake it.
---@return {id: string, state: string, text: string, waits_for: string?, since: number?,
---  until: number?, wakes: string[], step: table?, error: table?, owner: string?}
function steer.why(db, id)
  local row = must_find(db, id)
  local found, steps, open = shown(row), steps_of(db, id), nil
  for _, step in ipairs(steps) do
    if step.status ~= "ok" and step.status ~= "err" then open = open or step end
  end
  local why = {id = id, name = row.name, state = row.state, since = found.since,
    ["until"] = found["until"], step = open, owner = found.owner, wakes = {},
    error = found.error or open and open.error}
  if STATE_TEXT[row.state] then
    why.text = ("flow %s %s since %s"):format(id, STATE_TEXT[row.state],
      time.rfc3339(found.finished or found.updated))
    if row.state == "running" then
      why.text = ("%s, by %s"):format(why.text, row.lease_owner)
    elseif row.state == "failed" or row.state == "dead" then
      why.wakes[1] = ("secrun flow retry %s"):format(id)
    end
  else
    why.waits_for = waits_for(row, steps, open)
    why.wakes = wakes(row, found)
    why.text = ("flow %s waits for %s since %s%s"):format(id, why.waits_for,
      time.rfc3339(found.since), found["until"] and ", until "
        .. time.rfc3339(found["until"]) or "")
  end
  if why.error then why.text = why.text .. ": " .. why.error.message end
  return why
end

-- ---------------------------------------------------------------- steering

local SIGNAL <const> = {{name = "key", type = "string", nonempty = true,
  doc = "the same key on the same topic is one message"},
  {name = "actor", type = "table"}}

--- Send a message to a flow. It is kept until the flow waits for its topic.
---@return boolean new false when a message with this key is there already
function steer.signal(db, id, topic, payload, options)
  options = args.check("flow.signal", SIGNAL, options)
  local row = must_find(db, id)
  if type(topic) ~= "string" or not topic:find "^[%w_.:/@-]+$" then
    errors.raise("usage", ("flow.signal: a topic has letters, digits and _.:/@- only, "
      .. "got %s"):format(tostring(topic)), {code = "BAD_ARGUMENT"})
  end
  if rows.ENDED[row.state] then
    errors.raise("conflict", ("flow %s has ended (%s); nobody would read the message")
      :format(id, row.state), {code = "FLOW_ENDED"})
  end
  local body = value.encode(payload, ("the payload of %q"):format(topic)) or "null"
  local now = now_ms()
  local results = db:batch{rows.message{flow = id, topic = topic, payload = body,
    now = now, idem_key = options.key or digest.hex(digest.random(12)),
    actor = value.encode(options.actor or {}, "flow.signal: actor")}, rows.wake(id, now)}
  return results[1].changes > 0
end

--- The steps whose errors ended the flow.
local function failed_steps(db, row)
  local err = row.error and value.decode_error(row.error) or {}
  if err.steps then return err.steps end
  if err.step then return {err.step} end
  if row.state ~= "failed" then return {} end
  local last = db:row("SELECT seq FROM step WHERE flow = $id AND status = 'err' AND kind "
    .. "<> 'branch' ORDER BY ended_at DESC LIMIT 1", {id = row.id})
  return last and {last.seq} or {}
end

--- Have a failed step done again: its row goes, and those of the branches it lies in.
local function forget(batch, id, seq)
  batch[#batch + 1] = {"DELETE FROM step WHERE flow = $id AND seq = $seq AND status = "
    .. "'err'", {id = id, seq = seq}}
  local branch = seq:match "^(.*)%.%d+$"
  while branch do
    batch[#batch + 1] = {"DELETE FROM step WHERE flow = $id AND seq = $seq AND kind = "
      .. "'branch'", {id = id, seq = branch}}
    branch = branch:match "^(.*)%.%d+$"
  end
end

--- Let a flow that failed or is dead go on where it stopped: the step that
--- failed is done again. One that waits is made due.
---@return table flow
function steer.retry(db, id)
  local row = must_find(db, id)
  if row.state == "ok" or row.state == "running" then
    errors.raise("conflict", ("flow %s %s; there is nothing to retry"):format(id,
      STATE_TEXT[row.state]), {code = "FLOW_STATE"})
  end
  if row.state == "cancelled" then
    errors.raise("conflict", ("flow %s was cancelled and its clean-ups have run; start a "
      .. "new one, or: secrun flow fork %s"):format(id, id), {code = "FLOW_STATE"})
  end
  local now = now_ms()
  local batch = {{"UPDATE flow SET state = 'ready', available_at = $now, attempts = 0, "
    .. "error = NULL, finished_at = NULL, updated_at = $now, deadline = CASE WHEN "
    .. "deadline <= $now THEN NULL ELSE deadline END WHERE id = $id AND state = $state",
    {id = id, now = now, state = row.state}, expect = 1, code = "FLOW_STATE"}}
  for _, seq in ipairs(failed_steps(db, row)) do forget(batch, id, seq) end
  db:batch(batch)
  return steer.get(db, id)
end

local CANCEL <const> = {{name = "reason", type = "string"},
  {name = "actor", type = "table"}}

local FAMILY <const> = [[
WITH RECURSIVE family(id) AS (SELECT id FROM flow WHERE id = $id
  UNION SELECT f.id FROM flow f JOIN family p ON f.parent = p.id) ]]

--- Cancel a flow and its children. One that never began is cancelled at once; any other
--- runs its clean-ups first, when a worker comes to it. A failed or dead one, too.
---@return table flow
function steer.cancel(db, id, options)
  options = args.check("flow.cancel", CANCEL, options)
  local row = must_find(db, id)
  if row.state == "ok" or row.state == "cancelled" then
    errors.raise("conflict", ("flow %s %s"):format(id, STATE_TEXT[row.state]),
      {code = "FLOW_STATE"})
  end
  local now = now_ms()
  local stop = value.encode({kind = "cancel", at = now, reason = options.reason,
    actor = options.actor}, "flow.cancel")
  local err = value.encode_error(errors.new{kind = "cancelled", code = "FLOW_CANCELLED",
    message = options.reason and "cancelled: " .. options.reason or "cancelled"})
  db:batch{
    {FAMILY .. "UPDATE flow SET state = 'cancelled', stop = $stop, error = $error, "
      .. "finished_at = $now, updated_at = $now WHERE id IN (SELECT id FROM family) AND "
      .. "started_at IS NULL AND state IN ('ready', 'waiting')",
      {id = id, now = now, stop = stop, error = err}},
    {FAMILY .. "UPDATE flow SET stop = COALESCE(stop, $stop), updated_at = $now, "
      .. "available_at = CASE WHEN state = 'running' THEN available_at ELSE $now END, "
      .. "attempts = CASE WHEN state = 'dead' THEN 0 ELSE attempts END, state = CASE "
      .. "WHEN state IN ('failed', 'dead') THEN 'ready' ELSE state END "
      .. "WHERE id IN (SELECT id FROM family) AND (state IN ('ready', 'waiting', "
      .. "'running') OR (id = $id AND state IN ('failed', 'dead')))",
      {id = id, now = now, stop = stop}},
    rows.wake_parent(id, now)}
  return steer.get(db, id)
end

local FORK <const> = {{name = "from", type = "any", required = true,
  doc = "sequence number or name of the first step to do again"},
  {name = "id", type = "string", nonempty = true}}

local function fork_point(steps, from, id)
  for _, step in ipairs(steps) do
    if step.seq == tostring(from) or step.name == from then
      return math.tointeger(step.seq:match "^%d+")
    end
  end
  local names = {}
  for i, step in ipairs(steps) do names[i] = step.name end
  local close = type(from) == "string" and args.suggest(from, names)
  errors.raise("not_found", ("flow %s has no step %s%s"):format(id, tostring(from),
    close and "; did you mean " .. close .. "?" or ""), {code = "FLOW_STEP"})
end

--- A new flow with the same source and input that has done everything before a step.
---@param options {from: string|integer, id: string?}
---@return {id: string}
function steer.fork(db, id, options)
  options = args.check("flow.fork", FORK, options)
  local row = must_find(db, id)
  local steps = steps_of(db, id)
  local from = fork_point(steps, options.from, id)
  local new, now = options.id or ("%s+%s"):format(id, digest.hex(digest.random(3))),
    now_ms()
  local batch = {{"INSERT INTO flow(id, name, code, org, ca, account, priority, state, "
    .. "input, actor, available_at, max_attempts, forked_from, created_at, updated_at) "
    .. "SELECT $new, name, code, org, ca, account, priority, 'ready', input, actor, "
    .. "$now, max_attempts, id, $now, $now FROM flow WHERE id = $id ON CONFLICT DO "
    .. "NOTHING",
    {id = id, new = new, now = now}, expect = 1, code = "FLOW_INPUT"}}
  for _, step in ipairs(steps) do
    local top = math.tointeger(step.seq:match "^%d+")
    if top and top < from then
      batch[#batch + 1] = {"INSERT INTO step(flow, seq, name, kind, args, args_sha, "
        .. "status, idem_key, result, error, attempts, until, fence, started_at, "
        .. "ended_at) SELECT $new, seq, name, kind, args, args_sha, status, idem_key, "
        .. "result, error, attempts, until, 0, started_at, ended_at FROM step WHERE flow "
        .. "= $id AND seq = $seq", {id = id, new = new, seq = step.seq}}
    end
  end
  db:batch(batch)
  return {id = new, from = from, copied = #batch - 1, name = row.name}
end

local BUDGET <const> = {
  {name = "max_running", type = "integer", positive = true, doc = "flows at a time"},
  {name = "rate", type = "integer", positive = true, doc = "flows begun a period"},
  {name = "period", type = "duration", doc = "of the rate; 1 m"},
}

--- Set the budget of a scope "ca:NAME", "org:NAME" or "account:NAME"; nil removes it.
---@param limits {max_running: integer?, rate: integer?, period: number|string?}?
function steer.budget(db, scope, limits)
  if type(scope) ~= "string" or not (scope:find "^ca:." or scope:find "^org:."
    or scope:find "^account:.") then
    errors.raise("usage", ("flow.budget: a scope is ca:NAME, org:NAME or account:NAME, "
      .. "got %s"):format(tostring(scope)), {code = "BAD_ARGUMENT"})
  end
  if limits == nil then
    db:exec("DELETE FROM budget WHERE scope = $scope", {scope = scope})
    return
  end
  limits = args.check("flow.budget", BUDGET, limits)
  db:exec("INSERT INTO budget(scope, max_running, rate_max, rate_period_ms, tokens, "
    .. "refilled_at) VALUES($scope, $running, $rate, $period, $rate, $now) ON "
    .. "CONFLICT(scope) DO UPDATE SET max_running = excluded.max_running, rate_max = "
    .. "excluded.rate_max, rate_period_ms = excluded.rate_period_ms, tokens = CASE WHEN "
    .. "budget.tokens < excluded.tokens THEN budget.tokens ELSE excluded.tokens END",
    {scope = scope, running = limits.max_running, rate = limits.rate,
      period = limits.rate and math.floor(args.duration(limits.period or 60) * 1000),
      now = now_ms()})
end

--- Replay a flow against newer source: see flow_migrate.
function steer.migrate(db, id, options)
  return require("flow_migrate").run(db, must_find(db, id), options)
end

return steer
