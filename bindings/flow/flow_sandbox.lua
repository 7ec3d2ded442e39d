--- What a flow body sees in its VM: the same world in every run of it.
--
-- `pairs` and `next` go through keys in order; the clock and chance raise and name f:now
-- and f:random; `require` finds the modules pinned with the flow, then built-ins except
-- those that would go past the flow (store, flow, vm …). The libraries themselves are as
-- everywhere: inside a step they may ask for the time.
--
-- A flow that parks is left by an error no pcall may keep: pcall, xpcall, try and the
-- coroutine functions of the whole VM are wrapped to pass it on, before anything else is
-- loaded. `<close>` values are closed on the way.

local errors = require "errors"
local json = require "json"
local strict = require "strict"

local sandbox = {}

--- The error that leaves a flow body. One for all flows of the VM; why is in the run.
sandbox.LEAVE = errors.new{kind = "cancelled", code = "FLOW_LEAVES",
  message = "the flow is left here and goes on later"}
local LEAVE <const> = sandbox.LEAVE

-- ---------------------------------------------------------------- protected calls

sandbox.pcall, sandbox.xpcall, sandbox.try = pcall, xpcall, try -- which catch it
local raw_pcall <const>, raw_xpcall <const>, raw_try <const> = pcall, xpcall, try

local function passed(ok, ...)
  if not ok and rawequal((...), LEAVE) then error(LEAVE, 0) end
  return ok, ...
end

local function tried(...)
  if rawequal((select(2, ...)), LEAVE) and (...) == nil then error(LEAVE, 0) end
  return ...
end

--- Once a VM.
function sandbox.install()
  local resume <const> = coroutine.resume
  _G.pcall = function(...) return passed(raw_pcall(...)) end
  _G.xpcall = function(fn, handler, ...)
    return passed(raw_xpcall(fn, function(err)
      if rawequal(err, LEAVE) then return err end
      return handler(err)
    end, ...))
  end
  _G.try = function(...) return tried(raw_try(...)) end
  _G.coroutine.resume = function(...) return passed(resume(...)) end
end

-- ---------------------------------------------------------------- order

local RANK = {number = 1, string = 2, boolean = 3}

local function before(a, b)
  local x, y = RANK[type(a)], RANK[type(b)]
  if x ~= y then return x < y end
  if x == 3 then return not a and b end
  return a < b
end

