-- The estate file: what is refused, with place and mend, and when a certificate is due.
local estate = require "estate"
local fs = require "fs"

local DAY = 86400

local GOOD = [[
acme = {directory = "https://ca.example/dir"}
challenge = {webroot = "/var/www"}
state = "/nowhere"
certificates = {{name = "www", domains = {"www.example.com"}}}
]]

local function load(t, text)
  local path = t:tmpdir() .. "/estate.lua"
  fs.write(path, text)
  return estate.load(path)
end

--- The mistakes found in a file; each pattern must match one of them.
local function mistakes(t, text, ...)
  local err = t:raises(function() load(t, text) end, "usage", "ESTATE")
  local all = table.concat(err.details or {err.message}, "\n")
  for _, pattern in ipairs{...} do assert(all:find(pattern), all) end
  return err
end

--- GOOD with other certificates.
local function with(certificates)
  return (GOOD:gsub("certificates = .*", "certificates = {" .. certificates .. "}\n"))
end

test("the store is named by the estate, or stands in its state folder", function(t)
  local function store_of(line)
    local path = t:tmpdir() .. "/estate.lua"
    require("fs").write(path, line .. [[ state = "/var/lib/x" acme = {directory =
      "https://ca.example/dir"} challenge = {webroot = "/www"}
      certificates = {{name = "www", domains = {"www.example.com"}}}]])
    return require("estate").load(path).store
  end
  t:equal(store_of "", "sqlite:/var/lib/x/secrun.db")
  t:equal(store_of 'store = "sqlite:/srv/s.db"', "sqlite:/srv/s.db")
  local err = t:raises(function() store_of 'store = "s.db"' end, "usage")
  t:equal(err.details[1]:find("path absolute", 1, true) ~= nil, true)
end)

test("dns-01 is a challenge, with its driver's options checked, and proves wildcards",
  function(t)
    local function challenge(text)
      return (with '{name = "w", domains = {"*.example.com"}}':gsub(
        'challenge = {[^\n]*', "challenge = " .. text))
    end
    load(t, challenge [[{dns = {driver = "rfc2136", server = "192.0.2.53",
      key_name = "k", key_secret = secret "env:NOWHERE"}, wait = "10m"}]])
    for text, pattern in pairs{
      ['{dns = {driver = "rfc2163", server = "x"}}'] = "did you mean rfc2136%?",
      ['{dns = {driver = "rfc2136"}}'] = "server",
      ['{dns = {driver = "rfc2136", sever = "x"}}'] = "did you mean server%?",
      ['{dns = {driver = "rfc2136", server = "x"}, wiat = "1m"}'] = "did you mean wait%?",
      ['{dns = {driver = "rfc2136", server = "x"}, webroot = "/w"}'] = "webroot",
      ['{webroot = "/w"}'] = "only dns%-01 validates",
      ['{}'] = "one of them",
    } do mistakes(t, challenge(text), pattern) end
  end)

test("a good file gets its defaults", function(t)
  local e = load(t, GOOD)
  local www = e.certificates[1]
  t:equal({www.key_type, www.renew_before, www.install.dir, e.keep, e.policies},
    {"p256", 30 * DAY, "/nowhere/live/www", 3, {"keys", "names"}})
end)

