-- JSON: round trips, exactness, refusals with their paths.
local json = require "json"

test("values survive a round trip", function(t)
  local value = {
    text = "ü \"quoted\" \\ \n / \u{1F600}", yes = true, no = false, zero = 0, neg = -17,
    half = 0.5, tiny = 5e-324, large = 1e300, list = {1, 2, {3}}, nested = {a = {b = {}}},
  }
  t:equal(json.decode(json.encode(value)), value)
end)

test("members come in the byte order of their keys", function(t)
  t:equal(json.encode{b = 1, a = 2, B = 3, aa = 4, [""] = 5},
    '{"":5,"B":3,"a":2,"aa":4,"b":1}')
end)

test("an empty table is an object, a marked one an array", function(t)
  t:equal(json.encode{}, "{}")
  t:equal(json.encode(json.array{}), "[]")
  t:equal(json.encode(json.array()), "[]")
  t:equal(json.encode{list = json.array{1}}, '{"list":[1]}')
end)

test("a decoded empty array stays an array", function(t)
  local text = '{"a":[],"b":{},"c":[[]]}'
  t:equal(json.encode(json.decode(text)), text)
end)

test("null keeps its key and its place", function(t)
  local value = json.decode '{"a":null,"b":[null,1]}'
  t:equal(value.a == json.null, true)
  t:equal(#value.b, 2)
  t:equal(json.encode(value), '{"a":null,"b":[null,1]}')
end)

test("integers are integers and exact to 64 bits when written", function(t)
  t:equal(math.type(json.decode "7"), "integer")
  t:equal(math.type(json.decode "7.25"), "float")
  t:equal(json.decode "-9007199254740992", -9007199254740992)
  t:equal(json.encode(math.maxinteger), "9223372036854775807")
  t:equal(json.encode(math.mininteger), "-9223372036854775808")
  t:equal(json.encode(1.0), "1")
end)

test("floats are written shortest and survive", function(t)
  t:equal(json.encode(0.1), "0.1")
  t:equal(json.encode(1 / 3), "0.3333333333333333")
  local odd = {1e16, 9007199254740994.0, 1.7976931348623157e308, 2.2250738585072014e-308}
  for _, x in ipairs(odd) do
    t:equal(json.decode(json.encode(x)), x)
  end
end)

test("an integer a double cannot hold is refused with path and place", function(t)
  local err = t:raises(function()
    json.decode '{"orders": [{"id": 1},\n {"id": 9007199254740993}]}'
  end, "protocol", "integer 9007199254740993 cannot be represented exactly")
  t:equal(err.message:find("at .orders[2].id, line 2, byte 32", 1, true) ~= nil, true)
end)

test("what is no JSON is refused with line and byte", function(t)
  t:raises(function() json.decode '{"a": 1,\n "b" 2}' end, "protocol", "line 2, byte 15")
  t:raises(function() json.decode "{} x" end, "protocol", "behind the end")
  t:raises(function() json.decode '{"a":1,"a":2}' end, "protocol", "%.a stands twice")
  t:raises(function() json.decode '"a\\u0000b"' end, "protocol", "NUL")
  t:raises(function() json.decode '"\xff"' end, "protocol", "UTF%-8")
  t:raises(function() json.decode "<html>" end, "protocol", "HTML")
  t:raises(function() json.decode "" end, "protocol", "empty")
  t:raises(function() json.decode(nil) end, "usage", "expects a string")
end)

test("keys are case-sensitive", function(t)
  t:equal(json.decode '{"a":1,"A":2}', {a = 1, A = 2})
end)

test("depth and size are bounded", function(t)
  local deep = ("["):rep(65) .. ("]"):rep(65)
  t:raises(function() json.decode(deep) end, "limit", "max_depth = 64")
  t:equal(#json.decode(deep, {max_depth = 65}), 1)
  t:raises(function() json.decode("[1,2,3]", {max_size = 6}) end, "limit", "max_size = 6")
  t:raises(function() json.decode("1", {max_deep = 6}) end, "usage", "max_depth")
  local value = {}
  for _ = 1, 65 do value = {value} end
  t:raises(function() json.encode(value) end, "usage", "max_depth")
end)

test("what JSON cannot hold is refused with its path", function(t)
  t:raises(function() json.encode{a = {1, print}} end, "usage", "a function.*%.a%[2%]")
  t:raises(function() json.encode{a = 0 / 0} end, "usage", "NaN.*%.a")
  t:raises(function() json.encode{-math.huge} end, "usage", "infinite.*%[1%]")
  t:raises(function() json.encode{a = "\xff"} end, "usage", "UTF%-8.*%.a")
  t:raises(function() json.encode{["a\0b"] = 1} end, "usage", "NUL")
  t:raises(function() json.encode{["a b"] = {x = "\0"}} end, "usage", '%["a b"%]%.x')
  t:raises(function() json.encode{[true] = 1} end, "usage", "key of a table")
  t:raises(function() json.encode{[1.5] = 1} end, "usage", "key of a table")
  t:raises(function() json.encode{[0] = 1} end, "usage", "key of a table")
end)

test("sparse and mixed tables are refused with their path", function(t)
  t:raises(function() json.encode{orders = {1, 2, {[3] = "x"}}} end, "usage",
    "holes.*%.orders%[3%]")
  t:raises(function() json.encode{a = {1, x = 2}} end, "usage",
    "neither array nor object.*%.a")
  t:raises(function() json.encode(json.array{x = 1}) end, "usage", "marked as array")
end)

test("a table that contains itself is refused, one that stands twice is not", function(t)
  local a = {}
  a.b = {c = a}
  t:raises(function() json.encode(a) end, "usage", "contains itself.*%.b%.c")
  local shared = {1}
  t:equal(json.encode{x = shared, y = shared}, '{"x":[1],"y":[1]}')
end)

test("a secret is refused with the way out and does not show", function(t)
  local path = t:tmpdir() .. "/canary"
  require("fs").write(path, "canary-in-json", {mode = "0600"})
  local err = t:raises(function()
    json.encode{password = secret("file:" .. path)}
  end, "usage", "secret.*%.password")
  t:equal(err.message:find("canary-in-json", 1, true), nil)
end)

test("metamethods do not run while encoding", function(t)
  local ghost = setmetatable({a = 1}, {__pairs = error, __index = error, __len = error})
  t:equal(json.encode(ghost), '{"a":1}')
end)

test("a foreign metatable is not overwritten by the mark", function(t)
  t:raises(function() json.array(setmetatable({}, {})) end, "usage", "metatable")
  local marked = json.array{}
  t:equal(json.array(marked) == marked, true)
end)

test("pretty output has two spaces a level", function(t)
  t:equal(json.encode({b = {1}, a = {}, c = json.array{}}, {pretty = true}),
    '{\n  "a": {},\n  "b": [\n    1\n  ],\n  "c": []\n}')
end)

test("slashes are not escaped, control characters are", function(t)
  t:equal(json.encode "a/b\x01\x1f\t\x7f", '"a/b\\u0001\\u001f\\t\x7f"')
end)

test("a locale with a decimal comma changes nothing", function(t)
  local old = os.setlocale()
  for _, name in ipairs{"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE"} do
    if os.setlocale(name) then break end
  end
  t:defer(function() os.setlocale(old) end)
  t:equal(json.encode(0.5), "0.5")
  t:equal(json.decode "0.5", 0.5)
end)

test("a hundred thousand members pass quickly", function(t)
  local list = {}
  for i = 1, 100000 do list[i] = {id = i, name = "n" .. i} end
  local text = json.encode(list)
  t:equal(#json.decode(text, {max_size = 1 << 26}), 100000)
  local wide = {}
  for i = 1, 50000 do wide["k" .. i] = i end
  t:equal(json.decode(json.encode(wide)).k49999, 49999)
end)
