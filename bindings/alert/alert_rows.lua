--- Alerts as rows of the store.
--
--     local rows = require "alert_rows"
--     rows.change(db, "expiry/www", function(row) return rules.raise(row, event, now) end)
--
-- A row is read, changed by a pure function and written only if nobody wrote it meanwhile
-- (its version); else it is read again. `notify_at` is when it is to be told next.

local errors = require "errors"
local json = require "json"
local log = require "log"
local rules = require "alert_rules"
local store = require "store"
local task = require "task"
local time = require "time"

local rows = {}

local TEXTS = {"id", "kind", "subject", "org", "owner", "severity", "state", "message",
  "cause", "told_state", "told_severity", "told_owner", "ack_by", "ack_severity",
  "ack_comment"}
local INSTANTS = {"deadline", "starts_at", "seen_at", "ends_at", "settles_at", "told_at",
  "ack_until", "notify_at"}
local DOCUMENTS = {"details", "told_to"}

local TRIES = 20

--- The present as a row keeps it, in whole milliseconds: else what is due now would not be
--- due when it is read again.
---@return number UTC seconds
function rows.now() return store.seconds(math.floor(time.now() * 1000)) end

--- Text that the store takes and a mail can show: UTF-8, no NUL, no known secret.
---@param value string
---@param most integer bytes
---@return string
function rows.text(value, most)
  value = value:gsub("%z", " ")
  if not utf8.len(value) then value = value:gsub("[\128-\255]", "?") end
  if #value > most then
    value = value:sub(1, utf8.offset(value, 0, most - 2) - 1) .. "..."
  end
  return log.redact(value)
end

--- The row of the rules from one of the store: instants in seconds, documents decoded.
---@param raw table
---@return table
function rows.decode(raw)
  local row = {version = raw.version, episodes = raw.episodes}
  for _, name in ipairs(TEXTS) do row[name] = raw[name] end
  for _, name in ipairs(INSTANTS) do
    row[name] = raw[name] and store.seconds(raw[name])
  end
  for _, name in ipairs(DOCUMENTS) do
    row[name] = raw[name] and json.decode(raw[name])
  end
  return row
end

local function params_of(row)
  local params = {version = row.version or 0, episodes = row.episodes}
  for _, name in ipairs(TEXTS) do params[name] = row[name] end
  for _, name in ipairs(INSTANTS) do params[name] = row[name] and store.ms(row[name]) end
  for _, name in ipairs(DOCUMENTS) do
    params[name] = row[name] and json.encode(row[name])
  end
  return params
end

local COLUMNS = {"version", "episodes"}
for _, list in ipairs{TEXTS, INSTANTS, DOCUMENTS} do
  table.move(list, 1, #list, #COLUMNS + 1, COLUMNS)
end

local function each_column(format, skip)
  local out = {}
  for _, name in ipairs(COLUMNS) do
    if not skip[name] then out[#out + 1] = (format:gsub("%%s", name)) end
  end
  return table.concat(out, ", ")
end

local INSERT = ("INSERT INTO alert (%s) VALUES (%s) ON CONFLICT (id) DO NOTHING"):format(
  each_column("%s", {}), each_column("$%s", {}))
local UPDATE = ("UPDATE alert SET version = version + 1, %s WHERE id = $id "
  .. "AND version = $version"):format(
    each_column("%s = $%s", {id = true, version = true}))

--- The statement that writes a row, new or read before. It holds only if the row is as it
--- was read.
---@param row table
---@return table statement
function rows.write(row)
  return {row.version and UPDATE or INSERT, params_of(row), expect = 1, code = "ALERT"}
end

---@param db store.Db
---@param id string
---@return table? row
function rows.get(db, id)
  local raw = db:row("SELECT * FROM alert WHERE id = $id", {id = id})
  return raw and rows.decode(raw)
end

--- Change a row by a pure function of it; nil from that leaves it. The row afterwards.
---@param db store.Db
---@param id string
---@param now number
---@param fn fun(row: table?): table?
---@return table? row
function rows.change(db, id, now, fn)
  for try_ = 1, TRIES do
    local before = rows.get(db, id)
    local after = fn(before)
    if not after then return before end
    after.id, after.notify_at = id, rules.next_at(after, now)
    local done, err = try(db.batch, db, {rows.write(after)})
    if done then
      after.version = (after.version or -1) + 1
      return after
    end
    if err.kind ~= "conflict" or err.code ~= "ALERT" then error(err, 0) end
    task.sleep(0.001 * try_)
  end
  errors.raise("conflict", ("the alert %s is changed by others all the time"):format(id),
    {code = "ALERT", retryable = true})
end

--- Alerts that are to be told now, the longest waiting first.
---@param db store.Db
---@param now number
---@param most integer
---@return table[] rows
function rows.due(db, now, most)
  local list = db:rows("SELECT * FROM alert WHERE notify_at <= $now "
    .. "ORDER BY notify_at, id LIMIT $most", {now = store.ms(now), most = most})
  for i, raw in ipairs(list) do list[i] = rows.decode(raw) end
  return list
end

--- All alerts: those that fire first, the worst first.
---@param db store.Db
---@return table[] rows
function rows.list(db)
  local list = db:rows "SELECT * FROM alert ORDER BY id"
  for i, raw in ipairs(list) do list[i] = rows.decode(raw) end
  local function rank(row)
    return row.state == "firing" and -rules.RANK[row.severity] or 0
  end
  table.sort(list, function(a, b)
    if rank(a) ~= rank(b) then return rank(a) < rank(b) end
    return a.id < b.id
  end)
  return list
end

--- Forget what is over since long.
---@param db store.Db
---@param before number
function rows.forget(db, before)
  db:exec("DELETE FROM alert WHERE state = 'resolved' AND notify_at IS NULL "
    .. "AND ends_at < $before", {before = store.ms(before)})
end

return rows
