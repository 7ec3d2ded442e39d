--- require, in Lua, so that a module may wait while it loads.
--
-- Order: what is loaded, built-ins (package.preload), then package.searchers as in stock
-- Lua. A module that another task is loading is waited for; a loop of requires raises.

local loaded, preload = package.loaded, package.preload
local LOADING = {}
local loader_of = {} -- the task that loads a module
local STEP_SECONDS, MOST_SECONDS = 0.005, 60

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

--- The task that runs, or false outside of tasks.
local function running()
  local core = loaded["task.core"]
  local ok, task = pcall(core and core.self or error)
  return ok and task
end

--- Another task is loading the module: wait for its end; nil when it failed. A module that
--- waits for itself, in one task or by way of several, never ends; that raises.
local function await(name)
  local owner, waited = loader_of[name], 0
  while loaded[name] == LOADING do
    if owner == running() or not owner or waited > MOST_SECONDS then
      error(("module '%s' requires itself, by way of others, while it loads"):format(
        name), 3)
    end
    loaded["task.core"].sleep(STEP_SECONDS)
    waited = waited + STEP_SECONDS
  end
  return loaded[name]
end

--- Load a module once and return its value and the loader's data.
function _G.require(name)
  if type(name) ~= "string" then
    error("bad argument #1 to 'require' (string expected, got " .. type(name) .. ")", 2)
  end
  local value = loaded[name]
  if value ~= nil and value ~= LOADING then return value end
  if value == LOADING then
    value = await(name)
    if value ~= nil then return value end
  end
  local loader, extra = search(name)
  loaded[name], loader_of[name] = LOADING, running()
  local function give_up(err)
    if loaded[name] == LOADING then loaded[name] = nil end
    return err
  end
  local guard <close> = setmetatable({}, {__close = function(_, err)
    loader_of[name] = nil
    if err ~= nil then give_up(err) end
  end})
  value = loader(name, extra)
  if value ~= nil then loaded[name] = value end
  if loaded[name] == LOADING then loaded[name] = true end
  return loaded[name], extra
end
