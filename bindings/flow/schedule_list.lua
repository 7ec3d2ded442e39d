--- The schedules a server keeps: the shipped ones, and those of the estate file.
--
--     schedules = {
--       {name = "report", at = "0 7 * * mon", zone = "Europe/Berlin", run = {"report"}},
--       {name = "rotate", at = "@monthly", flow = "rotate", input = {site = "a"}},
--       {name = "watch", at = "every 10m"},      -- the shipped one, at another time
--       {name = "renew", enabled = false},
--     }

local args = require "args"
local code = require "flow_code"
local errors = require "errors"
local schedule = require "schedule"
local scripts = require "scripts"

local schedule_list = {}

local SPEC = {
  {name = "name", type = "string", required = true, nonempty = true,
    doc = "also in the ids of what it starts"},
  {name = "at", type = "string", nonempty = true,
    doc = '"0 3 * * *", "@daily" or "every 6h"'},
  {name = "zone", type = "string", nonempty = true, doc = '"Europe/Berlin" (UTC)'},
  {name = "jitter", type = "duration"},
  {name = "catch_up", type = "enum", choices = "none|once|all"},
  {name = "catch_up_max", type = "integer", positive = true},
  {name = "flow", type = "string", nonempty = true, doc = "name of the flow to start"},
  {name = "input", type = "any", doc = "of that flow"},
  {name = "org", type = "string", doc = "of that flow"},
  {name = "run", type = "list", choices = "string", nonempty = true,
    doc = 'a script and its words, {"renew", "--jobs", "4"}'},
  {name = "enabled", type = "boolean", doc = "false: not at all"},
}

--- What every server does unless the estate file says otherwise; the first time at once.
schedule_list.SHIPPED = {
  {name = "renew", at = "0 3,15 * * *", jitter = "2h", run = {"renew", "--wait", "0"}},
  {name = "watch", at = "@hourly", jitter = "10m", builtin = "watch"},
}

local TIMES = {"zone", "jitter", "catch_up", "catch_up_max", "name"}

---@class schedule_list.entry
---@field name string
---@field schedule schedule
---@field flow string? the flow to start, with input and org
---@field input any
---@field org string?
---@field run string[]? the script to run, with its words
---@field builtin string? what the server itself does
---@field eager boolean? the first time at once

local function shipped(name)
  for _, entry in ipairs(schedule_list.SHIPPED) do
    if entry.name == name then return entry end
  end
end

--- An entry with what it takes from the shipped one of its name.
local function complete(own)
  local from = shipped(own.name)
  local entry = {}
  for key, value in pairs(own) do entry[key] = value end
  if not from then return entry end
  entry.at = own.at or from.at
  if own == from or not own.flow and not own.run then
    entry.run, entry.builtin, entry.eager = from.run, from.builtin, true
  end
  if not own.at and not own.jitter then entry.jitter = from.jitter end
  return entry
end

local function when(entry)
  local options = {}
  for _, key in ipairs(TIMES) do options[key] = entry[key] end
  return schedule.parse(entry.at, options)
end

--- One entry, ready to be kept. Raises usage with the mend.
local function read(place, own)
  local entry = complete(own == shipped(own.name) and own or args.check(place, SPEC, own))
  local function refuse(format, ...)
    errors.raise("usage", place .. ": " .. format:format(...), {code = "SCHEDULE"})
  end
  if #entry.name > 60 or not entry.name:find "^[%w_.-]+$" then
    refuse("the name has at most 60 letters, digits and _.-, got %q", entry.name)
  end
  if not entry.at then
    local close = args.suggest(entry.name, {"renew", "watch"})
    refuse('at is missing: when it fires, such as "0 3 * * *"%s', close
      and "; or did you mean the shipped " .. close .. "?" or "")
  end
  if not entry.builtin and (entry.flow ~= nil) == (entry.run ~= nil) then
    refuse("give either flow, the name of a flow, or run, a script and its words")
  end
  if entry.run and (entry.input ~= nil or entry.org) then
    refuse("input and org are for a flow, not for run")
  end
  local at, err = try(when, entry)
  if not at then refuse("%s", err.message) end
  return {name = entry.name, schedule = at, flow = entry.flow, input = entry.input,
    org = entry.org, run = entry.run, builtin = entry.builtin, eager = entry.eager,
    enabled = entry.enabled ~= false}
end

local function place_of(i, own)
  local name = type(own) == "table" and type(own.name) == "string" and own.name
  return ("schedules[%d]%s"):format(i, name and " (" .. name .. ")" or "")
end

--- Read the list of an estate file.
---@param list table[]?
---@return schedule_list.entry[] entries those that are enabled, by name
---@return string[] problems every mistake with its place and its mend
function schedule_list.read(list)
  local entries, problems, seen = {}, {}, {}
  local function add(place, own)
    local entry, err = try(read, place, own)
    if not entry then
      problems[#problems + 1] = err.message
    elseif seen[entry.name] then
      problems[#problems + 1] = ("%s: %s has the same name"):format(place,
        seen[entry.name])
    else
      seen[entry.name] = place
      if entry.enabled then entries[#entries + 1] = entry end
    end
  end
  for i, own in ipairs(list or {}) do add(place_of(i, own), own) end
  for _, entry in ipairs(schedule_list.SHIPPED) do
    if not seen[entry.name] then add("the shipped schedule " .. entry.name, entry) end
  end
  table.sort(entries, function(a, b) return a.name < b.name end)
  return entries, problems
end

--- What entries start and this machine lacks: flows without a body, scripts by no such name.
---@param entries schedule_list.entry[]
---@param folders string[] of flow bodies
---@return string[] texts each with the schedule's name and the mend
function schedule_list.missing(entries, folders)
  local texts = {}
  local function note(entry, format, ...)
    texts[#texts + 1] = ("schedule %s: "):format(entry.name) .. format:format(...)
  end
  for _, entry in ipairs(entries) do
    local _, err = try(code.read, entry.flow, folders)
    if entry.flow and err then note(entry, "%s", err.message) end
    if entry.run and not scripts.find(entry.run[1]) then
      local names = {}
      for i, script in ipairs(scripts.list()) do names[i] = script.name end
      local close = args.suggest(entry.run[1], names)
      note(entry, "there is no script %s%s", entry.run[1],
        close and "; did you mean " .. close .. "?" or "; secrun help lists all")
    end
  end
  return texts
end

return schedule_list
