--- Alerts and channels as tables for people, and as plain values for programs. Pure.
--
--     local view = require "alert_view"
--     print(view.list(alert.list(), view.by_name(alert.channels())))

local json = require "json"
local text = require "alert_text"
local textable = require "textable"
local time = require "time"

local view = {}

local INSTANTS = {"deadline", "starts_at", "seen_at", "ends_at", "settles_at", "told_at",
  "ack_until", "notify_at", "failing_since", "failed_at", "ok_at", "next_at",
  "created_at", "sent_at"}

local function shown(instant)
  return instant and time.rfc3339(math.floor(instant)) or ""
end

--- A row for programs: instants as RFC 3339.
---@param row table
---@return table
function view.plain(row)
  local made = {}
  for key, value in pairs(row) do made[key] = value end
  for _, key in ipairs(INSTANTS) do made[key] = made[key] and shown(made[key]) end
  made.details = text.stamped(row.details)
  made.version = nil
  return made
end

---@param list table[]
---@return table[]
function view.plain_list(list)
  local made = {}
  for i, row in ipairs(list) do made[i] = view.plain(row) end
  return json.array(made)
end

--- Channels in the order of their names.
---@param channels table<string, table> from alert.channels
---@return table[]
function view.by_name(channels)
  local list = {}
  for _, one in pairs(channels) do list[#list + 1] = one end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

local function acked(row)
  if not row.ack_by then return "" end
  return row.ack_until and ("%s until %s"):format(row.ack_by, shown(row.ack_until))
    or row.ack_by
end

local function told(row)
  if not row.told_at and row.cause and row.state == "firing" then
    return "by " .. row.cause
  end
  return row.told_at and ("%s to %s"):format(shown(row.told_at),
    #(row.told_to or {}) > 0 and table.concat(row.told_to, " ") or "nobody") or "not yet"
end

local function alert_rows(list)
  local rows = {}
  for i, row in ipairs(list) do
    rows[i] = {row.state == "firing" and row.severity or "over", row.id,
      shown(row.starts_at), told(row), acked(row), row.owner or "", row.message or ""}
  end
  return rows
end

local function channel_rows(list)
  local rows = {}
  for i, one in ipairs(list) do
    local fails = one.failures > 0
    rows[i] = {one.name, fails and ("fails (%d)"):format(one.failures)
      or one.ok_at and "works" or "not used yet", one.waiting, one.lost,
      shown(fails and one.next_at or nil), (fails or one.lost > 0) and one.error or ""}
  end
  return rows
end

--- What fires, and how the channels fare.
---@param list table[] from alert.list
---@param channels table[] from view.by_name
---@return string
function view.list(list, channels)
  local shown_list = #list == 0 and "no alert fires" or textable.format({"severity",
    "alert", "since", "told", "acknowledged", "owner", "what"}, alert_rows(list))
  if #channels == 0 then return shown_list end
  return shown_list .. "\n\n" .. textable.format({"channel", "state", "waiting", "lost",
    "next try", "last error"}, channel_rows(channels))
end

--- One alert: what a mail says of it, when it was and will be told, its deliveries.
---@param row table
---@param history table[] from alert.history
---@param now number
---@return string
function view.show(row, history, now)
  local item, rows = {}, {}
  for key, value in pairs(row) do item[key] = value end
  item.reason = row.state == "resolved" and "resolved" or "new"
  local out = {text.mail({item}, now).text, "told          " .. told(row),
    "next told     " .. (row.notify_at and shown(row.notify_at) or "never"),
    "acknowledged  " .. (row.ack_by and acked(row) or "no")
      .. (row.ack_comment and ": " .. textable.clean(row.ack_comment) or "")}
  for i, one in ipairs(history) do
    rows[i] = {shown(one.created_at), one.channel, one.reason or "", one.severity or "",
      one.state, one.error or one.reply or ""}
  end
  if #rows > 0 then
    out[#out + 1] = "\n" .. textable.format({"delivery", "channel", "why", "severity",
      "state", "answer"}, rows)
  end
  return table.concat(out, "\n")
end

return view
