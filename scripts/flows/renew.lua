description = "Renew one certificate: policies, key, order, proof, certificate, install."

local errors = require "errors"
local renewal_scm = require "renewal_scm"
local steps = require "renewal_steps"

--- An order whose names are all proven. One that lapsed meanwhile is replaced once.
local function proven_order(f, input, spki)
  for round = 1, 2 do
    local record = f:step("order", function()
      return steps.place_order(f.id, input, spki, round)
    end, {retry = input.retry, args = {round = round}, on_unknown = "retry",
      reconcile = function() return steps.find_order(f.id, input, spki) end})
    local proof = f:step("authorize", function()
      return steps.authorize(input, record, f.attempt > 1)
    end, {retry = input.retry})
    if not proof.lapsed then return record end
    if round == 2 then errors.raise("protocol", proof.lapsed) end
    f:log("order %s lapsed and is replaced: %s", record.url, proof.lapsed)
  end
end

--- The certificate by ACME: order, proof, finalize, download.
local function by_acme(f, input, spki)
  local record = proven_order(f, input, spki)
  f:step("finalize", function() return steps.finalize(input, record) end,
    {retry = input.retry})
  return f:step("collect", function()
    return steps.collect(f.id, input, record, spki)
  end, {retry = input.retry})
end

--- The certificate by SCM: one request, then people and the CA decide.
local function by_scm(f, input, spki)
  local csr = f:step("csr", function() return steps.csr(f.id, input, spki) end)
  local enrolled = f:step("enroll", function(key)
    return renewal_scm.enroll(input, csr, key)
  end, {retry = input.retry, on_unknown = "fail", reconcile = function(key, _, intent)
    local found = renewal_scm.find(input, csr, key, intent.started_at)
    return found ~= nil, found
  end})
  return f:step("collect", function()
    return steps.collect_scm(f.id, input, enrolled, spki)
  end, {retry = input.retry})
end

function run(f, input)
  local found = f:step("look", function() return steps.look(input) end)
  if found.fine then return found end

  f:step("policy", function() return steps.ask_policies(input) end)
  local spki = f:step("key", function() return steps.prepare_key(f.id, input) end)
  local issued = (input.channel == "scm" and by_scm or by_acme)(f, input, spki)
  f:step("install", function() return steps.install(f.id, input, issued, spki) end,
    {on_unknown = "retry", reconcile = function()
      return steps.installed_already(input, issued)
    end})
  f:step("clean up", function() steps.clean_up(f.id, input) end)

  return {why = found.why, serial = issued.serial, sha256 = issued.sha256,
    not_before = issued.not_before, not_after = issued.not_after}
end
