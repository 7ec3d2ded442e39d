--- The cage: what is inside, what comes out, how it fails.

local cage = require "cage"
local fs = require "fs"

--- Run a body in a cage and return its results.
local function inside(body, ...)
  return cage.run{text = "function f(...) " .. body .. " end", call = "f",
    args = table.pack(...)}
end

local POLICY = [[
function check(request)
  if request.bits < 2048 then
    return deny("RSA %d bits, at least %d", request.bits, 2048)
  end
  return allow()
end]]

test("a policy denies with reason, file and line", function(t)
  local decision = cage.run{text = POLICY, name = "policies/keys.lua", call = "check",
    args = {{bits = 1024}}}
  t:equal(decision, {verdict = "deny", reason = "RSA 1024 bits, at least 2048",
    rule = "policies/keys.lua:3"})
end)

test("a policy allows", function(t)
  local decision = cage.run{text = POLICY, name = "policies/keys.lua", call = "check",
    args = {{bits = 4096}}}
  t:equal(decision, {verdict = "allow", rule = "policies/keys.lua:5"})
end)

test("a decision counts also without the word return", function(t)
  local all, result = cage.decide{call = "check", name = "p.lua", text = [[
    function check()
      deny("forgotten")
      warn("noted %s", "this")
      return allow()
    end]]}
  t:equal(#all, 3)
  t:equal({all[1].verdict, all[2].verdict, all[3].verdict}, {"deny", "warn", "allow"})
  t:equal(all[2].reason, "noted this")
  t:equal(result.verdict, "allow")
end)

test("no decision is an empty list", function(t)
  t:equal(cage.decide{call = "check", text = "function check() end"}, {})
end)

test("need_approval carries its rule and its fields", function(t)
  local by_name = inside 'return need_approval("security", "%s is new", "org")'
  t:equal({by_name.verdict, by_name.approval, by_name.reason},
    {"need_approval", "security", "org is new"})
  local by_table = inside 'return need_approval{rule = "two", of = 3, reason = "wide"}'
  t:equal(by_table.approval, {rule = "two", of = 3, reason = "wide"})
  t:equal(by_table.reason, "wide")
end)

test("allow carries obligations", function(t)
  local decision = inside "return allow{max_term = 90, labels = {'a'}, reason = 'short'}"
  t:equal(decision.obligations, {max_term = 90, labels = {"a"}, reason = "short"})
  t:equal(decision.reason, "short")
end)

test("arguments are copies: the policy cannot change the request", function(t)
  local request = {names = {"a.example.com"}, n = 1}
  inside("local r = ... r.n = 2 r.names[1] = 'evil.example.com'", request)
  t:equal(request, {names = {"a.example.com"}, n = 1})
end)

test("nil arguments are counted", function(t)
  t:equal(inside("return select('#', ...)", nil, nil, nil), 3)
  t:equal({inside("return ...", nil, 2)}, {nil, 2})
end)

test("globals are set before the chunk runs", function(t)
  t:equal(cage.data{text = "y = x.n + 1", globals = {x = {n = 41}}}.y, 42)
end)

test("globals given are among those that come out", function(t)
  t:equal(cage.data{text = "y = 1", globals = {x = 2}}, {x = 2, y = 1})
end)

test("an estate file gives its globals", function(t)
  local estate = cage.data{name = "secrun.lua", what = "estate file", text = [[
    local days_left = 30
    store = "sqlite"
    orgs = {{name = "Example Corp", password = secret "env:SCM_PASSWORD"}}
    renew_before = days(days_left)]]}
  t:equal(estate, {store = "sqlite", renew_before = 2592000,
    orgs = {{name = "Example Corp", password = {["$secret"] = "env:SCM_PASSWORD"}}}})
end)

test("a secret from a program comes out as its command", function(t)
  local out = cage.data{text = 's = secret{exec = {"pass", "show", "scm"}}'}
  t:equal(out.s, {["$secret"] = {exec = {"pass", "show", "scm"}}})
end)

test("a secret reference shows only its source", function(t)
  t:equal(inside 'return tostring(secret "env:PW")', "[secret env:PW]")
  t:equal(inside 'return string.format("%s", secret "env:PW")', "[secret env:PW]")
  t:raises(function() inside 'return secret "hunter2"' end, "usage", "a source is")
end)

test("a misspelt name is refused at its line", function(t)
  local err = t:raises(function()
    cage.data{name = "secrun.lua", text = "store = 'x'\ncertifcates = {}",
      allowed = {"certificates", "store"}}
  end, "usage", "^secrun.lua:2: 'certifcates' means nothing .* 'certificates'")
  t:equal(err.where, "secrun.lua:2")
end)

test("an undefined name is refused with a suggestion", function(t)
  t:raises(function() inside "return strnig.format('x')" end, "usage",
    "undefined name 'strnig', did you mean 'string'")
end)

test("a function among an estate's globals is named", function(t)
  local text = "function helper() end"
  t:raises(function() cage.data{text = text} end, "usage", "at .helper")
end)

test("a syntax error has file and line", function(t)
  local err = t:raises(function()
    cage.data{name = "p.lua", text = "local x = 1\nlocal y = = 2"}
  end, "usage", "^p.lua:2:")
  t:equal(err.code, "syntax")
end)

test("a runtime error has file and line, once", function(t)
  local err = t:raises(function()
    cage.run{name = "p.lua", call = "f", text = "\nfunction f(x)\n  return x.a.b\nend",
      args = {{}}}
  end, "usage", "^p.lua:3: attempt to index")
  t:equal(err.where, "p.lua:3")
  err = t:raises(function()
    cage.run{name = "p.lua", call = "f",
      text = "function f() assert(false, 'no place') end"}
  end, "usage", "^p.lua:1: no place")
  t:equal(err.code, "runtime")
end)

test("an error table gives its message", function(t)
  t:raises(function() inside "error{message = 'as a table'}" end, "usage", "as a table")
end)

test("the time limit names itself and the line", function(t)
  local err = t:raises(function()
    cage.run{name = "policies/slow.lua", what = "policy", time = "20ms", call = "f",
      text = "function f()\n  while true do end\nend"}
  end, "limit", "the policy ran longer than 20 ms, at policies/slow.lua:2")
  t:equal(err.code, "time")
  t:equal(err.where, "policies/slow.lua:2")
end)

test("load and call share one time limit in run", function(t)
  local err = t:raises(function()
    cage.run{time = "60ms", call = "f", text = [[
      local function burn() for _ = 1, 2e7 do end end
      burn()
      function f() burn() burn() burn() burn() end]]}
  end, "limit")
  assert(err.stats.cpu < 0.2, err.stats.cpu)
end)

test("the memory limit can be chosen", function(t)
  local text = "function f() local t = {} for i = 1, 20000 do t[i] = {} end return #t end"
  t:equal(cage.run{text = text, call = "f"}, 20000)
  t:raises(function() cage.run{text = text, call = "f", memory = 1 << 20} end, "limit",
    "more than 1 MiB of memory")
end)

test("files are read, a first line with # is skipped", function(t)
  local path = t:tmpdir() .. "/a.lua"
  fs.write(path, "#!/usr/bin/env secrun\nx = 1\nerror('here')")
  t:raises(function() cage.data{file = path} end, "usage", "a.lua:3: here")
  t:raises(function() cage.data{file = path .. "x"} end, "not_found")
  t:raises(function() cage.data{file = "/tmp"} end, "usage", "regular file")
end)

test("options are checked", function(t)
  t:raises(function() cage.data{} end, "usage", "either text or file")
  t:raises(function() cage.data{text = "", file = "x"} end, "usage", "either text or")
  t:raises(function() cage.data{txt = ""} end, "usage", "did you mean")
  t:raises(function() cage.run{text = ""} end, "usage", "call")
  t:raises(function() cage.run{text = "", call = "f"} end, "usage", "no function 'f'")
  t:raises(function() cage.data{text = "", functions = {"alow"}} end, "usage", "'allow'")
end)

test("functions chooses the extra words", function(t)
  t:equal(cage.data{text = "x = days(1)", functions = {"days"}}.x, 86400)
  t:raises(function()
    cage.data{text = "x = deny('no')", functions = {"days"}}
  end, "usage", "undefined name 'deny'")
end)

test("an object keeps its state between calls", function(t)
  local c <close> = cage.new{text = "n = 0 function f(k) n = n + k return n end"}
  t:equal(c:call("f", 2), 2)
  t:equal(c:call("f", 3), 5)
  t:equal(c:get "n", 5)
  t:equal(c:get "nothing", nil)
  assert(c:stats().memory > 5000)
end)

test("a closed cage says so", function(t)
  local c = cage.new{text = ""}
  c:close()
  c:close()
  t:raises(function() c:get "x" end, "usage", "closed")
end)

-- Sameness: a policy is a function of its input.

test("pairs goes through the keys in order", function(t)
  t:equal(inside [[
    local s = ""
    for k in pairs{b = 1, a = 1, [10] = 1, [2] = 1, [1.5] = 1, [-3] = 1, [true] = 1} do
      s = s .. tostring(k) .. " "
    end
    return s]], "-3 1.5 2 10 a b true ")
end)

test("pairs tells large integers and floats apart", function(t)
  t:equal(inside [[
    local s = ""
    for k in pairs{[2^53] = 1, [9007199254740993] = 1, [math.maxinteger] = 1, [2^63] = 1,
      [-math.huge] = 1, [math.mininteger] = 1} do s = s .. tostring(k) .. " " end
    return s]], "-inf -9223372036854775808 9007199254740992 9007199254740993 "
      .. "9223372036854775807 9.2233720368548e+18 ")
end)

test("pairs passes over what the loop removes", function(t)
  t:equal(inside [[
    local t, s = {a = 1, b = 2, c = 3}, ""
    for k, v in pairs(t) do s = s .. k .. v t.b = nil end
    return s]], "a1c3")
end)

test("next goes in the same order", function(t)
  t:equal(inside [[
    local t, s, k, v = {c = 3, a = 1, [7] = 7}, ""
    repeat
      k, v = next(t, k)
      s = s .. tostring(k)
    until k == nil
    return s, next({}) == nil]], "7acnil")
end)

test("no address shows", function(t)
  t:equal({inside 'return tostring({}), tostring(deny), ("%s|%10s"):format({}, deny)'},
    {"table", "function", "table|  function"})
end)

test("the clock stands still at the instant given", function(t)
  local out = cage.data{now = 1700000000.75, text = [[
    a, b = now(), os.time()
    c = os.date("%Y-%m-%dT%H:%M:%SZ")
    d = os.time{year = 2024, month = 2, day = 30, hour = 0}
    e = os.date("!*t", 0).hour
    f = os.difftime(days(2), days(1))]]}
  t:equal(out, {a = 1700000000, b = 1700000000, c = "2023-11-14T22:13:20Z",
    d = 1709251200, e = 0, f = 86400.0})
end)

test("without an instant the loop's clock is taken", {clock = "virtual"}, function(t)
  local before = cage.data{text = "t = now()"}.t
  require("task").sleep "1d"
  t:equal(cage.data{text = "t = now()"}.t - before, 86400)
end)

test("sort is stable and the same each time", function(t)
  t:equal(inside [[
    local list, s = {}, ""
    for i = 1, 300 do list[i] = {key = i * 7 % 5, at = i} end
    table.sort(list, function(a, b) return a.key < b.key end)
    for i = 2, 300 do
      local a, b = list[i - 1], list[i]
      if a.key > b.key or (a.key == b.key and a.at > b.at) then return false end
    end
    return true]], true)
end)

test("sort without an order function", function(t)
  t:equal(inside [[
    local a, b = {3, 1, 2}, {"b", "a", "c"}
    table.sort(a)
    table.sort(b)
    return table.concat(a) .. table.concat(b)]], "123abc")
  t:raises(function() inside "table.sort{1, 'x'}" end, "usage", "compare")
  t:raises(function() inside [[table.sort({1, 1}, function(a, b) return a <= b end)]] end,
    "usage", "use < instead of <=")
end)

-- The bounded libraries do what the stock ones do.

test("table functions agree with the stock ones", function(t)
  local body = [[
    local list = {}
    for i = 1, 5 do table.insert(list, i) end
    table.insert(list, 1, 0)
    table.insert(list, 7, 9)
    local gone, last = table.remove(list, 2), table.remove(list)
    local none = table.remove({})
    local packed = table.pack(1, nil, 3)
    return table.concat(list, ","), gone, last, none, packed.n, table.concat({}, "x"),
      table.concat({1, 2.5, "c"}, "-", 2, 3), select("#", table.unpack({1, 2}, 0, 3)),
      table.unpack({1, 2, 3}, -1, 1)]]
  local want = table.pack(load("return (function() " .. body .. " end)()")())
  local got = table.pack(inside(body))
  t:equal(got.n, want.n)
  for i = 1, want.n do t:equal(got[i], want[i], "result " .. i) end
  t:raises(function() inside "table.insert({}, 3, 1)" end, "usage", "out of bounds")
  t:raises(function() inside "table.remove({1}, 7)" end, "usage", "out of bounds")
  t:raises(function() inside "table.insert({}, 1, 2, 3)" end, "usage", "table.insert")
end)

test("string functions agree with the stock ones", function(t)
  local body = [[
    local s = "key: value; other = [1,2]"
    local words = {}
    for k, v in s:gmatch("(%w+)%s*[:=]%s*(%S+)") do words[#words + 1] = k .. v end
    return s:find("value", 1, true), s:match("%[(.-)%]"), s:gsub("%a+", string.upper),
      s:rep(2, "|"), s:byte(1, 3), s:sub(-3), s:reverse(), s:len(), s:upper(),
      ("%5.2f|%-5s|%q|%x|%%|%c"):format(1.005, "ab", "x\n", 255, 65), s:find("o", 8),
      ("x"):rep(0), ("x"):rep(3), ("x"):rep(-1), ("abc"):gsub("", "-"),
      ("a.b"):find(".", 2),
      ("  trim  "):match("^%s*(.-)%s*$"), table.concat(words, " "),
      ("x = 1"):gsub("%w", {x = "y"}), ("abc"):gsub("%w", "%0%0", 2),
      ("f(a(b)c)"):match("%b()"),
      ("THE (quick) fox"):find("%((%a+)%)"), ("hello"):match("()ll()"), utf8.len("é"),
      utf8.char(233, 8364), tonumber("0x10"), tonumber("z", 36), tonumber("x")]]
  local want = table.pack(load("return (function() " .. body .. " end)()")())
  local got = table.pack(inside("return {n = select('#', (function() " .. body
    .. " end)()), (function() " .. body .. " end)()}"))[1]
  t:equal(got.n, want.n)
  for i = 1, want.n do t:equal(got[i], want[i], "result " .. i) end
end)

test("a long text can be trimmed and split", function(t)
  local text = "  " .. ("word.of-many "):rep(300)
  t:equal(inside([[
    local s, n = ..., 0
    s = s:match("^%s*(.-)%s*$")
    for word in s:gmatch("[%w.-]+") do n = n + 1 end
    return n, #s]], text), 300)
end)

test("glob stays within a label, ** does not", function(t)
  local function glob(pattern, text) return inside("return glob(...)", pattern, text) end
  t:equal(glob("*.example.com", "www.example.com"), true)
  t:equal(glob("*.example.com", "a.b.example.com"), false)
  t:equal(glob("**.example.com", "a.b.example.com"), true)
  t:equal(glob("*.example.com", "example.com"), false)
  t:equal(glob("WWW-?.Example.COM", "www-1.example.com"), true)
  t:equal(glob("www?", "www."), false)
  t:equal(glob("", ""), true)
  t:equal(glob("*", ""), true)
  t:equal(glob("a*b*c", "axxbxxbc"), true)
  t:equal(glob("a*b*c", "axxbxxbd"), false)
end)

test("suffix is the domain or below it", function(t)
  local function suffix(...) return inside("return suffix(...)", ...) end
  t:equal(suffix("example.com", "example.com"), true)
  t:equal(suffix("example.com", "WWW.Example.com."), true)
  t:equal(suffix("example.com", "*.example.com"), true)
  t:equal(suffix("example.com", "badexample.com"), false)
  t:equal(suffix("example.com", "example.com.evil.net"), false)
  t:equal(suffix("", "example.com"), false)
end)
