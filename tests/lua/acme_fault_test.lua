-- An ACME server that fails, lies or dawdles: one clear error, or none where it can be
-- overcome, and never a lost or doubled order.
local acme = require "acme"
local fake = require "acme_ca"
local fs = require "fs"
local task = require "task"
local time = require "time"
local x509 = require "x509"

-- Waits cost nothing.
local QUICK = {clock = "virtual", timeout = "7d"}

local function issue(t, a, options)
  options = options or {}
  options.names = options.names or {"a.test", "b.test"}
  options.solver = options.solver or fake.solver()
  options.state_dir = options.state_dir or t:tmpdir() .. "/state"
  options.timeout = options.timeout or "1d"
  return a:issue(options)
end

-------------------------------------------------------------------- directory and nonces

local function directory_fails(name, reply, kind, pattern)
  test(name, QUICK, function(t)
    local ca = fake.start(t, {directory = reply})
    t:raises(function() ca:account() end, kind, pattern)
  end)
end

directory_fails("HTML from a proxy keeps status and title",
  function() return fake.html(502) end, "http", "502 from the proxy")
directory_fails("a directory that is cut short", function()
  return {headers = {["Content-Type"] = "application/json"}, body = '{"newNonce":"http:'}
end, "protocol", "directory")
directory_fails("a directory of another content type", function()
  return {headers = {["Content-Type"] = "text/plain"}, body = "{}"}
end, "protocol", "text/plain")
directory_fails("a directory of ten megabytes", function()
  return {headers = {["Content-Type"] = "application/json"}, body = (" "):rep(10 << 20)}
end, "limit")
directory_fails("a directory that redirects to itself", function()
  return {status = 302, headers = {Location = "/directory"}, body = ""}
end, nil, "redirect")
directory_fails("a directory without newOrder", function()
  return fake.json{newNonce = "http://127.0.0.1:1/n", newAccount = "http://127.0.0.1:1/a"}
end, "protocol", "newOrder")
directory_fails("a directory that is busy for an hour", function()
  return fake.html(503, {["Retry-After"] = "3600"})
end, "http", "503")

--- A CA over TLS whose certificate is for `names` and ends `left` seconds from now.
local function tls_fails(name, names, left, pattern)
  test(name, QUICK, function(t)
    local root_key = x509.key{type = "p256"}
    local root = x509.sign{key = root_key, subject = {CN = "TLS Root"}, is_ca = true}
    local key = x509.key{type = "p256"}
    local leaf = x509.sign{issuer = root, issuer_key = root_key, key = key, names = names,
      not_before = time.now() - 7200, not_after = time.now() + left}
    local ca = fake.start(t, {}, {cert = leaf:pem(), key = key:pem()})
    t:raises(function() ca:account{ca = root:pem()} end, "tls", pattern)
    t:equal(ca.calls.directory, nil)
  end)
end

tls_fails("a directory whose certificate has expired", {"127.0.0.1"}, -3600, "expired")
tls_fails("a directory whose certificate is not its own", {"b.test"}, 3600, nil)

test("a state folder that cannot be made stops before any order", QUICK, function(t)
  local ca = fake.start(t)
  local a = ca:account()
  local err = t:raises(function() issue(t, a, {state_dir = "/proc/nowhere/state"}) end)
  assert(tostring(err):find("/proc/nowhere", 1, true), tostring(err))
  t:equal(ca.calls.order, nil)
end)

test("a directory that moved is followed", QUICK, function(t)
  local first = true
  local ca = fake.start(t, {directory = function(act)
    if not first then return act() end
    first = false
    return {status = 301, headers = {Location = "/directory/moved"}, body = ""}
  end})
  issue(t, ca:account())
end)

test("a busy directory is asked again", QUICK, function(t)
  local left, before = 2, time.mono()
  local ca = fake.start(t, {directory = function(act)
    left = left - 1
    return left >= 0 and fake.html(503, {["Retry-After"] = "20"}) or act()
  end})
  ca:account()
  assert(time.mono() - before >= 32, "Retry-After was not kept")
end)

test("a newNonce without a nonce is named", QUICK, function(t)
  local ca = fake.start(t, {nonce = function() return {bare = true} end})
  t:raises(function() ca:account() end, "protocol", "Replay%-Nonce")
end)

