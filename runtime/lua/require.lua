--- require, in Lua, so that a module may wait while it loads.
--
-- Order: what is loaded, built-ins (package.preload), then package.searchers as in stock
-- Lua. A module that is being loaded by another task is waited for by nobody: requiring it
-- again raises, as a loop of requires does.

local loaded, preload = package.loaded, package.preload
local LOADING = {}

loaded.load = preload.load()
local load_file = loaded.load.file

--- In place of the stock searcher: asks for permission outside the script's folder, and as
--- root refuses what others can write.
package.searchers[2] = function(name)
  local path, tried = package.searchpath(name, package.path)
  if not path then return tried end
  local loader, message = load_file(path)
  if loader then return loader, path end
  error(("error loading module '%s' from file '%s':\n\t%s"):format(
    name, path, message), 0)
end

local function search(name)
  if preload[name] then return preload[name], ":preload:" end
  local tried = {}
  for _, searcher in ipairs(package.searchers) do
    local loader, extra = searcher(name)
    if type(loader) == "function" then return loader, extra end
    if type(loader) == "string" then tried[#tried + 1] = loader end
  end
  local text = "\n\t" .. table.concat(tried, "\n\t")
  error(("module '%s' not found:%s"):format(name, text), 3)
end

--- Load a module once and return its value and the loader's data.
function _G.require(name)
  if type(name) ~= "string" then
    error("bad argument #1 to 'require' (string expected, got " .. type(name) .. ")", 2)
  end
  local value = loaded[name]
  if value ~= nil and value ~= LOADING then return value end
  if value == LOADING then
    error(("module '%s' requires itself, by way of others, while it loads"):format(name),
      2)
  end
  local loader, extra = search(name)
  loaded[name] = LOADING
  local function give_up(err)
    if loaded[name] == LOADING then loaded[name] = nil end
    return err
  end
  local guard <close> = setmetatable({}, {__close = function(_, err)
    if err ~= nil then give_up(err) end
  end})
  value = loader(name, extra)
  if value ~= nil then loaded[name] = value end
  if loaded[name] == LOADING then loaded[name] = true end
  return loaded[name], extra
end
