--- What all calls of the sandbox's SCM share: failures, bodies, pages and dates.
--
--     wire.fail(-36, "The term is not valid for the profile")
--     local body = wire.body(call, ENROLL)          -- a shape; 400 with -1001 unless it fits
--     return wire.list(call, people, show_person)   -- a page with X-Total-Count
--
-- A handler gets a call {state, admin, params, query, req, version, admin_face} and returns
-- status, body (a table becomes JSON) and headers.

local json = require "json"
local shape = require "sandbox_shape"
local time = require "time"

local wire = {}

-- ---------------------------------------------------------------- failures

local Failure = {}
wire.Failure = Failure

--- End the call with an error body {code, description}; 400 unless told otherwise.
---@param code integer SCM's code
---@param description string
---@param status integer?
function wire.fail(code, description, status)
  error(setmetatable({code = code, description = description, status = status or 400},
    Failure), 0)
end

--- End it as for an unknown thing in the path.
function wire.missing(code, description) wire.fail(code, description, 404) end

-- ---------------------------------------------------------------- bodies

local function without_nulls(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, inner in pairs(value) do
    if inner ~= json.null then copy[key] = without_nulls(inner) end
  end
  return copy
end

--- The request's JSON, checked; null counts as absent, unknown fields are let pass. With
--- `empty` a missing body counts as {}.
---@param call table
---@param wanted table shape
---@param empty boolean?
---@return table
function wire.body(call, wanted, empty)
  local text = call.req.body
  if empty and (text == "" or text == '""') then text = "{}" end
  local ok, value = pcall(json.decode, text)
  if not ok or type(value) ~= "table" then
    wire.fail(-1, "The request body is not readable JSON")
  end
  value = without_nulls(value)
  local problem = wanted:problems(value)[1]
  if problem then wire.fail(-1001, problem.text) end
  return value
end

--- A body's shape, for use with wire.body.
wire.shape = shape.parse

--- 201 with the place of what was made.
---@param call table
---@param path string
function wire.created(call, path) return 201, nil, {Location = call.base .. path} end

--- A whole number in the path; 404 (with the given code) when it is none.
---@param call table
---@param name string of the parameter
---@param code integer
---@return integer
function wire.id(call, name, code)
  local id = math.tointeger(tonumber(call.params[name]))
  if not id then wire.missing(code, ("There is no %s"):format(call.params[name])) end
  return id
end

-- ---------------------------------------------------------------- query

--- A query parameter as a whole number, or nil when it is absent or empty.
function wire.number(call, name)
  local text = call.query[name]
  if not text or text == "" then return nil end
  local n = math.tointeger(tonumber(text))
  if not n then wire.fail(-1001, ("Value of '%s' must be a number."):format(name)) end
  return n
end

--- A query parameter as text, or nil when it is absent or empty.
function wire.text(call, name)
  local text = call.query[name]
  return text ~= "" and text or nil
end

local MAX_SIZE = 200

local function bounded(call, name, low, high, default)
  local n = wire.number(call, name) or default
  if n < low or high and n > high then
    wire.fail(-1001, ("Value of '%s' must be %s %d."):format(name,
      n < low and "greater than or equal to" or "less than or equal to",
      n < low and low or high))
  end
  return n
end

--- position and size of a classic page: zero-based, at most 200.
---@return integer position
---@return integer size
function wire.window(call)
  return bounded(call, "position", 0, nil, 0),
    bounded(call, "size", 0, MAX_SIZE, call.state.settings.page_size)
end

--- page and size of a new-style page as position and size.
function wire.new_window(call)
  local size = bounded(call, "size", 1, MAX_SIZE, 20)
  return bounded(call, "page", 0, nil, 0) * size, size
end

local function slice(list, position, size, show, call)
  local page = {}
  for i = position + 1, math.min(position + size, #list) do
    page[#page + 1] = show and show(call, list[i]) or list[i]
  end
  return json.array(page)
end

--- A page of a list, with the number of all in X-Total-Count.
---@param call table
---@param list any[]
---@param show fun(call: table, item: any): any
---@param window function? wire.window by default
function wire.list(call, list, show, window)
  local position, size = (window or wire.window)(call)
  return 200, slice(list, position, size, show, call), {["X-Total-Count"] = #list}
end

--- All of a list, without paging.
function wire.all(call, list, show) return 200, slice(list, 0, #list, show, call) end

-- ---------------------------------------------------------------- words

--- Whether two spellings of an enumeration's value are the same: constants and display
--- texts, whatever the case ("SAApproved", "SA Approved", "sa_approved").
function wire.same_word(a, b)
  return a == b or a:lower():gsub("[%s_-]", "") == b:lower():gsub("[%s_-]", "")
end

--- Whether text contains word, whatever the case; true without a word.
function wire.contains(text, word)
  return not word or text ~= nil and text:lower():find(word:lower(), 1, true) ~= nil
end

-- ---------------------------------------------------------------- dates

local PATTERNS = {
  ISO = "yyyy-MM-dd", ISO_HMS = "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'",
  EU = "dd.MM.yyyy", EU_HMS = "dd.MM.yyyy HH:mm:ss",
  US = "MM/dd/yyyy", US_HMS = "MM/dd/yyyy HH:mm:ss",
  UK = "dd/MM/yyyy", UK_HMS = "dd/MM/yyyy HH:mm:ss",
  JP = "yyyy/MM/dd", JP_HMS = "yyyy/MM/dd HH:mm:ss",
  HMS = "yyyy-MM-dd HH:mm:ss",
}

local LETTERS = {yyyy = "%Y", MM = "%m", dd = "%d", HH = "%H", mm = "%M", ss = "%S"}

local formats = {} -- pattern → {strftime text, whether it has milliseconds}

--- The run of one letter that begins at `at`.
local function letters_at(pattern, at)
  local letter = pattern:match("^%a", at)
  return letter and pattern:match("^" .. letter .. "+", at)
end

--- A pattern of Java as one of strftime: 'quoted' text, letters, the rest as it is. "\1"
--- stands for milliseconds.
local function compile(pattern)
  local out, at = {}, 1
  while at <= #pattern do
    local quoted = pattern:match("^'([^']*)'", at)
    local letters = letters_at(pattern, at)
    if quoted then
      out[#out + 1] = quoted == "" and "'" or (quoted:gsub("%%", "%%%%"))
      at = at + #quoted + 2
    elseif letters then
      out[#out + 1] = letters == "SSS" and "\1" or LETTERS[letters]
        or wire.fail(-1601, ("Field ''dateFormat'' has invalid value %s"):format(pattern))
      at = at + #letters
    else
      out[#out + 1] = (pattern:sub(at, at):gsub("%%", "%%%%"))
      at = at + 1
    end
  end
  return table.concat(out)
end

--- An instant as text: in the form that the query's dateFormat asks for, else in the usual
--- one of the field (a name such as "US"). nil stays nil.
---@param call table
---@param instant number?
---@param usual string
---@return string?
function wire.date(call, instant, usual)
  if not instant then return nil end
  local asked = wire.text(call, "dateFormat")
  if call.admin_face and call.state.settings.dates == "iso" then usual = "ISO_HMS" end
  local pattern = asked and (PATTERNS[asked:upper()] or asked) or PATTERNS[usual]
  if not formats[pattern] then formats[pattern] = compile(pattern) end
  local whole = math.floor(instant)
  local text = os.date("!" .. formats[pattern], whole)
  local millis = ("%03d"):format((instant - whole) * 1000 // 1 | 0)
  return (text:gsub("\1", millis))
end

local function day_of(text)
  local y, m, d = text:match "^(%d%d%d%d)-(%d%d)-(%d%d)"
  if y then return y, m, d end
  m, d, y = text:match "^(%d%d)/(%d%d)/(%d%d%d%d)$"
  return y, m, d
end

--- An instant from a text: a day, or a day and time with or without offset; nil when it is
--- none.
---@param text string
---@return number?
function wire.instant(text)
  local y, m, d = day_of(text)
  if not y then return nil end
  local clock = text:match "[T ](%d%d:%d%d:%d%d[%d.]*)" or "00:00:00"
  local sign, hours, minutes = text:match "%d([+-])(%d%d):?(%d%d)$"
  local offset = sign and clock ~= "00:00:00" and ("%s%s:%s"):format(sign, hours, minutes)
  return time.parse(("%s-%s-%sT%s%s"):format(y, m, d, clock, offset or "Z"))
end

return wire
