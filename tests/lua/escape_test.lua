--- Every attack under tests/escape is refused, in time, within memory, without a trace.
--
-- A file that comes to its end, or whose check() returns a value, has broken out.

local cage = require "cage"
local fs = require "fs"
local load_ = require "load"

local MEMORY = 8 * 1024 * 1024
local SECONDS = 0.5
local LIMIT = "100ms" -- half of the default: more than forty attacks run until it ends

local folder = load_.paths().source .. "/tests/escape"

--- What an attack might change if it reached the outer state.
local function outer()
  local list = {}
  for name in pairs(_G) do list[#list + 1] = tostring(name) end
  table.sort(list)
  return {
    globals = table.concat(list, " "),
    canary = rawget(_G, "canary"),
    upper = ("x"):upper(),
    index = getmetatable("").__index == string,
    text = tostring(string.rep) == tostring(("").rep),
  }
end

local function attack(t, name, options)
  local before = outer()
  options.name, options.what, options.time = name, "attack", LIMIT
  options.call = options.text:find("function check%(") and "check" or nil
  local err = t:raises(function()
    local run = options.call and cage.run or cage.data
    run(options)
  end)
  assert(err.kind == "limit" or err.kind == "usage", tostring(err))
  t:equal(outer(), before, "outer state")
  local stats = err.stats
  assert(stats.cpu < SECONDS, ("%s took %.3f s"):format(name, stats.cpu))
  local peak = stats.memory_peak
  assert(peak <= MEMORY, ("%s took %d bytes"):format(name, peak))
  return err
end

for _, name in ipairs(fs.list(folder)) do
  if name:find("%.lua$") then
    test("refused: " .. name:gsub("^%d+_", ""):gsub("%.lua$", ""), function(t)
      local text = fs.read(folder .. "/" .. name)
      assert(text:find("^%-%- Attack: %u"), "the head says what it tries")
      attack(t, name, {text = text})
    end)
  end
end

test("the attacks are all there", function()
  assert(#fs.list(folder) >= 113)
end)

-- Attacks on the parser, which no hook interrupts; their texts are made here.

local made = {
  and_chain = "return " .. ("a and "):rep(400000) .. "a",
  or_chain = "return " .. ("a or "):rep(400000) .. "a",
  elseif_chain = "if a then " .. ("elseif a then "):rep(100000) .. "end",
  labels = (function()
    local list = {}
    for i = 1, 32000 do list[i] = "::l" .. i .. "::" end
    return table.concat(list, " ")
  end)(),
  gotos = (function()
    local list = {}
    for i = 1, 32000 do list[i] = "goto l" .. i end
    for i = 1, 32000 do list[#list + 1] = "::l" .. i .. "::" end
    return "do " .. table.concat(list, " ") .. " end"
  end)(),
  breaks = "while true do " .. ("if a then break end "):rep(40000) .. "end",
  parentheses = "return " .. ("("):rep(100000),
  blocks = ("do "):rep(100000),
  functions = ("function f() "):rep(100000),
  concat = "return " .. ("a .. "):rep(100000) .. "a",
  unary = "return " .. ("not "):rep(100000) .. "a",
  number = "return 0x" .. ("f"):rep(3000000) .. " .. nil",
  digits = "return 1" .. ("0"):rep(3000000) .. " .. nil",
  fraction = "return 0." .. ("3"):rep(3000000) .. " .. nil",
  string = 'return "' .. ("x"):rep(3000000) .. '"',
  long_bracket = "return [" .. ("="):rep(3000000) .. "[x",
  comment = "--[[" .. ("x"):rep(4000000),
  table_constructor = "return {" .. ("{},"):rep(1000000) .. "}",
  constants = (function()
    local list = {}
    for i = 1, 300000 do list[i] = i + 0.5 end
    return "return {" .. table.concat(list, ",") .. "}, nil .. nil"
  end)(),
  bytecode = string.dump(function() return 1 end),
  bytecode_head = "\27Lua",
}

for name, text in pairs(made) do
  test("refused by the parser's fence: " .. name, function(t)
    attack(t, name, {text = text})
  end)
end

test("a chunk that was stopped stays stopped", function(t)
  local c <close> = cage.new{text = "function f() while true do end end function g() end"}
  t:raises(function() c:call("f") end, "limit", "longer than 200 ms")
  t:raises(function() c:call("g") end, "limit", "stopped before")
end)

test("a chunk that ran out of memory can go on", function(t)
  local c <close> = cage.new{text = [[
    function f() local t = {} while true do t[#t + 1] = {} end end
    function g() return 1 end]]}
  t:raises(function() c:call("f") end, "limit", "8 MiB of memory, at text:1")
  t:equal(c:call("g"), 1)
end)

test("a file of attacks does not end the test's own state", function(t)
  for _ = 1, 50 do
    t:raises(function() cage.data{text = "return " .. ("("):rep(300)} end, "usage")
  end
end)
