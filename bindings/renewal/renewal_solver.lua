--- The solver that a renewal uses: by the settings of its challenge, opened once.
--
--     local solver = renewal_solver.open(input.challenge)
--
-- References to secrets are resolved here and not before. Flows that run at once in one
-- state share a solver, and with it what it knows of zones; after ten minutes a new one is
-- made, so that a long-lived process sees new keys and servers.

local acme = require "acme"
local dcv = require "dcv"
local estate = require "estate"
local json = require "json"
local time = require "time"

local renewal_solver = {}

local KEPT = 600 -- seconds

local open = {} -- {solver=, at=} by the settings as text

--- The settings with secrets in the place of references to them.
local function resolved(value)
  if estate.is_reference(value) then return estate.secret(value) end
  if type(value) ~= "table" then return value end
  local copy = {}
  for name, item in pairs(value) do copy[name] = resolved(item) end
  return copy
end

--- The solver of these settings: `challenge` of an estate file. Raises usage, not_found and
--- what a driver raises.
---@param settings table
---@return table solver
function renewal_solver.open(settings)
  if not settings.dns then return acme.http01(settings) end
  local id = json.encode(settings)
  local kept = open[id]
  if not kept or time.mono() - kept.at > KEPT then
    kept = {solver = dcv.solver(resolved(settings)), at = time.mono()}
    open[id] = kept
  end
  return kept.solver
end

return renewal_solver
