--- Waiting until every server says what it should, and telling which does not.
--
--     propagation.wait(items, {how = how, timeout = 300, poll = 2, tolerate = 1})
--
-- A server is one name with all its addresses. It has the value when an address gives it
-- and none denies it; it lags when one gives something else; it is dead when none answers.
-- Addresses of a family this machine has no way to are left out. The wait ends when no
-- server lags and not more than `tolerate` are dead.
--
-- Recursive servers given as `resolvers` must see it, too. What one remembers as absent is
-- asked again when that memory ends and not before (RFC 2308).

local errors = require "errors"
local exchange = require "dns_exchange"
local query = require "dns_query"
local task = require "task"
local time = require "time"
local zones = require "dns_zone"

local propagation = {}

local POLL_MAX = 15 -- seconds

--- No way from here to this family.
local UNREACHABLE = {ENETUNREACH = true, EADDRNOTAVAIL = true, EAFNOSUPPORT = true}

local function has(values, value)
  for _, other in ipairs(values or {}) do
    if other == value then return true end
  end
  return false
end

--- What one address says, in words.
local function words_of(row)
  if row.error then return row.error end
  if row.alias then return "an alias to " .. row.alias end
  if row.rcode == "NXDOMAIN" then return "that the name does not exist" end
  if #row.values == 0 then return "that there is no TXT record" end
  local shown = {}
  for i, value in ipairs(row.values) do
    shown[i] = i <= 3 and ('"%s"'):format(value:sub(1, 60)) or nil
  end
  if #row.values > 3 then shown[4] = ("and %d more"):format(#row.values - 3) end
  return table.concat(shown, ", ")
end

---@class dcv.State
---@field server string its name
---@field state "has"|"lags"|"dead"|"unreachable"
---@field says string[] one line an address

--- The rows of one name's addresses become states of servers.
---@param rows dns.Row[]
---@param value string
---@return dcv.State[]
function propagation.judge(rows, value)
  local list, by_name = {}, {}
  for _, row in ipairs(rows) do
    local name = row.server.ns or row.server.text
    local state = by_name[name]
    if not state then
      state = {server = name, says = {}, state = "unreachable"}
      by_name[name] = state
      list[#list + 1] = state
    end
    local now = has(row.values, value) and "has" or "lags"
    if row.error and row.code ~= "LAME" then
      now = UNREACHABLE[row.code] and "unreachable" or "dead"
    end
    local rank = {unreachable = 0, dead = 1, has = 2, lags = 3}
    if rank[now] > rank[state.state] then state.state = now end
    if now ~= "has" then
      state.says[#state.says + 1] = ("%s: %s"):format(row.server.text, words_of(row))
    end
  end
  return list
end

--- Whether that is enough: some server has it, none lags, few are dead.
---@param states dcv.State[]
---@param tolerate integer
---@return boolean
function propagation.enough(states, tolerate)
  local count = {has = 0, lags = 0, dead = 0, unreachable = 0}
  for _, state in ipairs(states) do count[state.state] = count[state.state] + 1 end
  return count.has > 0 and count.lags == 0 and count.dead <= tolerate
end

local VERB = {lags = "still says", dead = "does not answer",
  unreachable = "cannot be reached from here"}

--- One line for those that are not as they should be.
---@param states dcv.State[]
---@return string
function propagation.report(states)
  local lines = {}
  for _, state in ipairs(states) do
    if state.state ~= "has" then
      lines[#lines + 1] = ("%s %s (%s)"):format(state.server, VERB[state.state],
        table.concat(state.says, "; "))
    end
  end
  return table.concat(lines, "; ")
end

--- Ask one recursive server; {done=, until_=, says=}: until_ is when what it remembers as
--- absent ends.
local function ask_resolver(server, item, how, memory)
  local key = server.text .. " " .. item.name
  local kept = memory[key]
  if kept and kept.ends > time.mono() then return kept end
  local tries = {}
  local asking = {}
  for name, value in pairs(how) do asking[name] = value end
  asking.recursion = true
  local answer, err = exchange.once(server, {name = item.asked, type = "TXT"}, asking,
    how.attempt, tries)
  if not answer then
    return {state = "dead", server = server.text, says = {tries[#tries] and
      tries[#tries].error or err.message}}
  end
  local values, ttl = {}, nil
  for _, record in ipairs(answer.answer) do
    if record.type == "TXT" then
      values[#values + 1] = record.text
      ttl = math.min(ttl or record.ttl, record.ttl)
    end
  end
  if has(values, item.value) then
    return {state = "has", server = server.text, says = {}}
  end
  local _, negative = query.negative(answer)
  local remembers = #values == 0 and negative or ttl or 0
  memory[key] = {state = "lags", server = server.text, ends = time.mono() + remembers,
    says = {("%s, and remembers it for %d s"):format(words_of{values = values,
      rcode = answer.rcode}, remembers)}}
  return memory[key]
end

--- Look once at one item; its states, and the seconds after which looking again helps.
local function look(item, options, memory)
  local states = propagation.judge(zones.survey(item.servers, item.name, "TXT",
    options.how), item.value)
  local servers = #states
  local tolerate = servers > 1 and options.tolerate or 0
  local done, pause = propagation.enough(states, tolerate), nil
  if done then
    for _, server in ipairs(options.resolvers or {}) do
      local state = ask_resolver(server, item, options.how, memory)
      if state.state ~= "has" then
        done = false
        states[#states + 1] = state
        if state.ends then
          pause = math.max(pause or 0, state.ends - time.mono())
        end
      end
    end
  end
  return done, states, pause
end

---@class dcv.Item
---@field name string where the record is
---@field asked string the name the CA asks for
---@field value string
---@field servers dns.Server[]

--- Wait for one item. Raises dns (PROPAGATION, states says what each server said).
local function wait_one(item, options, memory)
  local ends, poll = time.mono() + options.timeout, options.poll
  while true do
    local done, states, pause = look(item, options, memory)
    if done then return states end
    local left = ends - time.mono()
    if left <= 0 or pause and pause > left then
      errors.raise("dns", ("%s TXT: after %s it is not everywhere: %s"):format(item.name,
        time.show(options.timeout), propagation.report(states)),
        {code = "PROPAGATION", states = states, retryable = true})
    end
    task.sleep(math.min(math.max(pause or 0, poll), left))
    poll = math.min(poll * 1.5, POLL_MAX)
  end
end

--- Wait for all of them at once, at most 32 looked at together. Raises dns with the report
--- of every item that did not come through.
---@param items dcv.Item[]
---@param options {how: dns.How, timeout: number, poll: number, tolerate: integer, resolvers: dns.Server[]?}
---@return dcv.State[][] states by item
function propagation.wait(items, options)
  local memory = {}
  local results, failed = task.each(items, {limit = 32}, function(item)
    return wait_one(item, options, memory)
  end)
  local first, lines
  for i in ipairs(items) do
    local err = failed[i] and errors.object(failed[i])
    if err and err.code ~= "PROPAGATION" then error(err, 0) end
    if err then
      first, lines = first or err, lines or {}
      lines[#lines + 1] = err.message
    end
  end
  if not first then return results end
  first.message = table.concat(lines, "\n")
  error(first, 0)
end

return propagation
