--- Values as text a person can read: the REPL's results, failed comparisons of tests.
--
--     local show = require("inspect").show
--     print(show({1, 2, name = "www"}, {width = 60}))  --> {1, 2, name = "www"}

local args = require "args"

local inspect = {}

local OPTIONS = {
  {name = "depth", type = "integer", positive = true, doc = "tables in tables shown (6)"},
  {name = "items", type = "integer", positive = true,
    doc = "entries shown a table (100)"},
  {name = "length", type = "integer", positive = true,
    doc = "bytes shown a string (1000)"},
  {name = "width", type = "integer", positive = true, doc = "columns of a line (80)"},
  {name = "colour", type = "boolean", doc = "colours of the terminal (off)"},
}

local COLOURS = {string = "32", number = "33", boolean = "33", ["nil"] = "90",
  other = "36", note = "90"}
local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or
  repeat return then true until while]]):gmatch "%a+" do
  KEYWORDS[word] = true
end
local ESCAPES = {["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ["\\"] = "\\\\",
  ['"'] = '\\"'}

local Printer = {}
Printer.__index = Printer

function Printer:paint(kind, text)
  if not self.colour then return text end
  return ("\27[%sm%s\27[0m"):format(COLOURS[kind] or COLOURS.other, text)
end

local function escape(byte)
  return ESCAPES[byte] or ("\\x%02x"):format(byte:byte())
end

--- Control characters never reach the terminal; bytes that are not UTF-8 neither.
local function quoted(text)
  local clean = text:gsub('[%c\\"]', escape)
  if not utf8.len(clean) then clean = clean:gsub("[\128-\255]", escape) end
  clean = clean:gsub("\194[\128-\159]", function(pair) return pair:gsub(".", escape) end)
  return '"' .. clean .. '"'
end

function Printer:string(text)
  local rest = #text - self.length
  if rest <= 0 then return self:paint("string", quoted(text)) end
  local cut = self.length
  while cut > 0 and text:byte(cut + 1) & 0xc0 == 0x80 do cut = cut - 1 end
  return self:paint("string", quoted(text:sub(1, cut))) ..
    self:paint("note", (" … %d bytes in all"):format(#text))
end

local ORDER = {number = 1, string = 2, boolean = 3}

local function before(a, b)
  local x, y = ORDER[type(a)] or 4, ORDER[type(b)] or 4
  if x ~= y then return x < y end
  if x <= 2 then return a < b end
  return tostring(a) < tostring(b)
end

local function sorted_keys(value, from)
  local keys = {}
  for key in next, value do
    if not (math.type(key) == "integer" and key >= 1 and key <= from) then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys, before)
  return keys
end

function Printer:key(key)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" and not KEYWORDS[key] then
    return key
  end
  return "[" .. self:value(key, self.depth) .. "]"
end

--- The entries as texts, at most self.items of them.
function Printer:entries(value, level)
  local parts, length = {}, 0
  while rawget(value, length + 1) ~= nil do length = length + 1 end
  local keys = sorted_keys(value, length)
  local total = length + #keys
  for i = 1, math.min(length, self.items) do
    parts[#parts + 1] = self:value(rawget(value, i), level + 1)
  end
  for i = 1, math.min(#keys, self.items - #parts) do
    parts[#parts + 1] = self:key(keys[i]) .. " = " ..
      self:value(rawget(value, keys[i]), level + 1)
  end
  if total > #parts then
    parts[#parts + 1] = self:paint("note", ("… %d more"):format(total - #parts))
  end
  return parts
end

local function shown_width(parts)
  local sum = 0
  for _, part in ipairs(parts) do
    if part:find("\n", 1, true) then return math.huge end
    local bare = part:gsub("\27%[%d+m", "")
    sum = sum + (utf8.len(bare) or #bare) + 2
  end
  return sum
end

function Printer:table(value, level)
  if self.path[value] then return self:paint("note", "<the table around it>") end
  if next(value) == nil then return "{}" end
  if level >= self.depth then return self:paint("note", "{…}") end
  self.path[value] = true
  local parts = self:entries(value, level)
  self.path[value] = nil
  if shown_width(parts) + 2 * level <= self.width - 2 then
    return "{" .. table.concat(parts, ", ") .. "}"
  end
  local pad = ("  "):rep(level + 1)
  return "{\n" .. pad .. table.concat(parts, ",\n" .. pad) .. "\n" ..
    ("  "):rep(level) .. "}"
end

--- A metatable's __tostring speaks for its object; what it says is cleaned as outside text.
function Printer:object(value)
  local ok, text = pcall(tostring, value)
  if not ok then text = type(value) .. ": its __tostring failed" end
  return self:paint("other", quoted(text):sub(2, -2):gsub('\\"', '"'))
end

local function speaks(value)
  local ok, mt = pcall(debug.getmetatable or getmetatable, value)
  return ok and type(mt) == "table" and rawget(mt, "__tostring") ~= nil
end

function Printer:value(value, level)
  local kind = type(value)
  if kind == "string" then return self:string(value) end
  if kind == "table" and not speaks(value) then return self:table(value, level) end
  if kind == "number" or kind == "boolean" or kind == "nil" then
    return self:paint(kind, tostring(value))
  end
  return (self:object(value))
end

--- The value as text, over several lines when it does not fit one.
---@param value any
---@param options {depth: integer?, items: integer?, length: integer?, width: integer?, colour: boolean?}?
---@return string
function inspect.show(value, options)
  options = args.check("inspect.show", OPTIONS, options)
  local printer = setmetatable({depth = options.depth or 6, items = options.items or 100,
    length = options.length or 1000, width = options.width or 80,
    colour = options.colour or false, path = {}}, Printer)
  return printer:value(value, 0)
end

return inspect
