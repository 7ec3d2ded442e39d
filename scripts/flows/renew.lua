description = "Renew one certificate: policies, key, order, proof, certificate, install."

local errors = require "errors"
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

function run(f, input)
  local found = f:step("look", function() return steps.look(input) end)
  if found.fine then return found end

  f:step("policy", function() return steps.ask_policies(input) end)
  local spki = f:step("key", function() return steps.prepare_key(f.id, input) end)
  local record = proven_order(f, input, spki)
  f:step("finalize", function() return steps.finalize(input, record) end,
    {retry = input.retry})
  local issued = f:step("collect", function()
    return steps.collect(f.id, input, record, spki)
  end, {retry = input.retry})
  f:step("install", function() return steps.install(f.id, input, issued, spki) end,
    {on_unknown = "retry", reconcile = function()
      return steps.installed_already(input, issued)
    end})
  f:step("clean up", function() steps.clean_up(f.id, input) end)

  return {why = found.why, serial = issued.serial, sha256 = issued.sha256,
    not_before = issued.not_before, not_after = issued.not_after}
end
