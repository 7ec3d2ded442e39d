--- Drivers: plug-ins that are Lua files in a folder of their kind on the script path.
--
--     local rfc2136 = driver.load("dns", "rfc2136")     -- scripts/dns/rfc2136.lua
--     local provider = driver.open("dns", {driver = "rfc2136", server = "192.0.2.53"})
--
-- A driver file returns {description =, options = {…}, new = function(options)}. Its
-- options are checked here, as every function's; what new returns is the kind's affair.

local args = require "args"
local cli_core = require "cli.core"
local errors = require "errors"
local load_ = require "load"
local scripts = require "scripts"
local strict = require "strict"

local driver = {}

---@class Driver
---@field name string
---@field path string
---@field description string
---@field options table[] as args.check takes them
---@field new fun(options: table): any

--- The names of the drivers of a kind, sorted.
---@param kind string "dns", "deploy"
---@return string[]
function driver.list(kind)
  local seen, names = {}, {}
  for _, folder in ipairs(scripts.folders()) do
    for _, entry in ipairs(cli_core.scan(folder .. "/" .. kind) or {}) do
      local name = entry.name:match "^([%w_-]+)%.lua$"
      if name and not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
  end
  table.sort(names)
  return names
end

--- The file of a driver: by name on the script path, or an absolute path as it is.
local function find(kind, name)
  if name:find "^/" then return name end
  for _, folder in ipairs(scripts.folders()) do
    local path = ("%s/%s/%s.lua"):format(folder, kind, name)
    if name:find "^[%w_-]+$" and load_.readable(path) then return path end
  end
  local known = driver.list(kind)
  local close = args.suggest(name, known)
  errors.raise("usage", ("there is no %s driver %q%s; known are %s, or give the absolute "
    .. "path of a file"):format(kind, name, close and (", did you mean %s?"):format(close)
      or "", #known > 0 and table.concat(known, ", ") or "none"), {code = "NO_DRIVER"})
end

local function wrong(path, what)
  errors.raise("usage", ("%s is no driver: %s"):format(path, what),
    {code = "BAD_DRIVER"})
end

--- Read a driver. Raises usage (no such driver, or the file is none), denied.
---@param kind string
---@param name string
---@return Driver
function driver.load(kind, name)
  local path = find(kind, name)
  local chunk, why = load_.file(path, strict.env())
  if not chunk then wrong(path, why) end
  local made = chunk()
  if type(made) ~= "table" then
    wrong(path, "it returns no table {description =, options =, new =}")
  end
  if type(made.description) ~= "string" then wrong(path, "description is missing") end
  if type(made.options) ~= "table" then wrong(path, "options, a list, is missing") end
  if type(made.new) ~= "function" then wrong(path, "new, a function, is missing") end
  return {name = name:match "([^/]+)%.lua$" or name, path = path, options = made.options,
    description = made.description, new = made.new}
end

--- Load the driver that settings.driver names and check the other settings.
--- Raises usage.
---@param kind string
---@param settings {driver: string}
---@return Driver
---@return table settings without the name
function driver.check(kind, settings)
  if type(settings) ~= "table" or type(settings.driver) ~= "string" then
    errors.raise("usage", ("%s: driver must name one of: %s"):format(kind,
      table.concat(driver.list(kind), ", ")), {code = "NO_DRIVER"})
  end
  local loaded, given = driver.load(kind, settings.driver), {}
  for key, value in pairs(settings) do
    if key ~= "driver" then given[key] = value end
  end
  return loaded, args.check(kind .. " driver " .. loaded.name, loaded.options, given)
end

--- Load the driver that settings.driver names and give it the other settings, checked.
--- Raises usage and what the driver raises.
---@param kind string
---@param settings {driver: string}
---@return any
function driver.open(kind, settings)
  local loaded, given = driver.check(kind, settings)
  return loaded.new(given)
end

return driver
