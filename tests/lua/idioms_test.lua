-- The idioms Lua users know, around waits.
local task = require "task"

local V = {clock = "virtual"}

test("a generator over waits is an ordinary generator", V, function(t)
  local function numbers(n)
    return coroutine.wrap(function()
      for i = 1, n do
        task.sleep(1)
        coroutine.yield(i)
      end
    end)
  end
  local seen = {}
  for i in numbers(4) do seen[#seen + 1] = i end
  t:equal(seen, {1, 2, 3, 4})
end)

test("generators nest over waits", V, function(t)
  local function source()
    for i = 1, 3 do task.sleep(1) coroutine.yield(i) end
  end
  local function twice(gen)
    return coroutine.wrap(function()
      for i in gen do task.sleep(1) coroutine.yield(i * 2) end
    end)
  end
  local seen = {}
  for i in twice(twice(coroutine.wrap(source))) do seen[#seen + 1] = i end
  t:equal(seen, {4, 8, 12})
end)

test("resume passes waits through and values both ways", V, function(t)
  local co = coroutine.create(function(a)
    task.sleep(1)
    local b = coroutine.yield(a + 1)
    task.sleep(1)
    return b + 1
  end)
  t:equal({coroutine.resume(co, 1)}, {true, 2})
  t:equal(coroutine.status(co), "suspended")
  t:equal({coroutine.resume(co, 10)}, {true, 11})
  t:equal(coroutine.status(co), "dead")
  t:equal({coroutine.resume(co)}, {false, "cannot resume dead coroutine"})
end)

test("pcall and xpcall around waits keep values and errors", V, function(t)
  t:equal({pcall(function(...) task.sleep(1) return ... end, 1, nil, 3)},
    {true, 1, nil, 3})
  local ok, err = pcall(function() task.sleep(1) error({code = 7}) end)
  t:equal({ok, err}, {false, {code = 7}})
  t:equal({xpcall(function() task.sleep(1) error("x", 0) end, string.upper)},
    {false, "X"})
end)

test("metamethods may wait", V, function(t)
  local slow = setmetatable({}, {
    __index = function(_, k) task.sleep(1) return k .. "!" end,
    __add = function() task.sleep(1) return 42 end,
    __call = function(_, x) task.sleep(1) return x end,
    __eq = function() task.sleep(1) return true end,
    __lt = function() task.sleep(1) return true end,
    __concat = function() task.sleep(1) return "joined" end,
    __len = function() task.sleep(1) return 9 end,
  })
  t:equal(slow.name, "name!")
  t:equal(slow + 1, 42)
  t:equal(slow(5), 5)
  t:equal(slow == setmetatable({}, getmetatable(slow)), true)
  t:equal(slow < slow, true)
  t:equal(slow .. "x", "joined")
  t:equal(#slow, 9)
end)

test("iterators may wait", V, function(t)
  local n = 0
  local function slow(_, i) task.sleep(1) if i < 3 then return i + 1 end end
  for i in slow, nil, 0 do n = i end
  t:equal(n, 3)
end)

test("a for loop's closing value may wait", V, function(t)
  local closed = false
  local closer = setmetatable({}, {__close = function() task.sleep(1) closed = true end})
  for i in function(_, i) return (i or 0) + 1 end, nil, nil, closer do
    if i == 3 then break end
  end
  t:equal(closed, true)
end)

test("a module may wait while it loads", V, function(t)
  package.preload.slow_module = function(name)
    task.sleep(5)
    return {name = name}
  end
  t:defer(function()
    package.preload.slow_module = nil
    package.loaded.slow_module = nil
  end)
  t:equal(require("slow_module").name, "slow_module")
  t:equal(rawequal(require "slow_module", require "slow_module"), true)
end)

test("tasks that require a module which is being loaded wait for it", V, function(t)
  local loads = 0
  package.preload.shared_module = function()
    loads = loads + 1
    task.sleep(5)
    return {}
  end
  t:defer(function()
    package.preload.shared_module = nil
    package.loaded.shared_module = nil
  end)
  local values = task.each({1, 2, 3}, function() return require "shared_module" end)
  t:equal({loads, rawequal(values[1], values[2]), rawequal(values[2], values[3])},
    {1, true, true})
end)

test("a module that requires itself raises", V, function(t)
  package.preload.circle_module = function() return require "circle_module" end
  t:defer(function() package.preload.circle_module = nil end)
  t:raises(function() require "circle_module" end, nil, "requires itself")
end)

test("a module that failed to load can be tried again", V, function(t)
  local tries = 0
  package.preload.flaky_module = function()
    tries = tries + 1
    task.sleep(1)
    if tries == 1 then error("not yet") end
    return "loaded"
  end
  t:defer(function()
    package.preload.flaky_module = nil
    package.loaded.flaky_module = nil
  end)
  t:raises(function() require "flaky_module" end, nil, "not yet")
  t:equal(require "flaky_module", "loaded")
end)

test("a missing module names the places that were searched", function(t)
  t:raises(function() require "no.such.module" end, nil,
    "module 'no.such.module' not found")
end)

-- Where Lua cannot suspend, the error names what is in the way.
local function in_the_way(t, name, fn)
  local err = t:raises(fn, "usage", "cannot wait here")
  assert(tostring(err):find("through " .. name, 1, true), tostring(err))
end

test("waiting in a sort comparator names table.sort", V, function(t)
  in_the_way(t, "table.sort", function()
    table.sort({3, 2, 1}, function(a, b) task.sleep(1) return a < b end)
  end)
end)

test("waiting in a gsub callback names string.gsub", V, function(t)
  in_the_way(t, "string.gsub", function()
    string.gsub("abc", "b", function() task.sleep(1) end)
  end)
end)

test("waiting in __tostring names tostring", V, function(t)
  in_the_way(t, "tostring", function()
    tostring(setmetatable({}, {__tostring = function() task.sleep(1) return "x" end}))
  end)
end)

test("waiting in a load reader names load", V, function(t)
  local _, message = load(function() task.sleep(1) return nil end)
  assert(tostring(message):find("through load", 1, true), tostring(message))
  t:equal(type(message), "table")
end)

test("waiting in a coroutine inside a comparator names table.sort", V, function(t)
  in_the_way(t, "table.sort", function()
    table.sort({3, 2, 1}, function(a, b)
      return coroutine.wrap(function() task.sleep(1) return a < b end)()
    end)
  end)
end)

test("waiting in __close under coroutine.close names it", V, function(t)
  local co = coroutine.create(function()
    local guard <close> = setmetatable({}, {__close = function() task.sleep(1) end})
    coroutine.yield()
  end)
  coroutine.resume(co)
  local ok, err = coroutine.close(co)
  t:equal(ok, false)
  assert(tostring(err):find("coroutine.close", 1, true), tostring(err))
end)

test("a coroutine that waits in one task cannot be resumed by another", V, function(t)
  local co = coroutine.create(function() task.sleep(10) return "done" end)
  local g <close> = task.group()
  local owner = g:spawn(coroutine.resume, co)
  task.sleep(1)
  t:equal(coroutine.status(co), "normal")
  t:equal({coroutine.resume(co)}, {false, "cannot resume non-suspended coroutine"})
  t:raises(function() coroutine.close(co) end, nil, "cannot close a normal coroutine")
  t:equal({owner:join()}, {true, "done"})
end)

test("yield outside a coroutine fails as in stock Lua", function(t)
  t:raises(coroutine.yield, nil, "outside a coroutine")
  t:equal(coroutine.isyieldable(), false)
  t:equal(select(2, coroutine.running()), true)
end)

test("wrap passes errors on, with position, and closes variables", function(t)
  local closed = false
  local gen = coroutine.wrap(function()
    local guard <close> = setmetatable({}, {__close = function() closed = true end})
    error("inside", 0)
  end)
  t:raises(gen, nil, "inside")
  t:equal(closed, true)
end)

test("a dropped generator inside a timeout leaves no deadline behind", V, function(t)
  local gen = coroutine.wrap(function()
    task.timeout(5, function() coroutine.yield(1) end)
  end)
  t:equal(gen(), 1)
  gen = nil -- luacheck: ignore 311 (to be collected)
  collectgarbage()
  collectgarbage()
  task.sleep(100)
end)

test("deep recursion is an error, not a crash", function(t)
  local function deep() return 1 + deep() end
  t:raises(deep, nil, "stack overflow")
  local function nest(n) return coroutine.wrap(function() return nest(n + 1) end)() end
  t:raises(function() nest(1) end, nil, "overflow")
end)

test("bytecode is refused by every loader", function(t)
  local code = string.dump(function() return 1 end)
  local fn, message = load(code)
  t:equal(fn, nil)
  assert(message:find("attempt to load a binary chunk"), message)
  fn = load(code, "x", "b")
  t:equal(fn, nil)
  t:equal(load("return 1", "x", "b")(), 1)
end)
