--- What people read of alerts: mails for somebody who was asleep, JSON for webhooks. Pure.
--
--     local text = require "alert_text"
--     local shown = text.mail(items, now)      -- {subject, text, html}
--     local body = text.payload(id, "hook", items, now)
--
-- An item is an alert as it was when it was told: id, kind, subject, severity, reason, org,
-- owner, message, details, starts_at, ends_at, deadline. Its message says what is wrong, its
-- details say what was tried, and `next` among them which command to type. One item makes a
-- mail of its own, several make a table.

local time = require "time"

local text = {}

local ROWS = 200 -- of a digest; more are counted

local RANK = {critical = 1, warning = 2, info = 3}

------------------------------------------------------------------ words

--- Outside data as one line that steers no terminal and turns no text around.
local function clean(value)
  return (tostring(value):gsub("[%c\127]", " "):gsub("\226\128[\170-\174]", "?")
    :gsub("\226\129[\166-\169]", "?"))
end

local UNITS = {{"day", 86400}, {"hour", 3600}, {"minute", 60}, {"second", 1}}

--- "3 days", "2 hours": in the unit that fits.
---@param seconds number
---@return string
function text.duration(seconds)
  seconds = math.abs(seconds)
  for _, unit in ipairs(UNITS) do
    if seconds >= 2 * unit[2] or unit[2] == 1 then
      local n = math.floor(seconds / unit[2])
      return ("%d %s%s"):format(n, unit[1], n == 1 and "" or "s")
    end
  end
  return "0 seconds"
end

--- "in 3 days" or "2 hours ago".
---@param instant number
---@param now number
---@return string
function text.when(instant, now)
  if math.abs(instant - now) < 1 then return "now" end
  local words = text.duration(instant - now)
  return instant >= now and "in " .. words or words .. " ago"
end

local function instant(value, now)
  return ("%s (%s)"):format(time.rfc3339(math.floor(value)), text.when(value, now))
end

------------------------------------------------------------------ facts of an item

--- Details in this order; others follow by name. Instants are shown as such.
local KNOWN = {
  {"names", "names"}, {"issuer", "issued by"}, {"not_after", "expires", true},
  {"due", "renewal due", true}, {"installed", "installed to"}, {"tried", "tried"},
  {"tried_at", "last tried", true}, {"error", "it failed"},
}

local function shown(value)
  if type(value) == "table" then
    local list = {}
    for i, one in ipairs(value) do list[i] = clean(one) end
    return table.concat(list, " ")
  end
  return clean(value)
end

