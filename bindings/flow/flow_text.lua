--- Flows as text for people, and as plain values for programs.
--
--     print(flow_text.list(flow.list(db)))
--     print(flow_text.why(flow.why(db, id)))
--     print(json.encode(flow_text.plain(flow.get(db, id))))
--
-- A time is shown as RFC 3339 with its distance from now; plain values have RFC 3339 only.

local json = require "json"
local textable = require "textable"
local time = require "time"

local flow_text = {}

local TIMES = {due = true, since = true, ["until"] = true, lease_until = true,
  deadline = true, created = true, updated = true, started = true, finished = true,
  ended = true, sent = true}
local WIDEST = 100

--- "2h 3m ago", "in 5d", or "now".
---@param instant number UTC seconds
function flow_text.distance(instant)
  local left = instant - time.now()
  if math.abs(left) < 1 then return "now" end
  return left < 0 and time.show(-left) .. " ago" or "in " .. time.show(left)
end

local function moment(instant)
  return instant
    and ("%s (%s)"):format(time.rfc3339(instant), flow_text.distance(instant))
end

--- One line of at most so many characters.
local function clipped(text, widest)
  text = textable.clean(text)
  widest = widest or WIDEST
  if (utf8.len(text) or #text) <= widest then return text end
  return text:sub(1, (utf8.offset(text, widest) or widest) - 1) .. "…"
end

local function value_text(value, widest)
  if value == nil then return "" end
  return clipped(type(value) == "string" and value or json.encode(value), widest)
end

--- A flow, its steps and what it waits for with RFC 3339 times, for JSON.
---@param value any
---@return any
function flow_text.plain(value)
  if type(value) ~= "table" then return value end
  local copy = setmetatable({}, getmetatable(value))
  for key, item in pairs(value) do
    if TIMES[key] and type(item) == "number" then
      copy[key] = time.rfc3339(item)
    elseif key == "input" or key == "output" or key == "result" or key == "payload"
      or key == "args" then
      copy[key] = item
    elseif key == "error" then
      copy[key] = {kind = item.kind, code = item.code, message = item.message,
        details = item.details}
    else
      copy[key] = flow_text.plain(item)
    end
  end
  return copy
end

--- What a row of the list says about what is going on.
local function going_on(one)
  if one.error and one.state ~= "ok" then return one.error.message end
  if one.state == "waiting" then
    local what = one.topic and one.topic:gsub("^child:", "the flow ") or "a time"
    return "for " .. what .. (one["until"] and ", until " .. time.rfc3339(one["until"])
      or one.due and ", until " .. time.rfc3339(one.due) or "")
  end
  if one.state == "running" and one.owner then return "by " .. one.owner end
  return ""
end

--- Flows as a table, in their order.
---@param list table[] from flow.list
---@return string
function flow_text.list(list)
  local rows = {}
  for i, one in ipairs(list) do
    rows[i] = {one.id, one.name, one.state,
      flow_text.distance(one.finished or one.since or one.updated),
      clipped(going_on(one), 80)}
  end
  return textable.format({"flow", "what", "state", "since", "waits, error"}, rows)
end

local function fields(lines, list)
  for _, pair in ipairs(list) do
    if pair[2] and pair[2] ~= "" then
      lines[#lines + 1] = ("%-10s %s"):format(pair[1], pair[2])
    end
  end
end

local function took(step)
  if not step.ended or not step.started then return "" end
  return time.show(step.ended - step.started)
end

local function steps_table(steps)
  local rows = {}
  for i, step in ipairs(steps) do
    local about = step.error and step.error.message or value_text(step.result, 60)
    if step.status == "wait" and step["until"] then about = "until "
      .. time.rfc3339(step["until"]) end
    rows[i] = {step.seq, step.name, step.kind, step.status, step.attempts, took(step),
      clipped(about, 60)}
  end
  return textable.format({"step", "name", "kind", "status", "tries", "took", "result"},
    rows)
end

local function messages_table(messages)
  local rows = {}
  for i, one in ipairs(messages) do
    rows[i] = {one.topic, time.rfc3339(one.sent), one.step and "step " .. one.step
      or "not read yet", value_text(one.payload, 60)}
  end
  return textable.format({"message", "sent", "read by", "payload"}, rows)
end

--- Everything about a flow.
---@param one table from flow.get
---@return string
function flow_text.show(one)
  local lines = {}
  local actor = type(one.actor) == "table" and next(one.actor) and json.encode(one.actor)
  fields(lines, {
    {"flow", one.id}, {"what", one.name},
    {"state", one.state},
    {"org", one.org}, {"ca", one.ca}, {"account", one.account}, {"parent", one.parent},
    {"source", one.code and one.code:sub(1, 16)}, {"wanted by", actor},
    {"created", moment(one.created)}, {"began", moment(one.started)},
    {"waits for", one.state == "waiting" and (one.topic or "a time")},
    {"since", not one.finished and moment(one.since)}, {"until", moment(one["until"])},
    {"due", one.state ~= "running" and not one.finished and moment(one.due)},
    {"deadline", moment(one.deadline)}, {"ended", moment(one.finished)},
    {"runs on", one.state == "running" and one.owner},
    {"input", value_text(one.input, 400)}, {"output", value_text(one.output, 400)},
    {"error", one.error and one.error.message},
  })
  if #one.steps > 0 then
    lines[#lines + 1] = ""
    lines[#lines + 1] = steps_table(one.steps)
  end
  if #one.messages > 0 then
    lines[#lines + 1] = ""
    lines[#lines + 1] = messages_table(one.messages)
  end
  return table.concat(lines, "\n")
end

--- What a flow waits for, since when, until when, and what would wake it.
---@param why table from flow.why
---@return string
function flow_text.why(why)
  local lines = {}
  local step = why.step
  fields(lines, {
    {"flow", why.id}, {"what", why.name}, {"state", why.state},
    {"waits for", why.waits_for}, {"since", moment(why.since)},
    {"until", why["until"] and moment(why["until"])
      or why.state == "waiting" and "for ever" or nil},
    {"step", step and ('%s "%s", %s%s'):format(step.seq, step.name, step.status,
      step.attempts and step.attempts > 1 and ", attempt " .. step.attempts or "")},
    {"runs on", why.state == "running" and why.owner},
    {"error", why.error and textable.clean(why.error.message)},
  })
  local ended = why.state == "failed" or why.state == "dead"
  for i, way in ipairs(why.wakes) do
    local name = i == 1 and (ended and "goes on by" or "woken by") or "or by"
    fields(lines, {{name, way}})
  end
  return table.concat(lines, "\n")
end

return flow_text
