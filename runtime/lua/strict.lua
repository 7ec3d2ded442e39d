--- Globals that must exist: reading one that was never set raises and suggests a name.
--
--     local env = require("strict").env()
--     local chunk = assert(load(text, "=policy", "t", env))

local args = require "args"
local errors = require "errors"

local strict = {}

local function names(...)
  local list = {}
  for _, scope in ipairs {...} do
    for name in next, scope do
      if type(name) == "string" then list[#list + 1] = name end
    end
  end
  table.sort(list)
  return list
end

--- A fresh environment over the stock globals; what is set in it stays in it. Reading an
--- undefined global raises "usage"; `rawget(env, name)` asks without raising.
---@param preset table<string, any>? globals it starts with
---@return table
function strict.env(preset)
  local env = {}
  for name, value in pairs(preset or {}) do env[name] = value end
  return setmetatable(env, {__index = function(_, name)
    local value = _G[name]
    if value ~= nil then return value end
    local close = type(name) == "string" and args.suggest(name, names(env, _G))
    errors.raise("usage", ("undefined global %s%s"):format(tostring(name),
      close and "; did you mean " .. close .. "?" or ""), {code = "UNDEFINED_GLOBAL"})
  end})
end

return strict
