--- One question, and the servers it is put to until one answers it.
--
--     local answer = exchange.ask(servers, {name = "example.com", type = "A"}, how)
--
-- UDP first, from a fresh random port with a fresh random id. TCP follows when the answer
-- is truncated, and on doubt: when a datagram came that is not the answer, somebody may be
-- guessing. A server that does not know EDNS is asked again without it. What went wrong
-- with whom stays in the answer's `tries`, or in the error's.

local core = require "dns.core"
local errors = require "errors"
local stream = require "stream"
local task = require "task"
local time = require "time"

local exchange = {}

---@class dns.How
---@field timeout number seconds in all
---@field attempt number seconds a server has
---@field tries integer rounds over the servers
---@field transport "udp"|"tcp"|nil
---@field udp_size integer EDNS; 0: without EDNS
---@field recursion boolean
---@field check boolean? ask without DNSSEC validation (CD)

---@class dns.Message
---@field id integer
---@field opcode string
---@field rcode string "NOERROR", "NXDOMAIN" …
---@field flags {aa: boolean, tc: boolean, rd: boolean, ra: boolean, ad: boolean, cd: boolean}
---@field question {name: string, type: string, class: string}?
---@field answer dns.Record[]
---@field authority dns.Record[]
---@field additional dns.Record[]
---@field edns {size: integer, version: integer, dnssec_ok: boolean}?
---@field size integer bytes
---@field server string whom we asked, "192.0.2.53:53"
---@field ns string? its name, where it was found by one
---@field transport "udp"|"tcp"
---@field ms number how long this server took
---@field truncated boolean? its UDP answer was
---@field tries {server: string, transport: string, ms: number, error: string, code: string}[]

---@class dns.Record
---@field name string lower case, no dot at the end
---@field type string
---@field class string
---@field ttl integer
---@field value string as in a zone file
---@field address string? of A, AAAA
---@field target string? of CNAME, DNAME, NS, PTR, SRV
---@field text string? of TXT: its strings joined
---@field preference integer? of MX, with exchange
---@field exchange string?
---@field tag string? of CAA, with flags and content
---@field content string?
---@field flags integer?
---@field mname string? of SOA, with rname, serial, refresh, retry, expire, minimum
---@field serial integer?
---@field minimum integer?

-------------------------------------------------------------------- transports

local function late(wait)
  errors.raise("timeout", ("no answer within %g s"):format(wait), {code = "TIMEOUT"})
end

--- recv and read raise their own words when their time is over.
local function within(wait, fn, ...)
  local data, err = try(fn, ...)
  if data then return data end
  if err and err.kind == "timeout" and not task.cancelled() then late(wait) end
  if err then error(err, 0) end
end

--- Send and wait for the answer; nil and why when TCP is to be asked instead.
local function over_udp(server, query, wait)
  local socket <close> = stream.udp{peer = {host = server.host, port = server.port}}
  socket:send(query)
  local data = within(wait, socket.recv, socket, {timeout = wait})
  local ok, why = core.answers(query, data)
  if ok then return data end
  return nil, "a datagram came that is not the answer (" .. why .. ")"
end

local function over_tcp(server, query, wait)
  local ends = time.mono() + wait
  local function left()
    local seconds = ends - time.mono()
    return seconds > 0 and seconds or late(wait)
  end
  local conn <close> = within(wait, stream.connect,
    {host = server.host, port = server.port, timeout = wait})
  conn:write(string.pack(">s2", query), {timeout = left()})
  local head = within(wait, conn.read, conn, 2, {timeout = left()})
  if not head then
    errors.raise("protocol", "it closed the connection without an answer",
      {code = "CLOSED"})
  end
  local data = within(wait, conn.read, conn, (">I2"):unpack(head), {timeout = left()})
  local ok, why = core.answers(query, data or "")
  if ok then return data end
  errors.raise("protocol", "what it sent over TCP is not the answer: " .. why,
    {code = "NOT_THE_ANSWER"})
end

--- Send whole bytes to one server by one transport; the answer's bytes. For messages that
--- are signed, which must not change on the way.
---@param server dns.Server
---@param query string
---@param transport "udp"|"tcp"
---@param wait number seconds
---@return string? wire, string? why nil over UDP when TCP is to be asked
function exchange.send(server, query, transport, wait)
  if transport == "tcp" then return over_tcp(server, query, wait) end
  return over_udp(server, query, wait)
end

-------------------------------------------------------------------- one server

--- Errors that are the caller's affair and not the server's.
local function is_ours(err)
  return task.cancelled() or err.kind == "cancelled" or err.kind == "denied"
    or err.kind == "usage" or err.kind == "internal"
end