test("replies without nonce are made up for by newNonce", QUICK, function(t)
  local ca = fake.start(t)
  for _, name in ipairs{"account", "order", "get_order", "authz", "challenge"} do
    ca.hooks[name] = function(act)
      local reply = act()
      reply.bare = true
      return reply
    end
  end
  issue(t, ca:account())
  assert(ca.calls.nonce >= 8, ca.calls.nonce)
end)

test("badNonce for ever ends after the bound", QUICK, function(t)
  local ca = fake.start(t, {account = function()
    return fake.problem(400, "badNonce", "JWS has an invalid anti-replay nonce")
  end})
  t:raises(function() ca:account{nonce_tries = 12} end, "protocol", "12 nonces")
  t:equal(ca.calls.account, 12)
end)

test("badNonce is answered with the nonce of the error", QUICK, function(t)
  local refused = 3
  local ca = fake.start(t, {order = function(act)
    refused = refused - 1
    return refused >= 0 and fake.problem(400, "badNonce", "no") or act()
  end})
  issue(t, ca:account())
  t:equal({ca.calls.order, ca.calls.nonce}, {4, 1})
end)

-------------------------------------------------------------------- refusals

test("a status 401 with an explanation is a refusal", QUICK, function(t)
  local ca = fake.start(t, {order = function()
    return fake.problem(401, "unauthorized", "not for you")
  end})
  local err = t:raises(function() issue(t, ca:account()) end, "auth", "not for you")
  t:equal(err.status, 401)
end)

test("a rate limit tells when to come back", QUICK, function(t)
  local ca = fake.start(t, {order = function()
    return fake.problem(429, "rateLimited", "too many", {["Retry-After"] = "7200"})
  end})
  local err = t:raises(function() issue(t, ca:account()) end, "rate_limited", "too many")
  t:equal(err.retry_after, 7200)
  t:equal(ca.calls.order, 1)
end)

test("a short rate limit is waited for", QUICK, function(t)
  local busy = 2
  local ca = fake.start(t, {order = function(act)
    busy = busy - 1
    return busy >= 0 and fake.problem(429, "rateLimited", "soon", {["Retry-After"] = "5"})
      or act()
  end})
  issue(t, ca:account())
  t:equal(ca.calls.order, 3)
end)

test("subproblems are told per name", QUICK, function(t)
  local ca = fake.start(t, {order = function()
    local reply = fake.json({type = "urn:ietf:params:acme:error:rejectedIdentifier",
      detail = "no", subproblems = {{type = "urn:ietf:params:acme:error:caa",
        detail = "CAA says no", identifier = {type = "dns", value = "b.test"}}}}, 403)
    reply.headers["Content-Type"] = "application/problem+json"
    return reply
  end})
  local err = t:raises(function() issue(t, ca:account()) end, "denied",
    "b.test: caa: CAA says no")
  t:equal(err.problem.subproblems[1].identifier.value, "b.test")
end)

test("a deactivated account is of no use", QUICK, function(t)
  local ca = fake.start(t, {account = function()
    return fake.json({status = "deactivated"}, 200, {Location = "/acct/1"})
  end})
  t:raises(function() ca:account() end, "denied", "deactivated")
end)

-------------------------------------------------------------------- lies

test("an order for other names", QUICK, function(t)
  local ca = fake.start(t, {order = function(act, payload)
    payload.identifiers[1].value = "evil.test"
    return act()
  end})
  t:raises(function() issue(t, ca:account()) end, "protocol", "evil.test")
  t:equal(ca.calls.authz, nil)
end)

test("an order with the names in another order and case is fine", QUICK, function(t)
  local ca = fake.start(t, {order = function(act, payload)
    payload.identifiers[1].value, payload.identifiers[2].value = "B.TEST", "a.test"
    return act()
  end})
  issue(t, ca:account())
end)

test("a token that is a path reaches no file", QUICK, function(t)
  local root = t:tmpdir()
  local ca = fake.start(t, {authz = function(act)
    local reply = act()
    reply.body = reply.body:gsub("t+%-%d+", "../../../../../../tmp/acme-test-token")
    return reply
  end})
  t:raises(function()
    issue(t, ca:account(), {solver = acme.http01{webroot = root}})
  end, "protocol", "token")
  t:equal(fs.list(root), {})
end)

