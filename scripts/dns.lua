description = "Ask DNS: a question, every server of a zone, or the walk from the root."
usage = "secrun dns query|survey|trace NAME [TYPE] [@SERVER[:PORT]…]"
needs = {write = {}, run = {}}
options = {
  {name = "json", type = "flag", doc = "print JSON, for programs"},
  {name = "tcp", type = "flag", doc = "ask over TCP only"},
  {name = "udp", type = "flag", doc = "ask over UDP only; an answer may be truncated"},
  {name = "no-recursion", type = "flag", doc = "query: what this server itself knows"},
  {name = "no-check", type = "flag", doc = "query: also what fails DNSSEC validation"},
  {name = "all", type = "flag", doc = "trace: ask every server of the last zone"},
  {name = "port", type = "integer", value = "N", positive = true,
    doc = "of servers without one, and of those found (53)"},
  {name = "timeout", type = "duration", value = "TIME", doc = "in all (10s)"},
}

local args = require "args"
local cli = require "cli"
local dns = require "dns"
local errors = require "errors"
local json = require "json"
local textable = require "textable"

local COMMANDS = {"query", "survey", "trace"}

-- What the options mean for the module, by command.
local function settings(opts, command, given)
  if opts.tcp and opts.udp then cli.usage_error("give --tcp or --udp, not both") end
  local list = #given > 0 and given or nil
  return {
    transport = opts.tcp and "tcp" or opts.udp and "udp" or nil, timeout = opts.timeout,
    port = opts.port, servers = command ~= "trace" and list or nil,
    roots = command == "trace" and list or nil,
    authority_port = command == "survey" and opts.port or nil,
    all = command == "trace" and opts.all or nil,
    recursion = command == "query" and not opts.no_recursion or nil,
    check = command == "query" and not opts.no_check or nil,
  }
end

--- NAME, TYPE and the servers among the words.
local function read(words)
  local rest, given = {}, {}
  for _, word in ipairs(words) do
    local server = word:match "^@(.*)$"
    if server then given[#given + 1] = server else rest[#rest + 1] = word end
  end
  local name, kind = rest[1], rest[2]
  if not name then cli.usage_error("which name? secrun dns query www.example.com A") end
  if rest[3] then
    cli.usage_error(("%q is too much; it takes a name, a type and @servers"):format(
      rest[3]))
  end
  if kind and kind:find(".", 1, true) and not name:find(".", 1, true) then
    cli.usage_error(("the name comes first: %s %s"):format(kind, name:upper()))
  end
  local reverse = dns.reverse(name)
  return reverse or name, kind or reverse and "PTR" or "A", given
end

local function plain_ms(ms) return (ms < 10 and "%.1f" or "%.0f"):format(ms) end

local function record_rows(lists)
  local rows = {}
  for _, list in ipairs(lists) do
    for _, record in ipairs(list) do
      rows[#rows + 1] = {record.name, record.ttl, record.type, record.value}
    end
  end
  return rows
end

local function show_tries(tries)
  for _, try_ in ipairs(tries) do
    print(textable.clean(("before that, %s over %s in %s ms: %s"):format(try_.server,
      try_.transport:upper(), plain_ms(try_.ms), try_.error)))
  end
end

local function flags_of(answer)
  local list = {}
  for _, name in ipairs{"aa", "tc", "rd", "ra", "ad", "cd"} do
    if answer.flags[name] then list[#list + 1] = name end
  end
  return table.concat(list, " ")
end

local run = {}

function run.query(options)
  local answer = dns.query(options)
  local rows = record_rows{answer.aliases, answer.records}
  return answer, #answer.records > 0 and 0 or 1, function()
    if #rows > 0 then print(textable.format({"name", "ttl", "type", "value"}, rows)) end
    if not answer.exists then
      print(("%s does not exist"):format(answer.canonical))
    elseif #answer.records == 0 then
      print(("%s has no %s record"):format(answer.canonical, answer.type))
    end
    if answer.negative_ttl then
      print(("the zone %s lets that be remembered for %d s"):format(answer.soa.name,
        answer.negative_ttl))
    end
    print(("%s from %s over %s in %s ms, %d bytes, flags %s"):format(answer.rcode,
      answer.server, answer.transport:upper(), plain_ms(answer.ms), answer.size,
      flags_of(answer)))
    show_tries(answer.tries)
  end
end

function run.survey(options)
  local seen = dns.survey(options)
  local rows, status = {}, seen.agree and 0 or 1
  for i, row in ipairs(seen.rows) do
    local said = row.error or row.alias and "→ " .. row.alias or row.values[1]
      and table.concat(row.values, " | ") or row.rcode == "NXDOMAIN" and "(no such name)"
      or "(no such record)"
    rows[i] = {row.server.ns or "", row.server.text, row.ms and plain_ms(row.ms) or "",
      row.ttl or "", row.soa and row.soa.serial or "", said}
  end
  return seen, status, function()
    print(("the zone is %s, serial %d; an absence may be remembered for %d s"):format(
      seen.zone.name, seen.zone.soa.serial, seen.zone.negative_ttl))
    print(textable.format({"server", "address", "ms", "ttl", "serial", "says"}, rows))
    for _, name in ipairs(seen.zone.unresolved) do
      print(textable.clean(name) .. " has no address")
    end
    print(seen.agree and "all agree" or "they do not agree")
  end
end

function run.trace(options)
  local walk = dns.trace(options)
  local rows = {}
  for i, step in ipairs(walk.steps) do
    rows[i] = {step.zone, step.ns or "", step.server, plain_ms(step.ms), step.outcome,
      step.detail}
  end
  return walk, walk.outcome == "answer" and 0 or 1, function()
    print(textable.format({"zone", "server", "address", "ms", "", "says"}, rows))
    print(textable.clean(walk.why))
  end
end

--- Errors without a trace: what was typed wrong is status 2, what DNS does wrong is 1.
local function failed(err)
  err = errors.object(err)
  if err.kind == "usage" then cli.usage_error(err.message) end
  if err.kind ~= "dns" and err.kind ~= "denied" and err.kind ~= "not_found" then
    error(err, 0)
  end
  io.stderr:write("secrun dns: ", textable.clean(err.message), "\n")
  return 1
end

--- Lists that may be empty stay lists in JSON.
local function as_json(found)
  for _, key in ipairs{"aliases", "answer", "authority", "additional", "records", "tries",
    "rows", "steps"} do
    if found[key] then found[key] = json.array(found[key]) end
  end
  return json.encode(found)
end

local function command_of(word)
  if run[word] then return word end
  local close = word and args.suggest(word, COMMANDS)
  cli.usage_error(("%s; it is one of: %s"):format(word
    and ("there is no %q%s"):format(word, close and (", did you mean %s?"):format(close)
      or "") or "which command?", table.concat(COMMANDS, ", ")))
end

function main(words)
  local opts, rest = require("options").parse(words, options)
  local command = command_of(table.remove(rest, 1))
  local name, kind, given = read(rest)
  local asked = settings(opts, command, given)
  asked.name, asked.type = name, kind
  local ok, found, status, show = pcall(run[command], asked)
  if not ok then return failed(found) end
  if opts.json then
    print(as_json(found))
  else
    show()
  end
  return status
end
