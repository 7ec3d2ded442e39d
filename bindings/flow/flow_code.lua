--- Flow bodies: where they are, what belongs to one, and its text pinned by SHA-256.
--
--     local bundle = code.read("renew", {"/usr/share/secrun/scripts/flows"})
--     bundle.hash, bundle.text          -- what the table `code` keeps
--
-- A body is a file NAME.lua with a `description` and `function run(f, input)`. The modules
-- of its own folder that it requires by a literal name, and theirs, travel with it, so a
-- flow that has begun never sees a later edit. Built-in modules are the program's.

local errors = require "errors"
local args = require "args"
local fs = require "fs"
local head = require "head"
local json = require "json"
local value = require "flow_value"

local code = {}

local MAX = 1024 * 1024 -- of one file
local MAX_FILES = 64

local function path_of(name, folders)
  for _, folder in ipairs(folders) do
    local path = folder .. "/" .. name .. ".lua"
    if fs.exists(path) then return path, folder end
  end
end

--- The names of every flow body in the folders, sorted.
---@param folders string[]
---@return string[]
function code.names(folders)
  local seen, list = {}, {}
  for _, folder in ipairs(folders) do
    for _, file in ipairs(fs.exists(folder) and fs.list(folder) or {}) do
      local name = file:match "^([%w_-]+)%.lua$"
      local text = name and not seen[name] and try(fs.read, folder .. "/" .. file)
      if text and head.parse(text).description then
        seen[name] = true
        list[#list + 1] = name
      end
    end
  end
  table.sort(list)
  return list
end

local function unknown(name, folders)
  local names = code.names(folders)
  local close = args.suggest(name, names)
  errors.raise("not_found", ("there is no flow %q in %s%s"):format(name,
    #folders > 0 and table.concat(folders, ", ") or "any folder",
    close and ("; did you mean %s?"):format(close)
      or #names > 0 and "; there are: " .. table.concat(names, ", ") or ""),
    {code = "FLOW_UNKNOWN"})
end

--- The names a text requires literally.
local function required(text)
  local names = {}
  for name in text:gmatch "require%s*%(?%s*[\"']([%w_.-]+)[\"']" do
    names[#names + 1] = name
  end
  return names
end

local function read_file(path)
  local text = fs.read(path, {max = MAX})
  fs.check_owner(path)
  local chunk, message = load(text, "@" .. path, "t", {})
  if not chunk then
    errors.raise("usage", ("the flow cannot start: %s"):format(message),
      {code = "FLOW_SYNTAX"})
  end
  return text
end

--- Modules of the folder, by name, that the text requires, directly or through others.
local function collect(text, folder, modules, count)
  for _, name in ipairs(required(text)) do
    local path = folder .. "/" .. name:gsub("%.", "/") .. ".lua"
    if not modules[name] and fs.exists(path) then
      if count[1] >= MAX_FILES then
        errors.raise("limit", ("a flow has at most %d modules of its own; %s is one more")
          :format(MAX_FILES, path))
      end
      count[1] = count[1] + 1
      modules[name] = read_file(path)
      collect(modules[name], folder, modules, count)
    end
  end
  return modules
end

--- Read a flow's body with what belongs to it. Raises not_found (FLOW_UNKNOWN, with a
--- suggestion) or usage (FLOW_SYNTAX, FLOW_BODY).
---@param name string
---@param folders string[]
---@return {hash: string, text: string, path: string, description: string}
function code.read(name, folders)
  if type(name) ~= "string" or not name:find "^[%w_-]+$" then
    errors.raise("usage", ("a flow's name has letters, digits, _ and - only, got %s")
      :format(tostring(name)), {code = "FLOW_UNKNOWN"})
  end
  local path, folder = path_of(name, folders)
  if not path then unknown(name, folders) end
  local text = read_file(path)
  local found = head.parse(text)
  local lines = "\n" .. text
  if not lines:find "\n%s*function%s+run%s*%(" and not lines:find "\n%s*run%s*=" then
    errors.raise("usage", ("%s: a flow needs `function run(f, input)`"):format(path),
      {code = "FLOW_BODY"})
  end
  if not found.description then
    errors.raise("usage", ("%s: a flow begins with `description = \"…\"`"):format(path),
      {code = "FLOW_BODY"})
  end
  local bundle = json.encode{name = name, text = text,
    modules = collect(text, folder, {}, {0})}
  return {hash = value.hash(bundle), text = bundle, path = path,
    description = found.description}
end

return code