local function chain_fails(name, pattern, change)
  test(name, QUICK, function(t)
    local ca = fake.start(t)
    ca.hooks.certificate = function(act) return change(ca, act()) end
    local state = t:tmpdir() .. "/state"
    t:raises(function() issue(t, ca:account(), {state_dir = state}) end, "protocol",
      pattern)
    t:equal(fs.exists(state .. "/chain.pem"), false)
  end)
end

chain_fails("a certificate with another name is refused", "evil.test", function(ca, reply)
  reply.body = ca:sign(ca.orders[1].csr, {"a.test", "b.test", "evil.test"})
  return reply
end)
chain_fails("a certificate for another key is refused", "our key", function(ca, reply)
  local key = x509.key{type = "p256"}
  reply.body = ca:sign(x509.csr{key = key, names = {"a.test", "b.test"}})
  return reply
end)
chain_fails("a chain with a private key is refused", "PRIVATE KEY", function(_, reply)
  reply.body = reply.body .. "-----BEGIN PRIVATE KEY-----\nAAAA\n"
    .. "-----END PRIVATE KEY-----\n"
  return reply
end)
chain_fails("a chain as JSON is refused", "application/json", function(_, reply)
  reply.headers["Content-Type"] = "application/json"
  return reply
end)

-------------------------------------------------------------------- states

