-- Who a connection is: password headers, a client certificate, tokens that are shared.
local fake = require "scm_fake"
local json = require "json"
local scm = require "scm"
local task = require "task"
local x509 = require "x509"

local QUICK = {clock = "virtual", timeout = "20s"}
local CANARY = "canary-client-secret"
local TOKEN, CALL = "POST /token", "GET /api/organization/v1"

--- An admin face with its token server: tokens "token1", "token2" … that last `lifetime`.
local function admin(t, options)
  options = options or {}
  local server
  server = fake.start(t, {
    [TOKEN] = options.token or function(request, n)
      server.form = request:form()
      return {access_token = "token-" .. n, token_type = "Bearer",
        expires_in = options.lifetime or 300}
    end,
    [CALL] = options.call or function(request)
      server.bearer = request.headers["authorization"]
      return json.array{{id = 1, name = "Example"}}
    end})
  server.client = ("client-%d"):format(server.server.port)
  server.options = {oauth = {client_id = server.client, client_secret = CANARY,
    token_url = server.url .. "/token"}}
  return server, server:connect(server.options)
end

test("one token for all tasks and connections, asked for as RFC 6749 says", function(t)
  local server, c = admin(t)
  local other = server:connect{oauth = server.options.oauth}
  local group <close> = task.group()
  for i = 1, 20 do
    group:spawn(function() (i % 2 == 0 and c or other):call("organization.list") end)
  end
  group:close()
  t:equal(server.calls[TOKEN], 1)
  t:equal(server.calls[CALL], 20)
  t:equal(server.bearer, "Bearer token-1")
  t:equal(server.form, {grant_type = "client_credentials", client_id = server.client,
    client_secret = CANARY})
end)

test("another secret does not get the token of the first", function(t)
  local server, c = admin(t)
  c:call("organization.list")
  server:connect{oauth = {client_id = server.client, client_secret = "another-secret",
    token_url = server.url .. "/token"}}:call("organization.list")
  t:equal(server.calls[TOKEN], 2)
end)

test("a token is fetched anew before it expires", QUICK, function(t)
  local server, c = admin(t, {lifetime = 300})
  c:call("organization.list")
  t.clock:advance "230s"
  c:call("organization.list")
  t:equal(server.calls[TOKEN], 1)
  t.clock:advance "15s"
  c:call("organization.list")
  t:equal(server.calls[TOKEN], 2)
  t:equal(server.bearer, "Bearer token-2")
end)

test("a 401 leads to one new token for all, a second one is an error", QUICK, function(t)
  local good = "Bearer token-2"
  local server, c = admin(t, {call = function(request)
    if request.headers["authorization"] == good then return json.array{} end
    return {status = 401, headers = {["WWW-Authenticate"] = "Bearer realm=https://x/t"}}
  end})
  local group <close> = task.group()
  for _ = 1, 5 do group:spawn(function() c:call("organization.list") end) end
  group:close()
  t:equal(server.calls[TOKEN], 2)
  t:equal(server.calls[CALL], 10)
  good = "none"
  local err = t:raises(function() c:call("organization.list") end, "auth", "401")
  t:equal(err.code, "HTTP_401")
  t:equal(server.calls[TOKEN], 3)
end)

test("a write is sent again after a 401 as well, with the same body", function(t)
  local server
  server = fake.start(t, {
    [TOKEN] = function(_, n) return {access_token = "t" .. n} end,
    ["POST /api/ssl/v2/approve/{id}"] = function(_, n)
      return {status = n == 1 and 401 or 204}
    end})
  local c = server:connect{oauth = {client_id = "w", client_secret = CANARY,
    token_url = server.url .. "/token"}}
  t:equal(c:call("ssl.approve", {id = 7, message = "fine"}), true)
  t:equal(server.asked[4].json, {message = "fine"})
  t:equal(server.asked[4].headers["authorization"], "Bearer t2")
end)

test("a busy token server is asked again when it says", QUICK, function(t)
  local _, c = admin(t, {token = function(_, n)
    if n == 1 then return fake.html(429, {["Retry-After"] = "20"}) end
    if n == 2 then return fake.html(503) end
    return {access_token = "late"}
  end})
  local before = t.clock:now()
  c:call("organization.list")
  assert(t.clock:now() - before >= 20, "Retry-After was not kept")
end)

test("what a token server says is told, the secret is not", QUICK, function(t)
  local reply
  local server, c = admin(t, {token = function() return reply end})
  local function refused(kind, pattern, answer)
    reply = answer
    local err = t:raises(function() c:call("organization.list") end, kind, pattern)
    assert(not tostring(err):find(CANARY, 1, true), tostring(err))
    return err
  end
  refused("auth", "Invalid client.*check client_id", fake.json({error = "invalid_client",
    error_description = "Invalid client " .. CANARY}, 401))
  t:equal(server.calls[TOKEN], 1)
  local busy = refused("rate_limited", "429", fake.html(429, {["Retry-After"] = "7200"}))
  t:equal(busy.retry_after, 7200)
  refused("protocol", "no JSON", {status = 200, body = "<html>"})
  refused("protocol", "access_token is none", {status = 200, body = "{}"})
  refused("protocol", "access_token is none", fake.json{access_token = "a\nb: c"})
  refused("protocol", "Bearer", fake.json{access_token = "abc", token_type = "MAC"})
  t:equal(server.calls[CALL], nil)
end)

