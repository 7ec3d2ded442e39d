--- Lists of SCM as streams: page after page, one entry at a time, constant memory.
--
--     for cert in scm_list.open(connection, "ssl.list", {status = "Issued"}) do … end
--     local all = scm_list.open(connection, "person.list", {}):all()
--
-- The next position is that of the first entry not seen yet, whatever size SCM made the
-- page, so a list that ends with a full page is neither cut nor read twice. When entries
-- vanish while the list is read, those behind them move forward: the count that comes with
-- each page tells, and the reader goes back as far; what it has given already is left out.

local core = require "scm.core"
local errors = require "errors"
local scm_call = require "scm_call"

local SIZE = 200         -- the most that SCM gives at once
local FIRST = {position = "position", page = "page"}

local scm_list = {}

---@class scm.List
---@field name string operation
---@field total integer? of the last page read, if SCM says it
---@field read integer entries given so far
local List = {}
List.__index = List

--- An entry's identity, if it has one.
local function identity(entry)
  if type(entry) ~= "table" then return entry end
  return entry.sslId or entry.id or entry.certId or entry.uuid or entry.domain
end

--- The entries of a page: a list, or an object with the list in it.
local function entries_of(self, page)
  local list = page
  if #page == 0 and type(page.data) == "table" then
    list, self.total = page.data, math.tointeger(page.total) or self.total
  end
  return list
end

local function fetch(self)
  local parameters = {}
  for name, value in pairs(self.parameters) do parameters[name] = value end
  if self.paging == "position" then
    parameters.position, parameters.size = self.position, self.size
  elseif self.paging == "page" then
    parameters.page, parameters.size = self.page, self.size
  end
  local page, info = scm_call.run(self.conn, self.name, parameters, self.options)
  self.total = info.total or self.total
  return entries_of(self, page), info.total
end

--- Go back when the list became shorter in front of us: by so many entries.
local function shrink(self, total)
  local gone = self.known and total and self.known - total or 0
  self.known = total or self.known
  return gone > 0 and self.position > 0 and self.paging == "position" and gone or 0
end

--- Take note of a page at self.position; the entries that were not given before.
local function take(self, entries)
  local fresh, ids = {}, {}
  for _, entry in ipairs(entries) do
    local id = identity(entry)
    if id == nil or not self.ids[id] then fresh[#fresh + 1] = entry end
    if id ~= nil then ids[id] = true end
  end
  self.ids = ids
  return fresh
end

local function advance(self, entries, total)
  local got = #entries
  self.position = self.position + got
  if self.paging == "page" then
    -- A server with a smaller page than asked for: go on with its size.
    if self.page == 0 and got > 0 and got < self.size and total and total > got then
      self.size = got
    end
    self.page = self.page + 1
  end
  if self.paging == "none" or got == 0 or got > self.size then
    self.done = true
  elseif total then
    self.done = self.position >= total
  else
    self.done = got < self.size
  end
end

local function next_page(self)
  local entries, total = fetch(self)
  local back = shrink(self, total)
  if back > 0 and not self.went_back then
    self.position = math.max(0, self.position - back)
    self.went_back = true
    return
  end
  local fresh = take(self, entries)
  if #fresh == 0 and #entries > 0 and not self.went_back and not total then
    errors.raise("protocol", ("%s: position %d gives the entries before it once more")
      :format(self.name, self.position), {code = "BAD_ANSWER"})
  end
  self.went_back = false
  self.entries, self.at = fresh, 0
  advance(self, entries, total)
end

--- The next entry, nil at the end. Raises what the call raises, and can be asked again.
---@return any
function List:next()
  if self.limit and self.read >= self.limit then return nil end
  while self.at >= #self.entries do
    if self.done then return nil end
    next_page(self)
  end
  self.at = self.at + 1
  self.read = self.read + 1
  return self.entries[self.at]
end

List.__call = List.next

--- Everything that is left, as a list: for lists that are known to be short.
---@return any[]
function List:all()
  local all = {}
  for entry in self do all[#all + 1] = entry end
  return all
end

function List:__tostring()
  return ("scm.list %s: %d read%s"):format(self.name, self.read,
    self.total and (" of %d"):format(self.total) or "")
end

local function check(name, value, least, most)
  if value == nil then return end
  if math.type(value) ~= "integer" or value < least or value > most then
    errors.raise("usage", ("%s: expected an integer from %d to %d"):format(name, least,
      most), {code = "BAD_ARGUMENT"})
  end
end

--- A list that is read while it is walked. Beside the operation's own parameters: `size`
--- of a page (200, the most), `position` or `page` to begin with, `limit` of entries.
---@param conn scm.Connection
---@param name string operation
---@param parameters table?
---@param options table? as of connection:call
---@return scm.List
function scm_list.open(conn, name, parameters, options)
  local own = {}
  for key, value in pairs(parameters or {}) do own[key] = value end
  check(name .. ": size", own.size, 1, SIZE)
  check(name .. ": limit", own.limit, 1, math.maxinteger)
  check(name .. ": position", own.position, 0, math.maxinteger)
  check(name .. ": page", own.page, 0, math.maxinteger)
  local self = setmetatable({
    conn = conn, options = options or {}, parameters = own, size = own.size or SIZE,
    limit = own.limit, position = own.position or 0, page = own.page or 0,
    read = 0, entries = {}, at = 0, ids = {}, done = false,
  }, List)
  own.size, own.limit, own.position, own.page = nil, nil, nil, nil
  local call = core.prepare(name, conn.face, self.options.version or 0, own)
  self.name, self.paging = call.name, call.paging
  if not FIRST[self.paging] and (parameters or {}).position then
    errors.raise("usage", ("%s is not paged; it has no position"):format(name),
      {code = "BAD_ARGUMENT"})
  end
  if self.limit and self.limit < self.size then self.size = self.limit end
  return self
end

return scm_list
