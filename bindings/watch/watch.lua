--- Looking at every certificate of an estate, and raising or resolving what is wrong.
--
--     local watch = require "watch"
--     local found = watch.look(db, e)       -- e from estate.load
--     for _, one in ipairs(found) do print(one.name, one.state, one.alert) end
--
-- Four kinds of alert, the subject is the certificate's name:
--
--     expiry         it ends soon (alert_rules); info only when its renewal is in trouble
--     renewal-late   its renewal was due and is not in service; expiry follows from it
--     broken         what is installed is no pair of certificate and key, or not for its names
--     missing        there is no certificate; worse after a day
--
-- What the installed files say counts, not what a renewal reported.

local alert = require "alert"
local deploy = require "deploy"
local estate = require "estate"
local flow = require "flow"
local rules = require "alert_rules"
local task = require "task"
local text = require "alert_text"
local time = require "time"

local watch = {}

local DAY = 86400
local KINDS = {"expiry", "renewal-late", "broken", "missing"}

------------------------------------------------------------------ what was tried

local WORDS = {ok = "it ended well", failed = "it failed", dead = "it was given up",
  cancelled = "it was cancelled", ready = "it is under way", running = "it is under way",
  waiting = "it is under way"}
local TROUBLED = {failed = true, dead = true, cancelled = true}

--- The last renewal of a certificate, as details of an alert; whether it is in trouble; its
--- flow.
local function last_renewal(db, certificate)
  local last = flow.list(db, {prefix = "renew/" .. certificate.name .. "/", limit = 1})[1]
  if not last then return {}, false, nil end
  local why = flow.why(db, last.id)
  local at = why.step and (" at step %q, attempt %d"):format(why.step.name,
    why.step.attempts or 1) or ""
  local details = {tried = ("renewal: %s%s"):format(WORDS[last.state], at),
    tried_at = last.updated, error = why.error and why.error.message}
  return details, TROUBLED[last.state] == true, last.id
end

local function details_of(db, certificate, leaf)
  local details, troubled, flow_id = last_renewal(db, certificate)
  details.names = certificate.domains
  details.installed = certificate.install.dir
  if leaf then
    details.not_after = leaf.not_after
    details.due = estate.due_at(certificate, leaf.not_before, leaf.not_after)
  end
  details.next = {"secrun renew " .. certificate.name}
  if flow_id then table.insert(details.next, 1, "secrun flow why " .. flow_id) end
  return details, troubled
end

------------------------------------------------------------------ judging

--- What is wrong with an installed pair, beside its age; nil when it is good.
local function broken(certificate, installed)
  if installed.broken then
    return "the certificate cannot be read: " .. installed.broken
  end
  if installed.key_broken then
    return "the key cannot be read: " .. installed.key_broken
  end
  if not installed.matches then return "the key does not belong to the certificate" end
  for _, name in ipairs(certificate.domains) do
    if not installed.leaf:covers(name) then
      return ("the installed certificate is not for %s"):format(name)
    end
  end
end

local function ends(leaf, now)
  local word = leaf.not_after <= now and "expired " or "expires "
  return word .. text.when(leaf.not_after, now)
end

--- The alerts that an installed leaf deserves, by kind.
local function by_age(certificate, leaf, now, troubled)
  local c = {not_before = leaf.not_before, not_after = leaf.not_after, now = now,
    due = estate.due_at(certificate, leaf.not_before, leaf.not_after)}
  local late = rules.late(c)
  c.healthy = not late and not troubled
  local found = {}
  if late then
    found["renewal-late"] = {severity = late, message =
      ("the renewal is late: due %s, the certificate %s"):format(
        text.when(c.due, now), ends(leaf, now))}
  end
  local expiry = rules.expiry(c)
  if expiry then
    found.expiry = {severity = expiry, message = ends(leaf, now),
      cause = late and "renewal-late/" .. certificate.name or nil}
  end
  return found, late and "late" or c.due <= now and "due" or "fine"
