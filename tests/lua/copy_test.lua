--- Plain values between states: what passes, what is refused and where.

local cage = require "cage"

local function through(value)
  return cage.run{text = "function f(x) return x end", call = "f", args = {value, n = 1}}
end

test("plain values pass unchanged", function(t)
  for _, value in ipairs{1, 1.5, -0.0, 2^53, math.mininteger, "", "a\0b\255", true, false,
    {}, {1, 2, 3}, {a = {b = {c = {}}}}, {[1.5] = "f", [true] = 1, [-1] = 2}} do
    t:equal(through(value), value)
  end
  t:equal(through(nil), nil)
end)

test("integers stay integers and floats stay floats", function(t)
  t:equal(math.type(through(3)), "integer")
  t:equal(math.type(through(3.0)), "float")
  t:equal(math.type(next(through{[3] = 1})), "integer")
end)

test("json.null passes as itself", function()
  local json = require "json"
  assert(through(json.null) == json.null)
  assert(through{json.null}[1] == json.null)
end)

test("metatables are dropped", function()
  local value = setmetatable({1}, {__index = {secret = 1}, __len = print})
  local copy = through(value)
  assert(getmetatable(copy) == nil and copy.secret == nil and #copy == 1)
end)

test("a table used twice becomes two", function(t)
  local shared = {1}
  local copy = through{a = shared, b = shared}
  t:equal(copy, {a = {1}, b = {1}})
  assert(copy.a ~= copy.b)
end)

test("what is no plain value is refused with its path", function(t)
  local function refused(value, pattern)
    t:raises(function() through(value) end, "usage", pattern)
  end
  refused(print, "argument 1: a function is no plain value")
  refused({orgs = {{name = "a"}, {check = print}}}, "at %.orgs%[2%]%.check: a function")
  refused({["odd key"] = {coroutine.create(print)}}, 'at %["odd key"%]%[1%]: a coroutine')
  refused({f = io.stdout}, "at %.f: an object")
  refused({[{}] = 1}, "a key that is neither")
  refused({[true] = {[print] = 1}}, "at %[true%]: a key that is neither")
end)

test("a secret does not enter a cage", function(t)
  local s = secret{exec = {"printf", "canary-copy-secret"}}
  local err = t:raises(function() through{password = s} end, "usage", "at %.password")
  assert(not tostring(err):find("canary"))
end)

test("cycles are refused, sixty-four levels pass, one more does not", function(t)
  local cycle = {}
  cycle.a = {b = cycle}
  t:raises(function() through(cycle) end, "usage", "at %.a%.b: it contains itself")
  local deep = {}
  for _ = 2, 64 do deep = {deep} end
  t:equal(through(deep), deep)
  t:raises(function() through{deep} end, "limit", "deeper than 64")
end)

test("a value larger than the cage is refused", function(t)
  t:raises(function() through(("x"):rep(300000)) end, "limit", "not enough memory")
  local list = {}
  for i = 1, 500000 do list[i] = i * 1.5 end
  t:raises(function() through(list) end, "limit", "not enough memory")
end)