--- The words of a failure without what was being done: that is said once.
local WORDS = {ECONNREFUSED = "connection refused; nothing listens there",
  ENETUNREACH = "network unreachable from here", EHOSTUNREACH = "host unreachable"}

local function words_of(err)
  return WORDS[err.code] or err.message
end

local NO_EDNS = {FORMERR = true, NOTIMP = true, BADVERS = true}

local function build(question, how, edns)
  return core.encode{question = question, edns = edns > 0 and edns or nil,
    flags = {rd = how.recursion, cd = how.check == false or nil}}
end

--- One way to one server: the decoded answer, or nil and the error. Adds to tries.
local function attempt(server, question, how, transport, edns, wait, tries)
  local started = time.mono()
  local query = build(question, how, edns)
  local data, why = try(exchange.send, server, query, transport, wait)
  local answer
  if data then answer, why = try(core.decode, data) end
  local ms = (time.mono() - started) * 1000
  if answer then
    answer.server, answer.transport, answer.ms, answer.ns = server.text, transport, ms,
      server.ns
    return answer
  end
  if type(why) == "string" then
    why = errors.new{kind = "protocol", message = why, code = "DOUBT", retryable = true}
  end
  if is_ours(why) then error(why, 0) end
  tries[#tries + 1] = {server = server.text, ns = server.ns, transport = transport,
    ms = ms, error = words_of(why), code = why.code or why.kind}
  return nil, why
end

--- Ask one server, by whatever way it takes: its answer, or nil and why there is none.
---@param server dns.Server
---@param question {name: string, type: string}
---@param how dns.How
---@param wait number seconds
---@param tries table[] what failed is added
---@return dns.Message?, table? err
function exchange.once(server, question, how, wait, tries)
  local transport, edns = how.transport or "udp", how.udp_size
  local truncated
  for _ = 1, 4 do
    local answer, err = attempt(server, question, how, transport, edns, wait, tries)
    if answer and NO_EDNS[answer.rcode] and edns > 0 and not answer.edns then
      edns = 0
    elseif answer and answer.flags.tc and transport == "udp" and not how.transport then
      transport, truncated = "tcp", true
    elseif answer then
      answer.truncated = truncated
      return answer
    elseif err.code == "DOUBT" and how.transport ~= "udp" then
      transport = "tcp"
    else
      return nil, err
    end
  end
  return nil, errors.new{kind = "protocol", code = "LOOP",
    message = "it never gave a usable answer"}
end

-------------------------------------------------------------------- many servers

--- What ends the search: everything else may be better elsewhere.
local FINAL = {NOERROR = true, NXDOMAIN = true}

--- What the same server may do better the next time.
local AGAIN = {TIMEOUT = true, SERVFAIL = true, timeout = true}

local function shown(tries)
  local order, said = {}, {}
  for _, try_ in ipairs(tries) do
    local who = try_.ns and ("%s (%s)"):format(try_.ns, try_.server) or try_.server
    local key = who .. ": " .. try_.error
      .. (try_.transport == "tcp" and " over TCP" or "")
    if not said[key] then order[#order + 1] = key end
    said[key] = (said[key] or 0) + 1
  end
  for i, key in ipairs(order) do
    if said[key] > 1 then order[i] = ("%s (%d times)"):format(key, said[key]) end
  end
  return table.concat(order, "; ")
end

--- The error for a question that nobody answered.
local function give_up(question, tries)
  local last = tries[#tries]
  local code, retryable = last and last.code or "TIMEOUT", false
  for _, try_ in ipairs(tries) do retryable = retryable or AGAIN[try_.code] == true end
  errors.raise("dns", ("%s %s: no server answered: %s"):format(question.name,
    question.type, shown(tries)), {code = code, retryable = retryable, tries = tries})
end

--- Put a question to the servers, in order and in rounds, until one answers it.
--- Raises dns (code: what the last one did, tries: all of them), denied, cancelled.
---@param list dns.Server[]
---@param question {name: string, type: string}
---@param how dns.How
---@return dns.Message
function exchange.ask(list, question, how)
  local tries, hopeless = {}, {}
  local ends = time.mono() + how.timeout
  for _ = 1, how.tries do
    for _, server in ipairs(list) do
      local left = ends - time.mono()
      if left <= 0 then give_up(question, tries) end
      if not hopeless[server] then
        local answer = exchange.once(server, question, how, math.min(how.attempt, left),
          tries)
        if answer and FINAL[answer.rcode] then
          answer.tries = tries
          return answer
        elseif answer then
          tries[#tries + 1] = {server = server.text, ns = server.ns, ms = answer.ms,
            transport = answer.transport, error = answer.rcode, code = answer.rcode}
        end
        hopeless[server] = not AGAIN[tries[#tries].code] or nil
      end
    end
  end
  give_up(question, tries)
end

return exchange
