--- Decisions: what a request may do, by rules that people read.
--
--     local policy = require "policy"
--     local decision = policy.ask({"keys", "names"}, request, {folder = estate.folder})
--     policy.enforce(decision, "www")
--
-- A policy is a file with a global `check(r)` that returns allow(), deny(…) or
-- need_approval(…), and a head `applies = {"enroll", "renew"}`. It runs in a cage: no I/O,
-- its own state, bounded time and memory. The most restrictive answer wins, and says which
-- rule at which line decided.

local cage = require "cage"
local errors = require "errors"
local fs = require "fs"
local shipped = require "shipped"

local policy = {}

local SEVERITY = {allow = 0, warn = 1, need_approval = 2, deny = 3}

--- The file of a policy: a path (relative to `folder`) when it has a slash, else the
--- shipped policy of that name.
local function file_of(name, folder)
  if name:find("/", 1, true) then
    return name:sub(1, 1) == "/" and name or (folder or ".") .. "/" .. name
  end
  return shipped.folder("policies") .. "/" .. name .. ".lua"
end

local function load(name, folder)
  local path = file_of(name, folder)
  local text, err = try(function()
    local rules = fs.read(path, {max = 1024 * 1024})
    fs.check_owner(path)
    return rules
  end)
  if not text then
    local shipped_name = not name:find("/", 1, true) and err.kind == "not_found"
    errors.raise("usage", ("policy %q cannot be asked: %s%s"):format(name, err.message,
      shipped_name and "; a file of your own is written with a slash, \"./" .. name
        .. ".lua\"" or ""), {code = "ESTATE", cause = err})
  end
  return cage.new{text = text, name = path, what = "policy"}
end

local function applies(head, action)
  if head == nil then return true end
  for _, name in ipairs(head) do
    if name == action then return true end
  end
  return false
end

local function answer_of(name, rules, request)
  if not applies(rules:get("applies"), request.action) then return nil end
  local absent = try(function() return rules:get("check") == nil end)
  if absent then
    errors.raise("usage", ("policy %q has no function check(r)"):format(name),
      {code = "ESTATE"})
  end
  local answer = rules:call("check", request)
  if type(answer) ~= "table" or not SEVERITY[answer.verdict] then
    errors.raise("usage", ("policy %q: check(r) must return allow(), deny(…), warn(…) or "
      .. "need_approval(…), got %s"):format(name, type(answer)), {code = "POLICY"})
  end
  answer.policy = name
  return answer
end

--- Ask the policies about a request.
---@param names string[] policies, by name or path
---@param request {action: string, name: string, names: string[], key_type: string}
---@param options {folder: string?}?
---@return table decision {verdict, reason, rule = "file:line", policy, answers}
function policy.ask(names, request, options)
  local decision = {verdict = "allow", answers = {}}
  for _, name in ipairs(names) do
    local rules <close> = load(name, options and options.folder)
    local answer = answer_of(name, rules, request)
    if answer then
      table.insert(decision.answers, answer)
      if SEVERITY[answer.verdict] > SEVERITY[decision.verdict] then
        decision.verdict, decision.reason = answer.verdict, answer.reason
        decision.rule, decision.policy = answer.rule, answer.policy
      end
    end
  end
  return decision
end

--- Whether the decision lets the request through.
---@return boolean
function policy.passes(decision)
  return SEVERITY[decision.verdict] < SEVERITY.need_approval
end

--- Raise denied (code POLICY, exit status 3) unless the decision allows.
function policy.enforce(decision, subject)
  if policy.passes(decision) then return decision end
  local what = decision.verdict == "deny" and "refuses" or "wants an approval for"
  errors.raise("denied", ("policy %s %s %s: %s (%s)"):format(decision.policy, what,
    subject, decision.reason or "no reason given", decision.rule or "no line"),
    {code = "POLICY", rule = decision.rule, verdict = decision.verdict})
end

return policy
