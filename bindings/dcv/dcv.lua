--- Domain control validation: proving that a domain is ours.
--
--     local solver = dcv.solver{dns = {driver = "rfc2136", server = "192.0.2.53",
--       key_file = "/etc/secrun/tsig.key"}}
--     account:issue{names = {"*.example.com"}, solver = solver, …}

local dns01 = require "dns01"

local dcv = {}

--- A solver for dns-01; see dns01.new for the options.
---@param options table
---@return dcv.Dns01
function dcv.solver(options) return dns01.new(options) end

--- Check the options of a solver, as an estate file has them, without opening anything.
--- Raises usage.
---@param options table
function dcv.check(options) dns01.check(options) end

return dcv
