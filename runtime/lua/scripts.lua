--- Where named scripts are: the shipped ones, then the folders of $SECRUN_SCRIPTS.
--
--     local path = require("scripts").find("renew")
--     for _, script in ipairs(require("scripts").list()) do print(script.name) end
--
-- A name never means a file of the working directory.

local core = require "cli.core"
local head = require "head"
local load_ = require "load"
local shipped = require "shipped"

local scripts = {}

--- The folders, in the order they are searched.
---@return string[]
function scripts.folders()
  local list = {shipped.folder "scripts"}
  local more = not scripts.no_env and core.getenv "SECRUN_SCRIPTS" or ""
  for folder in more:gmatch "[^:]+" do
    if folder:sub(1, 1) == "/" then list[#list + 1] = folder end
  end
  return list
end

--- The path of the script of that name, or nil.
---@param name string
---@return string?
function scripts.find(name)
  if not name:find "^[%w_-]+$" then return nil end
  for _, folder in ipairs(scripts.folders()) do
    local path = folder .. "/" .. name .. ".lua"
    if load_.readable(path) then return path end
  end
end

--- Every named script, by name: {name=, path=, description=}.
---@return {name: string, path: string, description: string}[]
function scripts.list()
  local seen, list = {}, {}
  for _, folder in ipairs(scripts.folders()) do
    for _, entry in ipairs(core.scan(folder) or {}) do
      local name = entry.name:match "^([%w_-]+)%.lua$"
      local found = name and not seen[name] and head.read(folder .. "/" .. entry.name)
      if found and found.description then
        seen[name] = true
        list[#list + 1] = {name = name, path = folder .. "/" .. entry.name,
          description = found.description}
      end
    end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

return scripts