local function add_details(facts, details, now)
  local seen = {next = true}
  for _, known in ipairs(KNOWN) do
    local key, label, is_instant = table.unpack(known)
    local value = details[key]
    seen[key] = true
    if value ~= nil then
      facts[#facts + 1] = {label, is_instant and type(value) == "number"
        and instant(value, now) or shown(value)}
    end
  end
  local others = {}
  for key in pairs(details) do
    if not seen[key] then others[#others + 1] = tostring(key) end
  end
  table.sort(others)
  for _, key in ipairs(others) do
    facts[#facts + 1] = {clean(key:gsub("_", " ")), shown(details[key])}
  end
end

--- Label and value, in the order in which somebody asks.
local function facts_of(item, now)
  local facts = {{"alert", clean(item.id)}}
  if item.org then facts[#facts + 1] = {"organization", clean(item.org)} end
  if item.owner then facts[#facts + 1] = {"owner", clean(item.owner)} end
  add_details(facts, item.details or {}, now)
  facts[#facts + 1] = {"since", instant(item.starts_at, now)}
  if item.ends_at then facts[#facts + 1] = {"over since", instant(item.ends_at, now)} end
  if item.cause then facts[#facts + 1] = {"caused by", clean(item.cause)} end
  return facts
end

local function list_of(value)
  if value == nil then return {} end
  return type(value) == "table" and value or {value}
end

--- Commands to type next.
local function commands_of(item)
  if item.reason == "resolved" then return {} end
  local list = {}
  for i, command in ipairs(list_of((item.details or {}).next)) do
    list[i] = clean(command)
  end
  if #list == 0 then list[1] = "secrun alerts show " .. clean(item.id) end
  return list
end

local REASONS = {
  climbed = "It has become worse since it was last told.",
  ["repeat"] = "It was told before, and nobody has acknowledged it.",
  owner = "It has a new owner.",
}

local function word_of(item)
  return item.reason == "resolved" and "resolved" or item.severity:upper()
end

local function headline(item)
  if item.reason == "resolved" then
    return ("%s %s is over"):format(clean(item.kind), clean(item.subject))
  end
  return ("%s: %s"):format(clean(item.subject), clean(item.message or item.kind))
end

------------------------------------------------------------------ plain text

local function one_text(item, now)
  local out, width = {word_of(item) .. "  " .. headline(item), ""}, 0
  local facts = facts_of(item, now)
  for _, fact in ipairs(facts) do width = math.max(width, #fact[1]) end
  for _, fact in ipairs(facts) do
    out[#out + 1] = ("  %s%s  %s"):format(fact[1], (" "):rep(width - #fact[1]), fact[2])
  end
  if REASONS[item.reason] then
    out[#out + 1] = ""
    out[#out + 1] = REASONS[item.reason]
  end
  local commands = commands_of(item)
  if #commands > 0 then
    out[#out + 1] = "\nType next:\n"
    for _, command in ipairs(commands) do out[#out + 1] = "  " .. command end
    out[#out + 1] = "\nTo be left alone meanwhile:\n"
    out[#out + 1] = ("  secrun alerts ack %s --for 12h"):format(clean(item.id))
  end
  return table.concat(out, "\n") .. "\n"
end

local function row_of(item, now)
  local at = item.deadline and instant(item.deadline, now) or ""
  return {word_of(item), clean(item.subject), clean(item.message or item.kind), at,
    clean(item.owner or item.org or "")}
end

local HEAD = {"severity", "subject", "what", "deadline", "owner"}

local function table_text(rows)
  local all, widths = {HEAD, table.unpack(rows)}, {}
  for _, row in ipairs(all) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, utf8.len(cell) or #cell)
    end
  end
  local lines = {}
  for n, row in ipairs(all) do
    local cells = {}
    for i, cell in ipairs(row) do
      cells[i] = cell .. (" "):rep(widths[i] - (utf8.len(cell) or #cell))
    end
    lines[n] = table.concat(cells, "  "):gsub("%s+$", "")
  end
  return table.concat(lines, "\n")
end

------------------------------------------------------------------ HTML

local ENTITIES = {["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;",
  ["'"] = "&#39;"}

local function escape(value) return (clean(value):gsub("[&<>\"']", ENTITIES)) end

-- No colours of text or ground but the mark of severity, so that it reads on light and dark.
local MARK = {critical = "#c62828", warning = "#ef6c00", info = "#1565c0",
  resolved = "#2e7d32"}

local PAGE = [[
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<title>%s</title></head>
<body style="font-family:sans-serif;line-height:1.4">
%s</body></html>
]]

local CELL = '<%s style="text-align:left;padding:2px 12px 2px 0" valign="top">%s</%s>'

local function cells(tag, values)
  local out = {}
  for i, value in ipairs(values) do out[i] = CELL:format(tag, escape(value), tag) end
  return "<tr>" .. table.concat(out) .. "</tr>\n"
end

local function mark(item)
  return MARK[item.reason == "resolved" and "resolved" or item.severity]
end

local function code(commands)
  local out = {}
  for i, command in ipairs(commands) do out[i] = escape(command) end
  return "<pre>" .. table.concat(out, "\n") .. "</pre>\n"
end

local TITLE = '<h2 style="border-left:6px solid %s;padding-left:10px">%s</h2>\n'

local function one_html(item, now)
  local title = escape(word_of(item) .. " \u{2013} " .. headline(item))
  local out = {TITLE:format(mark(item), title), "<table>\n"}
  for _, fact in ipairs(facts_of(item, now)) do out[#out + 1] = cells("td", fact) end
  out[#out + 1] = "</table>\n"
  if REASONS[item.reason] then
    out[#out + 1] = "<p>" .. escape(REASONS[item.reason]) .. "</p>\n"
  end
  local commands = commands_of(item)
  if #commands > 0 then
    out[#out + 1] = "<p>Type next:</p>\n" .. code(commands)
    out[#out + 1] = "<p>To be left alone meanwhile:</p>\n"
      .. code{"secrun alerts ack " .. item.id .. " --for 12h"}
  end
  return table.concat(out)
end

------------------------------------------------------------------ mails

local function counted(items)
  local count, parts = {}, {}
  for _, item in ipairs(items) do
    local word = item.reason == "resolved" and "resolved" or item.severity
    count[word] = (count[word] or 0) + 1
  end
  for _, word in ipairs{"critical", "warning", "info", "resolved"} do
    if count[word] then parts[#parts + 1] = count[word] .. " " .. word end
  end
  return table.concat(parts, ", ")
end

--- The worst first, what is over last.
local function sorted(items)
  local list = table.move(items, 1, #items, 1, {})
  local function rank(item)
    return item.reason == "resolved" and 4 or RANK[item.severity]
  end
  table.sort(list, function(a, b)
    if rank(a) ~= rank(b) then return rank(a) < rank(b) end
    local x, y = a.deadline or math.huge, b.deadline or math.huge
    if x ~= y then return x < y end
    return a.id < b.id
  end)
  return list
end

local function cut(line, most)
  if #line <= most then return line end
  return line:sub(1, utf8.offset(line, 0, most - 2) - 1) .. "..."
end

local function digest_subjects(items)
  local seen, names = {}, {}
  for _, item in ipairs(items) do
    if not seen[item.subject] then names[#names + 1] = clean(item.subject) end
    seen[item.subject] = true
  end
  return table.concat(names, ", ")
end

--- Several alerts as one mail.
local function digest(items, now)
  items = sorted(items)
  local rows, html = {}, {}
  for i = 1, math.min(#items, ROWS) do
    rows[i] = row_of(items[i], now)
    html[i] = cells("td", rows[i])
  end
  local more = #items > ROWS and ("and %d more"):format(#items - ROWS) or nil
  local title = counted(items)
  local subject = cut(("[secrun] %s: %s"):format(title, digest_subjects(items)), 140)
  local commands = {"secrun alerts list", "secrun alerts show " .. clean(items[1].id)}
  return {
    subject = subject,
    text = ("%s\n\n%s\n%s\nType next:\n\n  %s\n"):format(title, table_text(rows),
      more and more .. "\n" or "", table.concat(commands, "\n  ")),
    html = PAGE:format(escape(subject), table.concat{
      TITLE:format(mark(items[1]), escape(title)), "<table>\n", cells("th", HEAD),
      table.concat(html), "</table>\n", more and "<p>" .. more .. "</p>\n" or "",
      "<p>Type next:</p>\n", code(commands)}),
  }
end

--- One mail for all items.
---@param items table[]
---@param now number
---@return {subject: string, text: string, html: string}
function text.mail(items, now)
  if #items > 1 then return digest(items, now) end
  local item = items[1]
  local subject = cut(("[secrun] %s: %s"):format(word_of(item), headline(item)), 140)
  return {subject = subject, text = one_text(item, now),
    html = PAGE:format(escape(subject), one_html(item, now))}
end

------------------------------------------------------------------ webhooks

local function stamp(value) return value and time.rfc3339(math.floor(value)) or nil end

--- Details with their instants as RFC 3339; nil when there are none.
---@param details table?
---@return table?
function text.stamped(details)
  local made = {}
  for key, value in pairs(details or {}) do made[key] = value end
  for _, known in ipairs(KNOWN) do
    local key, is_instant = known[1], known[3]
    if is_instant and type(made[key]) == "number" then made[key] = stamp(made[key]) end
  end
  return next(made) and made or nil
end

--- What a webhook gets. Instants are RFC 3339.
---@param id string of the delivery
---@param channel string
---@param items table[]
---@param now number
---@return table
function text.payload(id, channel, items, now)
  local alerts = {}
  for i, item in ipairs(sorted(items)) do
    alerts[i] = {
      id = item.id, kind = item.kind, subject = item.subject, severity = item.severity,
      state = item.reason == "resolved" and "resolved" or "firing", reason = item.reason,
      org = item.org, owner = item.owner, message = item.message, cause = item.cause,
      details = text.stamped(item.details), starts_at = stamp(item.starts_at),
      ends_at = stamp(item.ends_at), deadline = stamp(item.deadline),
    }
  end
  return {version = 1, delivery = id, channel = channel, sent_at = stamp(now),
    summary = #items > 1 and counted(items) or text.mail(items, now).subject,
    alerts = alerts}
end

return text