end

--- Missing is worth a word at once, and more of one after a day.
local function missing(db, certificate, now)
  local row = alert.get("missing", certificate.name, db)
  local long = row and row.state == "firing" and now - row.starts_at >= DAY
  return {missing = {severity = long and "warning" or "info",
    message = "there is no certificate in " .. certificate.install.dir}}
end

--- What is found about one certificate: alerts by kind, leaf, a word for the table.
local function judge(db, certificate, now)
  local installed, err = try(deploy.current, certificate.install.dir)
  if err then
    return {broken = {severity = "warning", message = "cannot be looked at: "
      .. err.message}}, nil, "unreadable"
  end
  if not installed then return missing(db, certificate, now), nil, "missing" end
  local details, troubled = details_of(db, certificate, installed.leaf)
  local found, state, wrong = {}, "fine", broken(certificate, installed)
  if installed.leaf then
    found, state = by_age(certificate, installed.leaf, now, troubled)
  end
  if wrong then
    found.broken, state = {severity = "critical", message = wrong}, "broken"
  end
  return found, installed.leaf, state, details
end

------------------------------------------------------------------ raising

local function resolve(db, firing, kind, name, message, details)
  if not firing[kind .. "/" .. name] then return end
  alert.resolve{store = db, kind = kind, subject = name, message = message,
    details = details}
end

--- The worst of what was found, as severity and kind.
local function worst(found)
  local kind
  for one, event in pairs(found) do
    local rank = rules.RANK[event.severity]
    local best = kind and rules.RANK[found[kind].severity] or 0
    if rank > best or rank == best and kind == "expiry" then kind = one end
  end
  return kind and found[kind].severity, kind
end

local function look_at(db, certificate, firing, now)
  local found, leaf, state, details = judge(db, certificate, now)
  details = details or details_of(db, certificate, leaf)
  for _, kind in ipairs(KINDS) do
    local event = found[kind]
    if event then
      alert.raise{store = db, kind = kind, subject = certificate.name,
        severity = event.severity, org = certificate.org, owner = certificate.owner,
        message = event.message, details = details, cause = event.cause,
        deadline = leaf and leaf.not_after or nil}
    else
      resolve(db, firing, kind, certificate.name, leaf and ends(leaf, now)
        or "there is a certificate", details)
    end
  end
  local severity, kind = worst(found)
  return {name = certificate.name, state = state, severity = severity, kind = kind,
    message = kind and found[kind].message or nil, not_after = leaf and leaf.not_after,
    due = details.due}
end

--- Ids of the alerts of ours that fire.
local function firing_of(db)
  local ours, firing = {}, {}
  for _, kind in ipairs(KINDS) do ours[kind] = true end
  for _, row in ipairs(alert.list{store = db, state = "firing"}) do
    if ours[row.kind] then firing[row.id] = row end
  end
  return firing
end

--- A certificate that the estate has no more is nobody's alert.
local function resolve_gone(db, e, firing)
  local known = {}
  for _, certificate in ipairs(e.certificates) do known[certificate.name] = true end
  for _, row in pairs(firing) do
    if not known[row.subject] then
      resolve(db, firing, row.kind, row.subject, "it is in the estate file no more")
    end
  end
end

--- Look at the certificates of an estate, all or those given, and raise and resolve.
---@param db store.Db
---@param e table from estate.load
---@param certificates table[]? of the estate
---@return {name: string, state: string, severity: string?, kind: string?, message: string?,
---  not_after: number?, due: number?}[] found state: fine, due, late, broken, missing,
---  unreadable
function watch.look(db, e, certificates)
  local now, firing = time.now(), firing_of(db)
  local results = task.each(certificates or e.certificates,
    {limit = 16, stop_on_error = true},
    function(certificate) return look_at(db, certificate, firing, now) end)
  if not certificates then resolve_gone(db, e, firing) end
  return results
end

return watch
