--- Proving control of the names of one order (RFC 8555 7.5).
--
--     authorize.run(order, {solver = acme.http01{listen = "0.0.0.0:80"}})
--
-- All challenges are put in place before the first is answered, then the CA's verdicts are
-- waited for. A solver with a method wait(items) is waited for in between, until what it
-- presented can be seen by the CA. Whatever happens, what was presented is taken down. Running it again is safe:
-- authorizations that are valid are left, challenges under way are not answered twice.

local client = require "acme_client"
local core = require "acme.core"
local errors = require "errors"
local json = require "json"
local log = require "log"
local time = require "time"

local authorize = {}

--- One pass over the authorizations of an order.
local Pass = {}
Pass.__index = Pass

local function new_pass(order, options)
  return setmetatable({account = order.account, solver = options.solver, presented = {},
    resumed = options.resumed, step = options.on_step or function() end}, Pass)
end

--- Raise what the CA says of an authorization: the order can lead nowhere any more.
local function give_up(what, problem, fallback)
  local err = problem and core.explain{what = what, body = json.encode(problem),
    content_type = "application/problem+json"}
    or errors.new{kind = "protocol", message = what .. ": " .. fallback}
  err.final = true
  error(err, 0)
end

--- Take down what was presented, whatever happens; errors are only logged.
local function cleanup(pass)
  for _, item in ipairs(pass.presented) do
    local ok, err = pcall(pass.solver.cleanup, pass.solver, item.authorization,
      item.challenge)
    if not ok then
      log.warn(("clean-up of %s for %s: %s"):format(item.challenge.type,
        item.authorization:name(), tostring(err)))
    end
  end
  pass.presented = {}
end

--- The challenge that our solver can do.
function Pass:choose(authorization)
  local challenge = authorization:challenge(self.solver.type)
  if challenge then return challenge end
  local offered = {}
  for i, other in ipairs(authorization.challenges) do offered[i] = other.type end
  errors.raise("usage", ("%s: the CA offers no %s challenge, only %s"):format(
    authorization:name(), self.solver.type, table.concat(offered, ", ")))
end

--- A run that was killed may have left an answer behind: take it down with the others.
function Pass:note(authorization)
  local challenge = self.resumed and authorization:challenge(self.solver.type)
  if not challenge then return end
  self.presented[#self.presented + 1] =
    {authorization = authorization, challenge = challenge}
end

--- Put every pending challenge in place.
function Pass:present(authorizations)
  local open = {}
  for _, authorization in ipairs(authorizations) do
    local name = authorization:name()
    if authorization.status == "pending" then
      local challenge = self:choose(authorization)
      local item = {authorization = authorization, challenge = challenge}
      self.presented[#self.presented + 1] = item
      self.solver:present(authorization, challenge, challenge.key_authorization)
      open[#open + 1] = item
      self.step("presented", name)
    elseif authorization.status == "valid" then
      self:note(authorization)
    else
      give_up("authorization for " .. name, nil, "it is " .. authorization.status)
    end
  end
  return open
end

--- Tell the CA about one. A refusal of a challenge that is already under way is none.
function Pass:answer(item)
  local challenge = item.challenge
  if challenge.status == "pending" then
    local ok, err = pcall(challenge.answer, challenge)
    item.authorization.retry_after = challenge.retry_after
    if not ok then
      if client.is_transient(errors.object(err)) then error(err, 0) end
      local authorization = item.authorization:refresh()
      local now = authorization:challenge(challenge.type)
      if authorization.status == "pending" and (not now or now.status == "pending") then
        error(err, 0)
      end
    end
  end
  item.answered = time.mono()
  self.step("answered", item.authorization:name())
end

local function challenge_error(authorization, kind)
  local challenge = authorization:challenge(kind)
  if challenge and challenge.error then return challenge.error end
  for _, other in ipairs(authorization.challenges) do
    if other.error then return other.error end
  end
end

--- Wait until the CA has made up its mind about one.
function Pass:settle(item)
  local authorization = item.authorization
  local what = "authorization for " .. authorization:name()
  self.account.client:poll(authorization, function() return authorization:refresh() end,
    function() return authorization.status ~= "pending" end,
    {what = what, kind = "authorization", since = item.answered})
  if authorization.status ~= "valid" then
    give_up(what, challenge_error(authorization, item.challenge.type),
      "it is " .. authorization.status)
  end
  self.step("validated", authorization:name())
end

--- Present, answer, wait. Raises with `final` when the order can lead nowhere.
---@param order acme.Order pending
---@param options {solver: table, resumed: boolean?, on_step: function?}
function authorize.run(order, options)
  local pass = new_pass(order, options)
  local guard <close> = setmetatable({}, {__close = function() cleanup(pass) end})
  local open = pass:present(order:authorizations())
  if options.solver.wait and #open > 0 then
    options.solver:wait(open)
    pass.step("visible", order.url)
  end
  for _, item in ipairs(open) do pass:answer(item) end
  for _, item in ipairs(open) do pass:settle(item) end
end

--- Take down what a run that was killed may have left of an order that is further on.
---@param order acme.Order
---@param options {solver: table, resumed: boolean?}
function authorize.sweep(order, options)
  local pass = new_pass(order, options)
  for _, authorization in ipairs(order:authorizations()) do pass:note(authorization) end
  cleanup(pass)
end

return authorize