local function sorted_keys(t)
  local keys = {}
  for key in next, t do
    if not RANK[type(key)] then
      errors.raise("usage", ("in a flow, pairs goes through numbers, texts and booleans; "
        .. "a %s as key has no order"):format(type(key)), {code = "FLOW_ORDER"})
    end
    keys[#keys + 1] = key
  end
  table.sort(keys, before)
  return keys
end

local function sorted_pairs(t)
  local meta = getmetatable(t)
  if type(meta) == "table" and meta.__pairs then return meta.__pairs(t) end
  local keys, i = sorted_keys(t), 0
  return function()
    repeat
      i = i + 1
      if keys[i] == nil then return nil end
    until rawget(t, keys[i]) ~= nil
    return keys[i], t[keys[i]]
  end, t, nil
end

local function sorted_next(t, key)
  local keys = sorted_keys(t)
  if key == nil then return keys[1], t[keys[1]] end
  for i, each in ipairs(keys) do
    if each == key then return keys[i + 1], t[keys[i + 1]] end
  end
  error("next: the key is not in the table", 2)
end

-- ---------------------------------------------------------------- what is not there

local function instead(name, use)
  return function()
    errors.raise("usage", ("%s is not the same in every run of a flow: %s"):format(name,
      use), {code = "FLOW_ORDER"})
  end
end

local NOW <const> = "use f:now(), which is recorded"
local CHANCE <const> = "use f:random(), which is recorded"
local STEP <const> = "do it inside a step, by the modules process and fs"

local function absent(library)
  return setmetatable({}, {__index = function(_, name)
    return instead(library .. "." .. tostring(name), STEP)
  end})
end

local function replaced(library, functions)
  local copy = {}
  for name, fn in next, library do copy[name] = functions[name] or fn end
  return copy
end

local function forbid(library, names, use)
  local functions = {}
  for _, name in ipairs(names) do
    functions[name] = instead(library .. "." .. name, use)
  end
  return functions
end

local function os_library()
  local functions = forbid("os", {"time", "date", "clock"}, NOW)
  for name, fn in next, forbid("os", {"execute", "exit", "getenv", "remove", "rename",
      "setlocale", "tmpname"}, STEP) do functions[name] = fn end
  return replaced(os, functions)
end

local HIDDEN <const> = {store = true, flow = true, vm = true, event = true, test = true,
  repl = true, cli = true, schedule = true}

--- Modules that go past the flow, or belong to the program.
local function is_hidden(name)
  return HIDDEN[name] or name:find "^flow_" or name:find "^store_"
    or name:find "%.core$" or name == "load"
end

local function module_of(name)
  if name == "time" then
    return replaced(require "time", forbid("time", {"now", "mono", "cpu", "virtual",
      "advance", "real"}, NOW))
  end
  return require(name)
end

-- ---------------------------------------------------------------- the environment

local function requirer(bundle, env)
  local loaded = {}
  return function(name)
    if loaded[name] ~= nil then return loaded[name] end
    local text = bundle.modules[name]
    if text then
      local chunk, message = load(text, ("@flows/%s.lua"):format(name), "t", env)
      if not chunk then error(message, 0) end
      loaded[name] = chunk(name)
      if loaded[name] == nil then loaded[name] = true end
      return loaded[name]
    end
    if type(name) ~= "string" or is_hidden(name) then
      errors.raise("denied", ("a flow cannot require %q; it has its own methods: f:step, "
        .. "f:sleep, f:wait, f:signal, f:child …"):format(tostring(name)),
        {code = "FLOW_MODULE"})
    end
    if not package.preload[name] and not package.loaded[name] then
      errors.raise("not_found", ("module %q is neither built in nor pinned with the "
        .. "flow; require it by a literal name, from the flow's own folder"):format(name),
        {code = "FLOW_MODULE"})
    end
    return module_of(name)
  end
end

local raw_secret <const> = secret

--- `secret` of a VM, for bodies and the modules they use: only the sources its org was given.
local function secrets_of(org, allowed)
  local known = {}
  for _, source in ipairs(type(allowed) == "table" and allowed or {}) do
    known[json.encode(source)] = true
  end
  return function(source)
    if type(source) == "table" and source["$secret"] then source = source["$secret"] end
    if allowed ~= true and not known[json.encode(source)] then
      errors.raise("denied", ("the flows of org %q may not read the secret %s"):format(
        org, type(source) == "string" and source:match "^%a+:" and source or "asked for"),
        {code = "FLOW_SECRET"})
    end
    return raw_secret(source)
  end
end

--- Let everything in this VM read only these secrets.
---@param org string
---@param allowed table|boolean|nil sources; true: any
function sandbox.allow_secrets(org, allowed) _G.secret = secrets_of(org, allowed) end

--- The environment of one body: strict globals with replacements.
---@param bundle {name: string, text: string, modules: table<string, string>}
function sandbox.env(bundle)
  local env = strict.env{
    pairs = sorted_pairs, next = sorted_next, os = os_library(),
    math = replaced(math, forbid("math", {"random", "randomseed"}, CHANCE)),
    secret = secret}
  for _, name in ipairs{"io", "debug", "package"} do env[name] = absent(name) end
  for _, name in ipairs{"dofile", "loadfile", "collectgarbage"} do
    env[name] = instead(name, STEP)
  end
  env._G = env
  env.require = requirer(bundle, env)
  env.load = function(text, name, _, own) return load(text, name, "t", own or env) end
  return env
end

--- The function `run` of a body. Raises usage when it has none or does not load.
function sandbox.body(bundle)
  local env = sandbox.env(bundle)
  local chunk, message = load(bundle.text, ("@flows/%s.lua"):format(bundle.name), "t",
    env)
  if not chunk then errors.raise("usage", message, {code = "FLOW_SYNTAX"}) end
  chunk(bundle.name)
  local run = rawget(env, "run")
  if type(run) ~= "function" then
    errors.raise("usage", ("flows/%s.lua: a flow needs `function run(f, input)`"):format(
      bundle.name), {code = "FLOW_BODY"})
  end
  return run
end

return sandbox