test("a caller that gives up does not take the token from the others", QUICK, function(t)
  local server, c = admin(t, {token = function()
    task.sleep "5s"
    return {access_token = "slow"}
  end})
  local group <close> = task.group()
  group:spawn(function()
    t:raises(function()
      task.timeout("1s", function() c:call("organization.list") end)
    end, "timeout")
  end)
  group:spawn(function() c:call("organization.list") end)
  group:close()
  t:equal(server.calls[TOKEN], 1)
end)

test("a client certificate goes under /private, without a password", function(t)
  local key, user_key = x509.key{type = "p256"}, x509.key{type = "p256"}
  local ca_key = x509.key{type = "p256"}
  local ca = x509.sign{key = ca_key, subject = {CN = "CA"}, is_ca = true, days = 10}
  local function issue(options)
    options.issuer, options.issuer_key, options.days = ca, ca_key, 5
    return x509.sign(options)
  end
  local leaf = issue{key = key, names = {"127.0.0.1"}}
  local user = issue{key = user_key, subject = {CN = "api"}, names = {"api.test"},
    ext_key_usage = {"clientAuth"}}
  local server = fake.start(t, {["GET /private/api/organization/v1"] = function(request)
    t:equal(request.client_cert.verified, true)
    return json.array{}
  end}, {cert = leaf:pem(), key = key:pem(), client_ca = ca:pem(),
    require_client_cert = true})
  local c = server:connect{cert = user:pem(), key = user_key, ca = ca:pem()}
  t:equal(#c:call("organization.list"), 0)
  t:equal(server.asked[1].headers["login"], "api")
  t:equal(server.asked[1].headers["password"], nil)
  local stranger = server:connect{ca = ca:pem()}
  t:raises(function() stranger:call("organization.list", {}, {retries = 0}) end)
end)

test("a developer has an address instead of a login", function(t)
  local server = fake.start(t, {["GET /api/csod/v1/requests/developer"] = function()
    return json.array{}
  end})
  local c = scm.connect{url = server.url, customer_uri = "e", email = "dev@a.test",
    password = "pppppp"}
  t:equal(#c:call("codesign.list_own_requests"), 0)
  t:equal(server.asked[1].headers["email"], "dev@a.test")
  t:equal(server.asked[1].headers["login"], nil)
  t:raises(function() scm.connect{customer_uri = "e", email = "x", login = "y"} end,
    "usage", "leave login")
end)

test("connect refuses what cannot be, and says what to do", function(t)
  local full = {customer_uri = "e", login = "l", password = "pppppp"}
  local function refused(pattern, change)
    local options = {}
    for name, value in pairs(full) do options[name] = value end
    for name, value in pairs(change) do options[name] = value or nil end
    t:raises(function() scm.connect(options) end, "usage", pattern)
  end
  local o = {client_id = "c", client_secret = "sssssss"}
  refused("https is needed", {url = "http://cert-manager.com"})
  refused("portal", {url = "https://cert-manager.com/customer/example"})
  refused("leave /api", {url = "https://cert-manager.com/api"})
  refused("either url or instance", {url = "https://a.test", instance = "hard"})
  refused("no instance \"eu\"", {instance = "eu"})
  refused("belongs to the classic face", {oauth = o})
  refused("did you mean customer_uri", {customer_url = "x"})
  refused("without its key", {password = false, cert = "x"})
  refused("either a password or cert", {cert = "x", key = "y"})
  refused("ISO, EU, US", {date_format = "DE"})
  refused("did you mean proxy", {http = {proxi = "x"}})
  refused("password is missing", {password = false})
  full = {}
  refused("client_secret", {oauth = {client_id = "c"}})
  refused("token_url.*https", {oauth = {client_id = "c", client_secret = "sssss",
    token_url = "http://x.test/"}})
  t:raises(function() scm.connect{login = "l"} end, "usage", "/customer/")
end)

test("each face has its hosts", function(t)
  local password = {customer_uri = "e", login = "l", password = "pppppp"}
  t:equal(scm.connect(password).url, "https://cert-manager.com")
  password.instance = "hard"
  t:equal(scm.connect(password).url, "https://hard.cert-manager.com")
  local oauth = {oauth = {client_id = "c", client_secret = "sssssss"}}
  t:equal(scm.connect(oauth).url, "https://admin.enterprise.sectigo.com")
  oauth.instance = "eu"
  local c = scm.connect(oauth)
  t:equal(c.url, "https://admin.eu.sectigo.com")
  t:equal(tostring(c), "scm.connection https://admin.eu.sectigo.com (admin face, oauth)")
end)
