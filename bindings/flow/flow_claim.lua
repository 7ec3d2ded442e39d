--- Claims: which flows a worker takes, several in one hop, within their budgets.
--
-- A flow is due when it is ready or waits and its time has come, or when it runs and its
-- lease is over. Taking it raises its fence. A budget bounds a scope ("ca:…", "org:…",
-- "account:…"): flows running at a time, and flows begun per period (a bucket of tokens).
-- Budgets are read and spent in the claim's own transaction, so two workers cannot spend
-- the same. A scope without room takes none of the places; where room is short, flows are
-- ranked within each scope, and what the rank leaves out comes with the next claim.
--
-- The text of a claim is SQLite's; on PostgreSQL the candidates are locked besides.

local claim = {}

--- Due for a worker: $due is the present, or earlier for one that only stands by.
local DUE <const> = [[
((f.state IN ('ready', 'waiting') AND f.available_at <= $due)
 OR (f.state = 'running' AND f.lease_until < $now AND f.lease_owner <> $owner))]]

local SET <const> = [[
UPDATE flow SET state = 'running', lease_owner = $owner, lease_until = $until,
  fence = fence + 1, attempts = attempts + 1, claim = $claim, updated_at = $now,
  started_at = COALESCE(started_at, $now), wait_topic = NULL, wait_since = NULL,
  wait_until = NULL
WHERE id IN (%s)
RETURNING id, name, code, org, ca, account, priority, input, fence, attempts,
  max_attempts, stop, deadline, parent, error]]

local PLAIN <const> = SET:format([[
SELECT f.id FROM flow f WHERE ]] .. DUE .. [[

  AND NOT EXISTS (SELECT 1 FROM budget)
  ORDER BY f.priority, f.available_at, f.id LIMIT $n]])

--- The bucket fills with time; a clock that went back neither fills nor empties it. It is
--- written only when something is taken out.
local TOKENS <const> = [[
CASE WHEN refilled_at >= $now THEN tokens
  WHEN tokens + (($now - refilled_at) * 1.0 * rate_max) / rate_period_ms > rate_max
    THEN rate_max
  ELSE tokens + (($now - refilled_at) * 1.0 * rate_max) / rate_period_ms END]]

local BUDGETED <const> = SET:format([[
WITH room AS (
  SELECT b.scope,
    CASE WHEN b.max_running IS NULL THEN 1000000 ELSE b.max_running - (
      SELECT COUNT(*) FROM flow r WHERE r.state = 'running'
        AND (r.lease_until >= $now OR r.lease_owner = $owner)
        AND b.scope IN ('org:' || r.org, 'ca:' || r.ca, 'account:' || r.account))
    END AS places,
    CASE WHEN rate_max IS NULL THEN 1000000 ELSE CAST(]] .. TOKENS .. [[ AS INTEGER)
    END AS tokens
  FROM budget b),
due AS (
  SELECT f.id, f.org, f.ca, f.account, f.priority, f.available_at,
    CASE WHEN f.started_at IS NULL THEN 1 ELSE 0 END AS fresh
  FROM flow f WHERE ]] .. DUE .. [[

    AND NOT EXISTS (SELECT 1 FROM room WHERE
      room.scope IN ('org:' || f.org, 'ca:' || f.ca, 'account:' || f.account)
      AND (room.places < 1 OR (f.started_at IS NULL AND room.tokens < 1)))
  ORDER BY f.priority, f.available_at, f.id LIMIT 1000),
ranked AS (
  SELECT d.*,
    ROW_NUMBER() OVER o AS org_place, SUM(fresh) OVER o AS org_token,
    ROW_NUMBER() OVER c AS ca_place, SUM(fresh) OVER c AS ca_token,
    ROW_NUMBER() OVER a AS account_place, SUM(fresh) OVER a AS account_token
  FROM due d
  WINDOW o AS (PARTITION BY org ORDER BY priority, available_at, id),
    c AS (PARTITION BY ca ORDER BY priority, available_at, id),
    a AS (PARTITION BY account ORDER BY priority, available_at, id))
SELECT r.id FROM ranked r
  LEFT JOIN room o ON o.scope = 'org:' || r.org
  LEFT JOIN room c ON c.scope = 'ca:' || r.ca
  LEFT JOIN room a ON a.scope = 'account:' || r.account
WHERE (o.scope IS NULL OR (r.org_place <= o.places
    AND (r.fresh = 0 OR r.org_token <= o.tokens)))
  AND (c.scope IS NULL OR (r.ca_place <= c.places
    AND (r.fresh = 0 OR r.ca_token <= c.tokens)))
  AND (a.scope IS NULL OR (r.account_place <= a.places
    AND (r.fresh = 0 OR r.account_token <= a.tokens)))
ORDER BY r.priority, r.available_at, r.id LIMIT $n]])

local SPEND <const> = [[
UPDATE budget SET refilled_at = $now, tokens = ]] .. TOKENS .. [[ - (
  SELECT COUNT(*) FROM flow f WHERE f.claim = $claim AND f.lease_owner = $owner
    AND f.started_at = $now AND f.state = 'running'
    AND budget.scope IN ('org:' || f.org, 'ca:' || f.ca, 'account:' || f.account))
WHERE rate_max IS NOT NULL]]

--- Whether any budget is set; a claim asks for itself again.
claim.BUDGETS = "SELECT 1 AS found FROM budget LIMIT 1"

--- The statements of a claim; the first returns the flows.
---@param who {owner: string, now: integer, due: integer, lease: integer, n: integer,
---  claim: integer}
---@param budgets boolean
function claim.statements(who, budgets)
  local take = {owner = who.owner, now = who.now, due = who.due,
    ["until"] = who.now + who.lease, n = who.n, claim = who.claim}
  if not budgets then return {{PLAIN, take}} end
  return {{BUDGETED, take},
    {SPEND, {now = who.now, claim = who.claim, owner = who.owner}, when = 1}}
end

--- Whether there is anything to claim, asked of a snapshot: the writer is left alone.
claim.ANY = "SELECT 1 AS found FROM flow f WHERE " .. DUE .. " LIMIT 1"

--- When the next flow will be due, by its own time or by the end of a lease.
claim.NEXT = [[
SELECT MIN(at) AS at FROM (
  SELECT MIN(available_at) AS at FROM flow WHERE state IN ('ready', 'waiting')
    AND available_at > $due
  UNION ALL
  SELECT MIN(lease_until) AS at FROM flow WHERE state = 'running'
    AND lease_owner <> $owner) t]]

--- Leases of this machine that belong to nobody any more: whoever holds the worker lock is
--- the only one that works. $host ends with the colon of the owner's text, $process is the
--- owner of this process.
claim.VOID = [[
UPDATE flow SET state = 'ready', lease_owner = NULL, lease_until = NULL,
  available_at = $now, updated_at = $now
WHERE state = 'running' AND SUBSTR(lease_owner, 1, LENGTH($host)) = $host
  AND SUBSTR(lease_owner, 1, LENGTH($process)) <> $process
RETURNING id]]

--- Renew every lease of this worker and name the flows it still has.
claim.RENEW = [[
UPDATE flow SET lease_until = $until WHERE state = 'running' AND lease_owner = $owner
RETURNING id, fence]]

--- Who works, for people and other workers to see.
claim.NODE = [[
INSERT INTO node(id, boot_id, version, seen_at) VALUES($id, $boot, $version, $now)
ON CONFLICT(id) DO UPDATE SET seen_at = excluded.seen_at]]

return claim