test("every mistake is reported at once, with its place and mend", function(t)
  local err = mistakes(t, with[[
    {name = "www", domain = {"a.example"}},
    {name = "x/y", domains = {"a.example"}, install = {dir = "rel"}, org = "nope"},
    {name = "cmd", domains = {"b.example"}, reload = "systemctl reload nginx"},
  ]], "unknown option domain; did you mean domains%?", "letters, digits",
    "absolute path", "there is no orgs.nope",
    'reload is a list of words, {"systemctl", "reload", "nginx"}')
  assert(#err.details >= 5)
end)

test("names are checked as a certificate carries them", function(t)
  for name, why in pairs{
    ["WWW.example.com"] = "capitals", ["nodot"] = "no dot", ["a..example"] = "empty",
    ["-a.example.com"] = "label", ["münchen.example"] = "A%-label",
    ["192.0.2.1"] = "digits",
    ["a_b.example.com"] = "label", ["*.example.com"] = "dns%-01",
    [("a"):rep(64) .. ".example"] = "label",
  } do
    mistakes(t, with('{name = "n", domains = {"' .. name .. '"}}'), why)
  end
end)

test("state is an absolute path, keep a whole number", function(t)
  mistakes(t, (GOOD:gsub("/nowhere", "here")), "state: is an absolute path")
  mistakes(t, GOOD .. "keep = 1.5", "keep: is a number of generations")
  mistakes(t, GOOD .. "keep = 0", "keep: is a number of generations")
end)

test("a certificate needs a CA and a challenge", function(t)
  mistakes(t, 'certificates = {{name = "www", domains = {"a.example"}}}', "no CA here",
    "no challenge")
end)

test("a challenge is a webroot or a listener", function(t)
  mistakes(t, GOOD:gsub('webroot = "/var/www"', ""), "one of them")
  mistakes(t, GOOD:gsub('"/var/www"', '"www"'), "absolute path")
end)

test("plain http directories, wrong contacts and plain EAB keys are refused", function(t)
  mistakes(t, GOOD:gsub("https:", "http:"), "https:// URL")
  mistakes(t, GOOD:gsub('dir"', 'dir", contact = {"a@b"}'), "mailto:")
  mistakes(t, GOOD:gsub('dir"', 'dir", eab = {kid = "k", hmac_key = "plain"}'),
    "does not stand in the file")
end)

test("two certificates share neither name nor folder", function(t)
  mistakes(t, with[[
    {name = "a", domains = {"a.example"}, install = {dir = "/x"}},
    {name = "a", domains = {"a.example"}, install = {dir = "/x"}}]],
    "has the same name", "installs to the same folder")
end)

test("a syntax error and an unknown global are told with their line", function(t)
  mistakes(t, "certificates = {", "estate.lua:1")
  mistakes(t, GOOD .. "certifcates = {}", "estate.lua:5.*did you mean 'certificates'")
end)

test("a file that loops or eats memory is stopped", function(t)
  mistakes(t, "while true do end", "longer than")
  mistakes(t, "x = ('x'):rep(1e9)")
end)

test("a missing file says how to name one", function(t)
  t:raises(function() estate.load("/no/such/file.lua") end, "usage", "%-%-config FILE")
end)

test("an unknown certificate on the command line gets a suggestion", function(t)
  local e = load(t, GOOD)
  t:raises(function() estate.select(e, {"wwww"}) end, "usage", "did you mean www")
end)

test("a secret in the file stays a reference until it is asked for", function(t)
  local e = load(t, (GOOD:gsub('dir"',
    'dir", eab = {kid = "k", hmac_key = secret "env:SECRUN_TEST_EAB"}')))
  t:equal(estate.is_reference(e.acme.eab.hmac_key), true)
  t:raises(function() estate.secret(e.acme.eab.hmac_key) end, "not_found",
    "SECRUN_TEST_EAB")
end)

test("due is a third of life or renew_before, half below ten days", function(t)
  local certificate = {renew_before = 30 * DAY}
  t:equal(estate.due_at(certificate, 0, 90 * DAY), 60 * DAY)
  t:equal(estate.due_at(certificate, 0, 300 * DAY), 200 * DAY)
  t:equal(estate.due_at(certificate, 0, 6 * DAY), 3 * DAY)
  assert(estate.due_at({renew_before = 60 * DAY}, 0, 47 * DAY) > 0)
end)

test("an org's settings win over the estate's, the certificate's over both", function(t)
  local e = load(t, [[
    acme = {directory = "https://all.example/dir"}
    challenge = {webroot = "/all"}
    state = "/nowhere"
    orgs = {north = {acme = {directory = "https://north.example/dir"}}}
    certificates = {
      {name = "a", domains = {"a.example"}, org = "north"},
      {name = "b", domains = {"b.example"}, challenge = {webroot = "/own"}},
    }]])
  t:equal(estate.of(e, e.certificates[1], "acme").directory, "https://north.example/dir")
  t:equal(estate.of(e, e.certificates[1], "challenge").webroot, "/all")
  t:equal(estate.of(e, e.certificates[2], "challenge").webroot, "/own")
end)

test("what the file calls a secret is inherited by no child", function(t)
  local path = t:tmpdir() .. "/estate.lua"
  require "fs".write(path, [[
acme = {directory = "https://ca.test/dir", terms_agreed = true,
  eab = {kid = "1", hmac_key = secret "env:EAB_CANARY"}}
challenge = {webroot = "/tmp"}
certificates = {{name = "a", domains = {"a.test"}}}
]])
  local r = require "process".run{env = {EAB_CANARY = "canary-6"}, argv = {
    "/proc/self/exe", "-e", ([[
require "estate".load(%q)
io.write(require "process".run{argv = {"sh", "-c", "echo ${EAB_CANARY-none}"}}.stdout)]])
      :format(path)}}
  t:equal(r.stdout, "none\n")
end)

test("budgets name a CA, an organization or an account", function(t)
  mistakes(t, GOOD .. 'budgets = {["cas:x"] = {max_running = 1}, ["org:a"] = {max_runing '
    .. '= 1}, ["ca:scm"] = 3}', 'budgets%["cas:x"%]: a scope is',
    "did you mean max_running", 'budgets%["ca:scm"%]: is a table')
  t:equal(load(t, GOOD .. 'budgets = {["org:a"] = {max_running = 2, rate = 10, period = '
    .. '"1h"}}').budgets["org:a"].max_running, 2)
end)

test("OV and EV go by SCM and need its settings, DV by ACME", function(t)
  mistakes(t, with '{name = "n", product = "EV SSL", domains = {"a.example.com"}}',
    "EV SSL is ordered by SCM, and there is no scm")
  mistakes(t, with '{name = "n", product = "EV SL", domains = {"a.example.com"}}',
    'did you mean "EV SSL"')
  local e = load(t, 'scm = {customer_uri = "x", login = "y", password = secret "env:Z", '
    .. 'org = "o"}\n' .. with [[
      {name = "n", product = "EV SSL", domains = {"a.example.com"}},
      {name = "d", product = "PositiveSSL", domains = {"b.example.com"}}]])
  t:equal(estate.channel(e, e.certificates[1]), "scm")
  t:equal(estate.channel(e, e.certificates[2]), "acme")
end)
