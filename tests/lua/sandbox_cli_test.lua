-- secrun sandbox, and --sandbox on other scripts: what is real stays out of reach, and nothing
-- is left behind.

local eventually = require "eventually"
local fs = require "fs"
local http = require "http"
local json = require "json"
local process = require "process"
local program = require "program"
local stream = require "stream"

--- Run with --sandbox and a temporary folder of the test's own; nothing may be left in it.
local function run(t, words, env)
  local folder = t:tmpdir()
  local all = {TMPDIR = folder}
  for name, value in pairs(env or {}) do all[name] = value end
  local result = program.run(words, {env = all})
  t:equal(fs.list(folder), {})
  return result
end

local function output(result, status)
  if result.status ~= (status or 0) then
    error(("status %s: %s%s"):format(result.status, result.stdout, result.stderr), 2)
  end
  return result.stdout
end

-- ------------------------------------------------------------------ secrun sandbox

local function start(t, ...)
  local folder = t:tmpdir()
  local child = process.spawn{argv = {program.path, "sandbox", ...},
    env = {TMPDIR = folder}}
  t:defer(function() child:close() end)
  local seen = {}
  repeat
    local line = assert(child:read_line "20s", table.concat(seen, "\n"))
    seen[#seen + 1] = line
  until line:find "/api/ssl/v1"
  local text = table.concat(seen, "\n")
  return child, {text = text, folder = folder, url = text:match "SCM%s+(https://%S+)",
    ca = text:match "TLS CA%s+(%S+)", mail = text:match "mail%s+127.0.0.1:(%d+)"}
end

test("secrun sandbox says how to reach it, serves, and ends cleanly", function(t)
  local child, info = start(t, "--certs", "7")
  local res = http.get(info.url .. "/api/ssl/v1", {ca = info.ca, headers = {login = "api",
    password = "api-password", customerUri = "sandbox"}})
  t:equal(#res:json(), 7)
  child:kill "SIGINT"
  t:equal(child:wait("10s").status, 0)
  t:equal(fs.list(info.folder), {})
end)

test("secrun sandbox shows the mail it catches", function(t)
  local child, info = start(t)
  local conn <close> = stream.connect{host = "127.0.0.1", port = tonumber(info.mail)}
  for _, line in ipairs{"EHLO me", "RCPT TO:<b@b.test>", "MAIL FROM:<a@a.test>",
    "RCPT TO:<b@b.test>", "DATA",
    "Subject: It works\r\n\r\nSeen\27[31m.\r\n.", "QUIT"} do
    conn:write(line .. "\r\n")
    conn:read()
  end
  local line
  repeat line = assert(child:read_line "10s") until line:find "^mail "
  t:equal(line, "mail refused: 503 5.5.1 MAIL first")
  line = child:read_line "10s"
  t:equal(line, "mail 1 from <a@a.test> to b@b.test: It works")
  t:equal(child:read_line "10s", "  Seen?[31m.")
end)

test("secrun sandbox takes settings, and names wrong ones", function(t)
  local _, info = start(t, "--set", "approval=manual,page_size=3,lag=0", "--certs", "5")
  local res = http.get(info.url .. "/api/ssl/v1", {ca = info.ca, headers = {login = "api",
    password = "api-password", customerUri = "sandbox"}})
  t:equal(#res:json(), 3)
  for words, text in pairs{["--set\nstuk=true"] = "did you mean stuck?",
    ["--set\nstuck"] = "is not NAME=VALUE", extra = "secrun extra --sandbox",
      ["--certs\nx"] = "whole number"} do
    local list = {"sandbox"}
    for word in words:gmatch "[^\n]+" do list[#list + 1] = word end
    local result = run(t, list)
    t:equal(result.status, 2)
    assert(result.stderr:find(text, 1, true), result.stderr)
  end
end)

test("a folder that is kept has the same CA the next time", function(t)
  local kept, roots = t:tmpdir() .. "/kept", {}
  for i = 1, 2 do
    local child = start(t, "--keep", kept)
    roots[i] = fs.read(kept .. "/root.pem")
    child:kill "SIGTERM"
    t:equal(child:wait("10s").status, 0)
  end
  t:equal(roots[1], roots[2])
  t:equal(fs.stat(kept .. "/ca/root.key").mode, "0600")
end)

-- ------------------------------------------------------------------ --sandbox

test("--sandbox gives a text on the command line an SCM", function(t)
  local text = [[
    local scm = require "sandbox".scm()
    local n = 0
    for cert in scm.ssl:list{status = "Issued"} do n = n + 1 end
    print(n > 0, #scm:call "organization.list")
  ]]
  t:equal(output(run(t, {"--sandbox-certs", "20", "-e", text})), "true\t3\n")
  local oauth = "print(#require'sandbox'.scm{oauth = true}:call 'organization.list')"
  t:equal(output(run(t, {"--sandbox", "-e", oauth})), "3\n")
end)

test("--sandbox may stand before and after a script's name", function(t)
  for _, words in ipairs{{"--sandbox", "check"}, {"check", "--sandbox"},
    {"check", "--sandbox-certs=3"}, {"check", "--sandbox-certs", "3"}} do
    local text = output(run(t, words))
    assert(text:find("login.example.com", 1, true), text)
  end
end)

test("a script's own words and its exit status pass through", function(t)
  local path = program.file(t:tmpdir(), "s.lua", [[
description = "Test."
function main(words) print(table.concat(words, " ")) return 3 end
]])
  local result = run(t, {path, "a", "--sandbox", "b", "--", "--sandbox"})
  t:equal({result.stdout, result.status}, {"a b -- --sandbox\n", 3})
  local plain = program.file(t:tmpdir(), "p.lua", "print(...)")
  t:equal(output(program.run{plain, "--sandbox"}), "--sandbox\n")
end)

test("the network ends at this machine", function(t)
  local text = output(run(t, {"--sandbox", "-e",
    "print(select(2, try(require'http'.get, 'https://192.0.2.1/')))"}))
  assert(text:find("reaches this machine only", 1, true), text)
  local needs = program.file(t:tmpdir(), "n.lua", [[
description = "Test."
needs = {net = {"*.sectigo.com"}}
function main() print(#require"sandbox".scm():call "organization.list") end
]])
  t:equal(output(run(t, {"--sandbox", needs})), "3\n")
end)

test("secrets are not resolved", function(t)
  local folder = t:tmpdir()
  local canary = program.file(folder, "canary", "canary-4711")
  local text = ([[
    local fs, x = require "fs", 0
    for _, source in ipairs{"env:CANARY", "file:%s",
    {exec = {"/bin/echo", "canary-4711"}},
      "cred:none"} do
      x = x + 1
      fs.write("%s/out" .. x, secret(source))
    end
  ]]):format(canary, folder)
  output(run(t, {"--sandbox", "-e", text}, {CANARY = "canary-4711"}))
  for i = 1, 4 do
    assert(fs.read(folder .. "/out" .. i):find "was not read", i)
  end
end)

test("installs go into the folder, and reload commands are printed", function(t)
  local text = [[
    local x509, deploy = require "x509", require "deploy"
    local key = x509.key{}
    local pem = x509.sign{key = key, names = {"www.example.com"}}:pem()
    deploy.install{dir = "/nowhere/www", pem = pem, key = key, reload = {"false", "now"}}
    local folder = require "practice".folder()
    print(require "fs".exists(folder .. "/root/nowhere/www/current"))
    print(deploy.current "/nowhere/www".leaf.names[1])
  ]]
  t:equal(output(run(t, {"--sandbox", "-e", text})),
    "would run: false now\ntrue\nwww.example.com\n")
  assert(not fs.exists "/nowhere")
end)

test("the approver's login approves what the other asked for", function(t)
  local text = [[
    local x509, sandbox = require "x509", require "sandbox"
    local api, approver = sandbox.scm(), sandbox.scm{login = "approver"}
    local csr = x509.csr{key = x509.key{}, names = {"www.example.com"},
      subject = {CN = "www.example.com"}}:pem()
    local made = api:call("ssl.enroll", {orgId = 101, certType = 521, csr = csr,
    term = 199})
    print(try(api.call, api, "ssl.approve", {id = made.sslId, message = "me"}))
    approver:call("ssl.approve", {id = made.sslId, message = "fine"})
    print(api:call("ssl.get", {sslId = made.sslId}).status)
  ]]
  local lines = output(run(t, {"--sandbox", "-e", text}))
  assert(lines:find "not authorized" and lines:find "Approved", lines)
end)

test("wrong uses are named", function(t)
  for words, text in pairs{["--sandbox-certs\nx\n-e\n"] = "number of certificates, got x",
    ["--sandbox-certs"] = "got nothing", ["--sandbox\nsandbox"] = "for other scripts",
    ["--sandbx\n-e\n"] = "did you mean --sandbox?"} do
    local list = {}
    for word in words:gmatch "[^\n]+" do list[#list + 1] = word end
    local result = run(t, list)
    t:equal(result.status, 2)
    assert(result.stderr:find(text, 1, true), result.stderr)
  end
  local result = run(t, {"-e", "require'sandbox'.info()"})
  assert(result.stderr:find "secrun %-%-sandbox", result.stderr)
end)

test("a sandbox whose program was killed ends by itself", function(t)
  local folder = t:tmpdir()
  local child = process.spawn{argv = {program.path, "--sandbox", "-e", [[
    print(require "json".encode(require "sandbox".info()))
    io.stdout:flush()
    require "task".sleep(600)
  ]]}, env = {TMPDIR = folder}}
  t:defer(function() child:close() end)
  local info = json.decode(assert(child:read_line "20s"))
  t:equal(#fs.list(folder), 1)
  child:kill "SIGKILL"
  child:wait "10s"
  assert(eventually(function() return #fs.list(folder) == 0 end), "it is still there")
  t:raises(function() http.get(info.url .. "/control/status", {ca = info.tls_ca,
    retry = 0}) end)
end)
