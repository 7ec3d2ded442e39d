-- ACME against Pebble, with its default chaos and with every switch it has.
local acme = require "acme"
local fs = require "fs"
local json = require "json"
local pebble = require "pebble"
local task = require "task"
local x509 = require "x509"

-- Kept-alive connections to a Pebble that is gone stay in the pool of HTTP connections.
local LONG = {timeout = "90s", leaks = true}

local function account(t, ca, options)
  options = options or {}
  options.directory, options.ca, options.terms_agreed = ca.directory, ca.ca, true
  options.key = options.key or {file = t:tmpdir() .. "/account.pem"}
  return acme.account(options)
end

local function issue(t, ca, a, names, options)
  options = options or {}
  options.names, options.state_dir = names, options.state_dir or t:tmpdir()
  options.solver = options.solver or acme.http01{listen = ca.http01}
  options.timeout = options.timeout or "40s"
  return a:issue(options)
end

--- The certificate is for exactly these names and our key.
local function check(t, result, names)
  local got = {}
  for i, name in ipairs(result.chain[1].names) do got[i] = name end
  table.sort(got)
  t:equal(got, names)
  assert(result.key:matches(result.chain[1]))
  assert(#result.chain >= 2, "no issuer in the chain")
end

test("a certificate by the built-in server", LONG, function(t)
  local ca = pebble.start(t)
  local result = issue(t, ca, account(t, ca), {"WWW.Example.test", "example.test."})
  check(t, result, {"example.test", "www.example.test"})
  t:equal(ca:issued(), 1)
end)

test("a certificate by a webroot", LONG, function(t)
  local ca, root = pebble.start(t), t:tmpdir()
  local server = require("http").serve{listen = ca.http01, routes = {
    ["GET /{path...}"] = function(request)
      return {body = {file = root .. "/" .. request.params.path}}
    end}}
  t:defer(function() server:close() end)
  local result = issue(t, ca, account(t, ca), {"a.test"},
    {solver = acme.http01{webroot = root .. "/"}})
  check(t, result, {"a.test"})
  t:equal(fs.list(root .. "/.well-known/acme-challenge"), {})
end)

test("every account key type and leaf key type", LONG, function(t)
  local ca = pebble.start(t)
  for _, kind in ipairs{"p384", "p521", "rsa2048"} do
    local a = account(t, ca, {key = x509.key{type = kind}})
    local result = issue(t, ca, a, {kind .. ".test"}, {key_type = kind})
    t:equal(result.key.type, kind)
    check(t, result, {kind .. ".test"})
  end
end)

test("an address as identifier", LONG, function(t)
  local ca = pebble.start(t)
  check(t, issue(t, ca, account(t, ca), {"127.0.0.1"}), {"127.0.0.1"})
end)

test("twenty renewals in a row with a strict server", LONG, function(t)
  local ca = pebble.start(t, {strict = true})
  local a = account(t, ca)
  for i = 1, 20 do
    local result = issue(t, ca, a, {"www.example.test", "example.test"})
    check(t, result, {"example.test", "www.example.test"})
    result:done()
    t:equal(ca:issued(), i)
  end
end)

test("nine nonces in ten refused", LONG, function(t)
  local ca = pebble.start(t, {nonce_reject = 90})
  check(t, issue(t, ca, account(t, ca), {"a.test"}), {"a.test"})
end)

test("six at once with default sleeps", LONG, function(t)
  local ca = pebble.start(t, {sleep = true, authz_reuse = 0})
  local a, solver = account(t, ca), acme.http01{listen = ca.http01}
  local names = {"a.test", "b.test", "c.test", "d.test", "e.test", "f.test"}
  local results, errors = task.each(names, {limit = 6}, function(name)
    return issue(t, ca, a, {name}, {solver = solver})
  end)
  t:equal(#errors, 0, tostring(errors[1]))
  for i, name in ipairs(names) do check(t, results[i], {name}) end
  t:equal(solver.server, nil, "the solver still listens")
end)

test("reused authorizations need no challenge", LONG, function(t)
  local ca = pebble.start(t, {authz_reuse = 100})
  local a, presented = account(t, ca), 0
  issue(t, ca, a, {"a.test"})
  local result = issue(t, ca, a, {"a.test"}, {on_step = function(step)
    if step == "presented" then presented = presented + 1 end
  end})
  check(t, result, {"a.test"})
  t:equal(presented, 0)
end)

test("a chain of three intermediates that leads to Pebble's root", LONG, function(t)
    local ca = pebble.start(t, {chain_length = 3, alternate_roots = 2})
    local a = account(t, ca, {roots = ca:management("/roots/0")})
    t:equal(#issue(t, ca, a, {"a.test"}).chain, 4)
  end)

test("a chain that does not lead to the given roots is refused", LONG, function(t)
    local ca = pebble.start(t, {alternate_roots = 1})
    local a = account(t, ca, {roots = ca:management("/roots/1")})
    t:raises(function() issue(t, ca, a, {"a.test"}) end, "protocol", "given roots")
  end)

test("an alternate chain is chosen by the name of its root", LONG, function(t)
  local ca = pebble.start(t, {alternate_roots = 2})
  local a = account(t, ca)
  for i = 0, 2 do
    local root = x509.read(ca:management("/roots/" .. i)).subject.CN
    local chain = issue(t, ca, a, {("alt%d.test"):format(i)},
      {prefer_chain = {issuer = root}}).chain
    t:equal(chain[#chain].issuer.CN, root)
  end
end)

local EAB_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"

test("an external account is bound", LONG, function(t)
  local ca = pebble.start(t, {eab = {["kid-1"] = EAB_KEY}})
  t:raises(function() account(t, ca) end, "auth", "eab")
  t:raises(function()
    account(t, ca, {eab = {kid = "kid-1", hmac_key = "AAAA" .. EAB_KEY}})
  end, nil, "newAccount")
  local a = account(t, ca, {eab = {kid = "kid-1", hmac_key = EAB_KEY}})
  check(t, issue(t, ca, a, {"a.test"}), {"a.test"})
end)

test("the account is found again by file, and by key without it", LONG, function(t)
    local ca, file = pebble.start(t), t:tmpdir() .. "/account.pem"
    local first = account(t, ca, {key = {file = file}})
    t:equal(fs.stat(file).mode, "0600")
    t:equal(account(t, ca, {key = {file = file}}):url(), first:url())
    fs.remove(file .. ".account.json")
    t:equal(account(t, ca, {key = {file = file}}):url(), first:url())
    local _, count = ca:log():gsub("There are now %d+ accounts", "")
    t:equal(count, 1)
  end)

test("a CA that forgot the account gets the same key once more", LONG, function(t)
    local ca, file, key = pebble.start(t), t:tmpdir() .. "/account.pem",
      x509.key{type = "p256"}
    local gone = ca.directory:gsub("/dir$", "/my-account/gone")
    fs.write(file, key:pem())
    fs.write(file .. ".account.json", json.encode{directory = ca.directory, url = gone,
      thumbprint = key:thumbprint()})
    local a = account(t, ca, {key = {file = file}})
    t:equal(a:url(), gone)
    check(t, issue(t, ca, a, {"a.test"}), {"a.test"})
    assert(a:url() ~= gone)
    t:equal(account(t, ca, {key = {file = file}}):url(), a:url())
  end)

test("a name the CA cannot reach says so, and cleans up", LONG, function(t)
  local ca, root = pebble.start(t), t:tmpdir()
  local a = account(t, ca)
  local err = t:raises(function()
    issue(t, ca, a, {"a.test"}, {solver = acme.http01{webroot = root}})
  end, nil, "authorization for a.test")
  assert(err.code:find("urn:ietf:params:acme:error:", 1, true), err.code)
  t:equal(fs.list(root .. "/.well-known/acme-challenge"), {})
end)

test("a CA whose certificate is not trusted is not asked", LONG, function(t)
  local ca = pebble.start(t)
  t:raises(function()
    acme.account{directory = ca.directory, key = x509.key{type = "p256"},
      terms_agreed = true}
  end, "tls")
end)

test("terms have to be agreed to", LONG, function(t)
  local ca = pebble.start(t)
  t:raises(function()
    acme.account{directory = ca.directory, ca = ca.ca, key = x509.key{type = "p256"}}
  end, "usage", "terms_agreed = true")
end)

test("an order that nobody wrote down is found in the account's list", LONG, function(t)
  local ca = pebble.start(t)
  local a = acme.account{directory = ca.directory, ca = ca.ca, terms_agreed = true,
    key = x509.key{}}
  t:equal({a:find_order{names = {"a.test"}}}, {nil, true})
  local other = a:order{names = {"b.test"}}
  local one, two = a:order{names = {"a.test"}}, a:order{names = {"a.test", "b.test"}}
  t:equal(a:find_order{names = {"A.test"}}.url, one.url)
  t:equal(a:find_order{names = {"b.test", "a.test"}}.url, two.url)
  t:equal(a:find_order{names = {"b.test"}}.url, other.url)
  local count = 0
  for _ in a:orders() do count = count + 1 end
  t:equal(count, 3)
  one:authorize{solver = acme.http01{listen = ca.http01}}
  t:equal(a:find_order{names = {"a.test"}}.url, one.url, "ready, not finalized")
  one:finalize(x509.csr{key = x509.key{}, names = {"a.test"}}):wait("valid")
  t:equal({a:find_order{names = {"a.test"}}}, {nil, true}, "one that is done is none")
end)

test("an account changes contact and key, revokes both ways, and ends", LONG, function(t)
  local ca = pebble.start(t)
  local file = t:tmpdir() .. "/account.pem"
  local a = account(t, ca, {key = {file = file}})
  t:equal(a:update{contact = {"mailto:pki@example.test"}}.contact,
    {"mailto:pki@example.test"})
  for _, kind in ipairs{"p256", "p384", "rsa2048"} do
    t:equal(a:change_key{type = kind}.type, kind)
    t:equal(a:document().status, "valid", kind)
  end
  local again = account(t, ca, {key = {file = file}})
  t:equal(again:url(), a:url())
  local one = issue(t, ca, again, {"one.example.test"})
  local two = issue(t, ca, again, {"two.example.test"})
  t:equal(again:revoke{cert = one.chain[1], reason = "superseded"}, true)
  t:equal(again:revoke{cert = one.chain[1]}, false)
  t:equal(a:revoke{cert = two.chain[1], key = two.key, reason = "keyCompromise"}, true)
  local other = account(t, ca, {key = x509.key{}})
  t:raises(function() again:change_key() other:change_key{key = again.client.key} end,
    "conflict", "another account")
  again:deactivate()
  t:raises(function() again:order{names = {"three.example.test"}} end, "auth")
end)
