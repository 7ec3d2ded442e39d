--- Shapes of JSON documents, written as the reference of SCM writes them.
--
--     local shape = sandbox_shape.parse "{name!:s(1..64), term:n(>=1), names:[s], more:o}"
--     for _, problem in ipairs(shape:problems(document)) do print(problem.text) end
--
-- Types: s text, n whole number, b boolean, o object, a anything, [] a list, [T] a list of T,
-- {…} an object. "!" after a name: it must be there and not be null. "?" after a type: null is
-- fine. In parentheses: 1..64, <=64, >=1 (length of a text, size of a number or list), e-mail,
-- A|B (words, in any case), and the forms of dates US, ISO, ISO_HMS, HMS.

local json = require "json"

local sandbox_shape = {}
local Shape = {}
Shape.__index = Shape

-- ---------------------------------------------------------------- reading

local function broken(text, at, what)
  error(("shape: %s expected at %q"):format(what, text:sub(at, at + 30)), 0)
end

local parse_type

local function skip(text, at) return text:find("[^%s]", at) or #text + 1 end

local function parse_object(text, at)
  local fields, order = {}, {}
  at = skip(text, at)
  while text:sub(at, at) ~= "}" do
    local name, required, after = text:match("^([%w_-]+)(!?):()", at)
    if not name then broken(text, at, "a field") end
    local shape
    shape, at = parse_type(text, after)
    shape.required = required == "!"
    fields[name], order[#order + 1] = shape, name
    at = skip(text, at)
    if text:sub(at, at) == "," then at = skip(text, at + 1) end
  end
  return {kind = "object", fields = fields, order = order}, at + 1
end

local function parse_limits(shape, words)
  for word in words:gmatch "[^,]+" do
    word = word:match "^%s*(.-)%s*$"
    local low, high = word:match "^(%-?%d+)%.%.(%d+)$"
    local sign, bound = word:match "^([<>])=(%-?%d+)$"
    if low then
      shape.min, shape.max = tonumber(low), tonumber(high)
    elseif sign then
      shape[sign == "<" and "max" or "min"] = tonumber(bound)
    else
      shape.form = word
    end
  end
end

local KINDS = {s = "string", n = "number", b = "boolean", o = "any object", a = "any"}

function parse_type(text, at)
  at = skip(text, at)
  local shape
  local first = text:sub(at, at)
  if first == "{" then
    shape, at = parse_object(text, at + 1)
  elseif first == "[" then
    shape = {kind = "list"}
    at = skip(text, at + 1)
    if text:sub(at, at) ~= "]" then
      shape.item, at = parse_type(text, at)
      at = skip(text, at)
    end
    if text:sub(at, at) ~= "]" then broken(text, at, "]") end
    at = at + 1
  else
    shape = {kind = KINDS[first] or broken(text, at, "a type")}
    at = at + 1
  end
  local limits, after = text:match("^%(([^()]*)%)()", at)
  if limits then
    parse_limits(shape, limits)
    at = after
  end
  if text:sub(at, at) == "?" then
    shape.nullable = true
    at = at + 1
  end
  return shape, at
end

--- Read a shape; one that cannot be read raises.
---@param text string
function sandbox_shape.parse(text)
  local shape, at = parse_type(text, skip(text, 1))
  if skip(text, at) <= #text then broken(text, at, "the end") end
  return setmetatable(shape, Shape)
end

-- ---------------------------------------------------------------- checking

local DATES = {
  US = "^%d%d/%d%d/%d%d%d%d$", ISO = "^%d%d%d%d%-%d%d%-%d%d$",
  ISO_HMS = "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$",
  HMS = "^%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d$",
}

local function fits_form(form, text)
  if DATES[form] then return text:find(DATES[form]) ~= nil end
  if form == "e-mail" then return text:find "^[^@%s]+@[^@%s]+$" ~= nil end
  for word in form:gmatch "[^|]+" do
    if word:match "^%s*(.-)%s*$":lower() == text:lower() then return true end
  end
  return false
end

local function out_of_bounds(shape, size)
  return shape.min and size < shape.min or shape.max and size > shape.max
end

local function bounds(shape)
  if shape.min and shape.max then
    return ("between %d and %d"):format(shape.min, shape.max)
  end
  return shape.min and ("at least %d"):format(shape.min)
    or ("at most %d"):format(shape.max)
end

local check

local types = {
  string = function(value) return type(value) == "string" end,
  boolean = function(value) return type(value) == "boolean" end,
  number = function(value) return type(value) == "number" and value % 1 == 0 end,
  any = function() return true end,
}
for _, kind in ipairs{"any object", "object", "list"} do
  types[kind] = function(value) return type(value) == "table" end
end
types.list = function(value)
  return type(value) == "table" and (next(value) == nil or #value > 0)
end

local function check_fields(shape, value, path, found, strict)
  local before = path == "" and "" or path .. "."
  for _, name in ipairs(shape.order) do
    check(shape.fields[name], value[name], before .. name, found, strict)
  end
  for name in pairs(strict and value or {}) do
    if not shape.fields[name] then
      found[#found + 1] = {path = before .. tostring(name), what = "unknown",
        text = ("'%s%s' is not documented."):format(before, name)}
    end
  end
end

function check(shape, value, path, found, strict)
  local function note(what, text)
    found[#found + 1] = {path = path, what = what,
      text = ("Value of '%s' %s."):format(path, text)}
  end
  if value == nil or value == json.null then
    if shape.required then
      note("null", "must not be null")
    elseif strict and value == json.null and not shape.nullable then
      note("null", "is null")
    end
    return
  end
  if not types[shape.kind](value) then return note("type", "must be a " .. shape.kind) end
  if shape.kind == "object" then
    return check_fields(shape, value, path, found, strict)
  end
  if shape.kind == "string" and shape.form and not fits_form(shape.form, value) then
    note("form", "must be " .. shape.form)
  end
  local sized = shape.kind == "string" or shape.kind == "list"
  local size = shape.kind == "number" and value or sized and #value
  if size and out_of_bounds(shape, size) then
    note("bounds", ("must be %s%s"):format(bounds(shape),
      shape.kind == "string" and " characters long" or ""))
  end
  for i, item in ipairs(shape.item and value or {}) do
    check(shape.item, item, ("%s[%d]"):format(path, i), found, strict)
  end
end

--- What is wrong with a document: a list of {path, what, text}, empty when it fits.
---@param document any
---@param options {strict: boolean?}? strict: fields that are not in the shape are wrong, too
---@return {path: string, what: string, text: string}[]
function Shape:problems(document, options)
  local found = {}
  check(self, document, "", found, options and options.strict)
  return found
end

return sandbox_shape