test("authorizations that are valid need no challenge", QUICK, function(t)
  local solver = fake.solver()
  local ca = fake.start(t)
  ca.hooks.order = function(act)
    local reply = act()
    for _, authz in ipairs(ca.orders[#ca.orders].authz) do authz.status = "valid" end
    return reply
  end
  ca.hooks.get_order = function(act)
    if ca.orders[1].status == "pending" then ca.orders[1].status = "ready" end
    return act()
  end
  issue(t, ca:account(), {solver = solver})
  t:equal({solver.presented, ca.calls.challenge}, {0, nil})
end)

test("an order without authorizations that is ready", QUICK, function(t)
  local ca = fake.start(t)
  ca.hooks.order = function(act)
    local reply = act()
    ca.orders[1].status = "ready"
    reply.body = reply.body:gsub('"status":"pending"', '"status":"ready"')
      :gsub('"authorizations":%b[]', '"authorizations":[]')
    return reply
  end
  issue(t, ca:account())
  t:equal({ca.calls.authz, ca.calls.finalize}, {nil, 1})
end)

test("a CA that hands out the order that is already valid", QUICK, function(t)
  local ca, state = fake.start(t), t:tmpdir() .. "/state"
  local a = ca:account()
  local first = issue(t, a, {state_dir = state})
  for _, name in ipairs{"order.json", "chain.pem"} do fs.remove(state .. "/" .. name) end
  ca.hooks.order = function()
    local reply = fake.work.get_order(ca, nil, "1")
    reply.status, reply.headers.Location = 201, "/get_order/1"
    return reply
  end
  local second = issue(t, a, {state_dir = state})
  t:equal(second.chain[1].serial, first.chain[1].serial)
  t:equal(ca.calls.finalize, 1)
end)

test("processing for days is pending, and goes on with the same order", QUICK, function(t)
  local state, held = t:tmpdir() .. "/state", true
  local ca = fake.start(t)
  local function hold(act)
    local reply = act()
    if held and ca.orders[1].status == "valid" then
      reply.body = reply.body:gsub('"status":"valid"', '"status":"processing"')
        :gsub('"certificate":"[^"]*",?', ""):gsub(",}", "}")
      reply.headers["Retry-After"] = "86400"
    end
    return reply
  end
  ca.hooks.finalize, ca.hooks.get_order = hold, hold
  local a = ca:account()
  local err = t:raises(function() issue(t, a, {state_dir = state}) end, "pending")
  t:equal(err.retry_after, 86400)
  local key = x509.read_key{pem = fs.read(state .. "/key.pem")}
  held = false
  local result = issue(t, a, {state_dir = state})
  t:equal(result.key.spki_sha256, key.spki_sha256)
  t:equal({ca.calls.order, ca.calls.finalize}, {1, 1})
end)

test("Retry-After of zero does not make a storm", QUICK, function(t)
  local polls, ca = 20, fake.start(t)
  local before = time.mono()
  ca.hooks.authz = function(act)
    local reply = act()
    polls = polls - 1
    if polls > 0 then
      reply.body = reply.body:gsub('"status":"valid"', '"status":"pending"')
      reply.headers["Retry-After"] = "0"
    end
    return reply
  end
  issue(t, ca:account(), {names = {"a.test"}})
  assert(time.mono() - before >= 3, "polled too fast")
end)

test("a challenge that fails tells why, and the key is kept", QUICK, function(t)
  local ca, solver, state = fake.start(t), fake.solver(), t:tmpdir() .. "/state"
  ca.hooks.challenge = function(act)
    local reply = act()
    ca.orders[1].status = "invalid"
    ca.orders[1].authz[1].status = "invalid"
    ca.orders[1].authz[1].error = {type = "urn:ietf:params:acme:error:dns",
      detail = "no such name"}
    return reply
  end
  local a = ca:account()
  t:raises(function() issue(t, a, {state_dir = state, solver = solver}) end, "dns",
    "a.test: dns: no such name")
  t:equal(solver.open, {})
  t:equal(fs.exists(state .. "/order.json"), false)
  local key = x509.read_key{pem = fs.read(state .. "/key.pem")}
  ca.hooks.challenge = nil
  t:equal(issue(t, a, {state_dir = state}).key.spki_sha256, key.spki_sha256)
  t:equal(ca.calls.order, 2)
end)

test("a time-out cleans up and leaves the order for the next run", QUICK, function(t)
  local ca, solver, state = fake.start(t), fake.solver(), t:tmpdir() .. "/state"
  ca.hooks.authz = function(act)
    local reply = act()
    reply.body = reply.body:gsub('"status":"valid"', '"status":"pending"')
    return reply
  end
  local a = ca:account()
  t:raises(function()
    issue(t, a, {state_dir = state, solver = solver, timeout = "30s"})
  end, "timeout")
  t:equal(solver.open, {})
  ca.hooks.authz = nil
  issue(t, a, {state_dir = state})
  t:equal(ca.calls.order, 1)
end)

-------------------------------------------------------------------- lost answers

for name, reply in pairs{["HTML"] = function() return fake.html(502) end,
  ["half an answer"] = fake.cut} do
  test("finalize arrived, its answer got lost: " .. name, QUICK, function(t)
    local ca = fake.start(t, {finalize = function(act)
      act()
      return reply()
    end})
    issue(t, ca:account())
    t:equal(ca.calls.finalize, 1)
  end)

  test("finalize did not arrive and is sent again: " .. name, QUICK, function(t)
    local first = true
    local ca = fake.start(t, {finalize = function(act)
      if not first then return act() end
      first = false
      return reply()
    end})
    issue(t, ca:account())
    t:equal(ca.calls.finalize, 2)
  end)
end

test("an answer lost on the way to a poll is asked for again", QUICK, function(t)
  local ca, left = fake.start(t), 2
  ca.hooks.authz = function(act)
    left = left - 1
    return left >= 0 and fake.cut() or act()
  end
  issue(t, ca:account())
end)

test("a newOrder whose answer got lost is not sent twice", QUICK, function(t)
  local ca = fake.start(t, {order = function(act)
    act()
    return fake.cut()
  end})
  t:raises(function() issue(t, ca:account()) end)
  t:equal({ca.calls.order, ca.calls.finalize}, {1, nil})
end)

-------------------------------------------------------------------- the state folder

test("an answer that a killed run left in the webroot is taken down", QUICK, function(t)
  local ca, state, root = fake.start(t), t:tmpdir() .. "/state", t:tmpdir()
  local a, token = ca:account(), nil
  local function run(on_step)
    return issue(t, a, {state_dir = state, names = {"a.test"}, on_step = on_step,
      solver = acme.http01{webroot = root}})
  end
  t:raises(function()
    run(function(step)
      if step == "presented" then token = ca.orders[1].authz[1].token end
      if step == "ready" then error("stopped") end
    end)
  end)
  local left = root .. "/.well-known/acme-challenge/" .. token
  fs.write(left, "x")
  run()
  t:equal(fs.exists(left), false)
end)

test("an order that the CA forgot is replaced in the same run", QUICK, function(t)
  local ca, state = fake.start(t), t:tmpdir() .. "/state"
  local a = ca:account()
  ca.hooks.authz = function() return fake.html(403) end
  t:raises(function() issue(t, a, {state_dir = state}) end, "auth")
  ca.hooks.authz, ca.orders = nil, {}
  issue(t, a, {state_dir = state})
  t:equal(ca.calls.order, 2)
end)

test("a damaged order.json is put aside", QUICK, function(t)
  local ca, state = fake.start(t), t:tmpdir() .. "/state"
  local a = ca:account()
  fs.mkdir(state)
  fs.write(state .. "/order.json", "{half")
  issue(t, a, {state_dir = state})
  assert(fs.exists(state .. "/order.json.damaged"))
end)

test("other names or another key type make a new order", QUICK, function(t)
  local ca, state = fake.start(t), t:tmpdir() .. "/state"
  local a = ca:account()
  issue(t, a, {state_dir = state})
  issue(t, a, {state_dir = state, names = {"c.test"}})
  t:equal(ca.calls.order, 2)
  local third = issue(t, a, {state_dir = state, names = {"c.test"}, key_type = "p384"})
  t:equal(third.key.type, "p384")
  t:equal(ca.calls.order, 3)
end)

test("two runs do not share a state folder", QUICK, function(t)
  local ca, state = fake.start(t), t:tmpdir() .. "/state"
  local a = ca:account()
  issue(t, a, {state_dir = state, on_step = function(step)
    if step ~= "placed" then return end
    t:raises(function() issue(t, a, {state_dir = state}) end, "conflict", "another run")
  end})
end)

test("key and order are private, and done removes them", QUICK, function(t)
  local ca, state = fake.start(t), t:tmpdir() .. "/state"
  local result = issue(t, ca:account(), {state_dir = state})
  for _, name in ipairs{"key.pem", "order.json", "chain.pem"} do
    t:equal(fs.stat(state .. "/" .. name).mode, "0600", name)
  end
  t:equal(fs.stat(state).mode, "0700")
  result:done()
  for _, name in ipairs{"key.pem", "order.json", "chain.pem"} do
    t:equal(fs.exists(state .. "/" .. name), false, name)
  end
end)

test("a certificate that expired before its install is ordered anew", QUICK, function(t)
  local ca, state = fake.start(t), t:tmpdir() .. "/state"
  local a = ca:account()
  local first = issue(t, a, {state_dir = state})
  time.advance(first.chain[1].not_after - time.now() + 60)
  local second = issue(t, a, {state_dir = state})
  assert(second.chain[1].serial ~= first.chain[1].serial)
  assert(second.chain[1].not_after > time.now())
end)

test("a stored chain that is damaged is fetched from its order again", QUICK, function(t)
  local ca, state = fake.start(t), t:tmpdir() .. "/state"
  local a = ca:account()
  local first = issue(t, a, {state_dir = state})
  fs.write(state .. "/chain.pem", "")
  local second = issue(t, a, {state_dir = state})
  t:equal(second.chain[1].serial, first.chain[1].serial)
  t:equal(ca.calls.finalize, 1)
end)

test("what is on disk at each step", QUICK, function(t)
  local ca, state = fake.start(t), t:tmpdir() .. "/state"
  local seen = {}
  issue(t, ca:account(), {state_dir = state, on_step = function(step)
    seen[step] = {key = fs.exists(state .. "/key.pem"),
      order = fs.exists(state .. "/order.json"), chain = fs.exists(state .. "/chain.pem")}
  end})
  t:equal(seen.key, {key = true, order = false, chain = false})
  t:equal(seen.ordered, {key = true, order = false, chain = false})
  t:equal(seen.placed, {key = true, order = true, chain = false})
  t:equal(seen.stored, {key = true, order = true, chain = true})
end)

-------------------------------------------------------------------- many at once

test("newOrder requests do not overlap, the rest does", QUICK, function(t)
  local ca, now, most = fake.start(t), 0, 0
  ca.hooks.order = function(act)
    now = now + 1
    most = math.max(most, now)
    task.sleep(0.1)
    now = now - 1
    return act()
  end
  local a, list = ca:account(), {}
  for i = 1, 8 do list[i] = "n" .. i .. ".test" end
  local _, errors = task.each(list, {limit = 8}, function(name)
    issue(t, a, {names = {name}})
  end)
  t:equal(#errors, 0, tostring(errors[1]))
  t:equal(most, 1)
end)
