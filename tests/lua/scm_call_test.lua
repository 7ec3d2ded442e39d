-- Calls of SCM by name: where parameters go, what comes back, what is said when it fails.
local errors = require "errors"
local fake = require "scm_fake"
local json = require "json"
local scm = require "scm"
local stream = require "http_peer"

local QUICK = {clock = "virtual", timeout = "20s"}

test("parameters go where the table says, credentials in headers", function(t)
  local server = fake.start(t, {
    ["PUT /api/person/v1/{id...}"] = function() return {status = 200} end})
  local c = server:connect()
  local value, info = c:call("person.update", {id = "a/b:c", firstName = "Ann"})
  local asked = server.asked[1]
  t:equal(value, true)
  t:equal(info.status, 200)
  t:equal(asked.raw_path, "/api/person/v1/a%2Fb%3Ac")
  t:equal(asked.json, {firstName = "Ann"})
  t:equal(asked.headers["login"], "api")
  t:equal(asked.headers["customeruri"], "example")
  t:equal(asked.headers["password"], "canary-password")
  t:equal(asked.headers["content-type"], "application/json;charset=utf-8")
end)

test("dates are asked for in one form, nulls are absent, unknown fields stay", function(t)
  local server = fake.start(t, {["GET /api/ssl/v1/{id}"] = function()
    return {status = 200, headers = {["Content-Type"] = "application/json"},
      body = '{"id":58,"serialNumber":null,"ovOrderNumber":7,"list":[null,1],' ..
        '"x":{"y":null}}'}
  end})
  local c = server:connect()
  local cert = c:call("ssl.get", {sslId = 58})
  t:equal(server.asked[1].query.dateFormat, "ISO_HMS")
  t:equal(cert.serialNumber, nil)
  t:equal(cert.ovOrderNumber, 7)
  t:equal(cert.x, {})
  t:equal(cert.list[2], 1)
  server:connect{date_format = false}:call("ssl.get", {sslId = 58})
  t:equal(server.asked[2].query.dateFormat, nil)
end)

test("creating gives the id at the end of Location", function(t)
  local where = "https://cert-manager.com/api/person/v1/27"
  local server = fake.start(t, {["POST /api/person/v1"] = function()
    return {status = 201, headers = {Location = where}, body = ""}
  end})
  local c = server:connect()
  local person = {firstName = "A", lastName = "B", email = "a@b.test", organizationId = 1,
    validationType = "STANDARD"}
  t:equal(c:call("person.create", person), 27)
  where = "/api/person/v1/FmcZgzSqt6TpAtQFAAAAAA%3D%3D"
  t:equal(c:call("person.create", person), "FmcZgzSqt6TpAtQFAAAAAA==")
  where = nil
  t:raises(function() c:call("person.create", person) end, "protocol",
    "without a Location")
end)

test("DELETE has a body, HEAD a count, a version can be asked for", function(t)
  local server = fake.start(t, {
    ["DELETE /api/acme/v2/account/{id}/domain"] = function() return {x = 1} end,
    ["DELETE /api/acme/v1/account/{id}/domains"] = function() return {x = 1} end,
    ["HEAD /api/ssl/v1"] = function()
      return {status = 200, headers = {["X-Total-Count"] = "4711"}}
    end})
  local c = server:connect()
  local domains = {{name = "a.test"}}
  c:call("acme.remove_domains", {id = 3, domains = domains})
  t:equal(server.asked[1].json, {domains = domains})
  c:call("acme.remove_domains", {id = 3, domains = domains}, {version = 1})
  t:equal(server.calls["DELETE /api/acme/v1/account/{id}/domains"], 1)
  t:equal(c:call("ssl.count", {status = "issued"}), 4711)
  t:equal(server.asked[3].query.status, "Issued")
end)

test("names in the form each call wants", function(t)
  local server = fake.start(t, {
    ["POST /api/ssl/v1/enroll"] = function() return {sslId = 55, renewId = "x"} end,
    ["PUT /api/ssl/v1"] = function() return {id = 55} end})
  local c = server:connect()
  c:call("ssl.enroll", {csr = "x", subjAltNames = {"a.test", "b.test"}})
  t:equal(server.asked[1].json.subjAltNames, "a.test,b.test")
  c:call("ssl.update", {sslId = 55, subjectAlternativeNames = "a.test, b.test"})
  t:equal(server.asked[2].json.subjectAlternativeNames, {"a.test", "b.test"})
  c:call("ssl.update", {sslId = 55, subjectAlternativeNames = {}})
  t:equal(server.asked[3].body:find '"subjectAlternativeNames":%[%]' ~= nil, true)
end)

test("a secret in a body goes out and shows nowhere", function(t)
  local server = fake.start(t, {["POST /api/admin/v1"] = function()
    return {status = 201, headers = {Location = "/api/admin/v1/9"}}
  end})
  local c = server:connect()
  local password = require "scm.core".secret('can"ary-\\secret', "test")
  c:call("admin.create", {login = "x", email = "x@y.test", password = password,
    credentials = json.array{{x = password}}})
  t:equal(server.asked[1].json.password, 'can"ary-\\secret')
  t:equal(server.asked[1].json.credentials, {{x = 'can"ary-\\secret'}})
  t:raises(function() c:call("admin.create", {login = password}) end, "usage", "secret")
end)

test("a zip goes out as a form, certificates as a list", function(t)
  local server = fake.start(t, {
    ["POST /api/ssl/v1/import"] = function() return {processedCount = 2} end,
    ["POST /api/ssl/v2/import"] = function() return json.array{{created = true}} end})
  local c = server:connect()
  t:equal(c:call("ssl.import_zip", {orgId = 5, file = "PK\0\1"}).processedCount, 2)
  local asked = server.asked[1]
  local media = asked.headers["content-type"]
  local boundary = media:match "^multipart/form%-data; boundary=(%w+)$"
  t:equal(asked.query.orgId, "5")
  t:equal(asked.body, "--" .. boundary .. '\r\nContent-Disposition: form-data; ' ..
    'name="file"; filename="import.zip"\r\nContent-Type: application/zip\r\n\r\n' ..
    "PK\0\1\r\n--" .. boundary .. "--\r\n")
  c:call("ssl.import", {{orgID = 5, cert = "pem"}})
  t:equal(server.asked[2].json, {{orgID = 5, cert = "pem"}})
  t:raises(function() c:call("ssl.import", {{orgID = 5, certt = "pem"}}) end, "usage",
    'did you mean "cert"')
end)

test("what does not fit the table raises with a suggestion, unasked", function(t)
  local server = fake.start(t, {["GET /x"] = function() return {} end})
  local c = server:connect()
  local function refuses(pattern, name, parameters, options)
    t:raises(function() c:call(name, parameters, options) end, "usage", pattern)
  end
  refuses('did you mean "ssl.enroll"', "ssl.enrol", {})
  refuses('did you mean "orgId"', "ssl.enroll", {orgID = 1, csr = "x"})
  refuses("csr is missing", "ssl.enroll", {orgId = 1})
  refuses("expected number, got string", "ssl.enroll", {orgId = "1", csr = "x"})
  refuses("sslId is missing", "ssl.get", {})
  refuses("no id", "ssl.get", {sslId = ".."})
  refuses('did you mean "Issued"', "ssl.list", {status = "isued"})
  refuses("only on the admin face", "dcv.start_txt", {domain = "a.test"})
  refuses("no version 3", "ssl.get", {sslId = 1}, {version = 3})
  refuses('did you mean version', "ssl.get", {sslId = 1}, {versoin = 1})
  refuses("reasonCode", "ssl.revoke", {id = 1, reason = "x", reasonCode = "1"})
  t:equal(#server.asked, 0)
end)

test("a filter refused in one spelling goes out in the other, and stays so", function(t)
  local server = fake.start(t, {["HEAD /api/ssl/v1"] = function(request)
    if request.query.status ~= "SA Approved" then return {status = 400} end
    return {status = 200, headers = {["X-Total-Count"] = "3"}}
  end})
  local c = server:connect()
  t:equal(c:call("ssl.count", {status = "SAApproved"}), 3)
  t:equal(#server.asked, 2)
  t:equal(c:call("ssl.count", {status = "SAApproved"}), 3)
  t:equal(#server.asked, 3)
  t:raises(function() c:call("ssl.count", {status = "Issued"}) end, "http")
  t:equal(#server.asked, 4, "one spelling only")
end)

test("a server that echoes the password does not get it into an error", function(t)
  local server = fake.start(t, {["GET /api/organization/v1"] = function(request)
    return fake.fail(-16, "bad password " .. request.headers["password"], 401)
  end})
  local err = t:raises(function() server:connect():call("organization.list") end, "auth")
  assert(tostring(err):find("bad password", 1, true), tostring(err))
  assert(not (tostring(err) .. err.scm.description):find("canary", 1, true))
end)

-------------------------------------------------------------------- errors

local function failing(t, reply)
  local server = fake.start(t, {
    ["POST /api/ssl/v1/enroll"] = reply, ["GET /api/ssl/v1/{id}"] = reply,
    ["GET /api/ssl/v1/collect/{id}"] = reply})
  return server, server:connect()
end

local function enroll(c) c:call("ssl.enroll", {orgId = 1, csr = "x"}) end

test("a code of SCM's becomes an error with meaning, mend and its own text", function(t)
  local _, c = failing(t, function()
    return fake.fail(-107, "DCV for ''a.test'' is<br>not done")
  end)
  local err = t:raises(function() enroll(c) end, "denied", "domain control validation")
  t:equal(err.code, "-107")
  t:equal(err.status, 400)
  t:equal(err.retryable, false)
  t:equal(err.scm.code, -107)
  t:equal(err.scm.description, "DCV for 'a.test' is not done")
  t:equal(err.scm.pending, false)
  t:equal(err.unanswered, nil)
  assert(tostring(err):find("validate the domain", 1, true), tostring(err))
end)

test("unknown users, codes without row, and details", function(t)
  local reply = fake.fail(-16, "Unknown user", 401)
  local server, c = failing(t, function() return reply end)
  t:raises(function() enroll(c) end, "auth", "customer_uri")
  reply = fake.fail(-99999, "Something else")
  local err = t:raises(function() enroll(c) end, "http", "Something else")
  t:equal(err.scm.meaning, nil)
  reply = fake.json({description = "no such", details = "cert 7", items = {"a", "b"}},
    404)
  t:raises(function() c:call("ssl.get", {sslId = 7}) end, "not_found",
    "no such; cert 7; a; b")
  t:equal(server.calls["GET /api/ssl/v1/{id}"], 1)
end)

test("empty, HTML and broken bodies keep the status and say what came", QUICK, function(t)
  local reply
  local _, c = failing(t, function() return reply end)
  local function get() c:call("ssl.get", {sslId = 1}) end
  reply = {status = 401}
  t:raises(function() enroll(c) end, "auth", "answers 401.*without a word")
  reply = {status = 400}
  t:raises(function() enroll(c) end, "http", "answers 400")
  reply = fake.html(403)
  t:raises(function() enroll(c) end, "denied", "403 of the proxy")
  reply = {status = 400, body = '{"code":'}
  t:raises(function() enroll(c) end, "http", '{"code":')
  reply = {status = 200, headers = {["Content-Type"] = "text/html"}, body = "<html>hi"}
  t:raises(get, "protocol", "text/html that is no JSON")
  reply = {status = 200}
  t:raises(get, "protocol", "empty body")
  reply = {status = 302, headers = {Location = "https://elsewhere.test/x?y"}}
  t:raises(function() enroll(c) end, "protocol", "redirects to https://elsewhere.test/x;")
end)

test("not ready yet, in every shape", QUICK, function(t)
  local reply
  local _, c = failing(t, function() return reply end)
  for code, text in pairs{[0] = "Being processed by Comodo", [-183] = "not collectable",
    [-1400] = "x", [-103] = "x", [-109] = "x", [-618] = "x"} do
    for _, status in ipairs{400, 404} do
      reply = fake.fail(code, text, status)
      local err = t:raises(function() c:call("ssl.collect", {sslId = 1}) end, "pending")
      t:equal(err.scm.pending, true)
      t:equal(err.retryable, true)
    end
  end
  reply = fake.fail(0, "Something else")
  t:raises(function() c:call("ssl.collect", {sslId = 1}) end, "http")
end)

test("a token server in a 401 of the classic face is named", function(t)
  local _, c = failing(t, function()
    return {status = 401, headers = {["WWW-Authenticate"] =
      'Bearer realm="apiclients", authorization_uri="https://auth.sso.test/token"'}}
  end)
  local err = t:raises(function() enroll(c) end, "auth", "client id and secret")
  t:equal(err.code, "WRONG_FACE")
  t:equal(err.scm.token_url, "https://auth.sso.test/token")
end)

-------------------------------------------------------------------- repeating

test("reads are repeated while that can help, writes are not", QUICK, function(t)
  local server, c = failing(t, function(_, n)
    if n == 1 then return fake.html(502) end
    if n == 2 then return fake.html(503, {["Retry-After"] = "7"}) end
    if n == 3 then return fake.cut() end
    return {id = 1}
  end)
  local before = t.clock:now()
  t:equal(c:call("ssl.get", {sslId = 1}), {id = 1})
  t:equal(server.calls["GET /api/ssl/v1/{id}"], 4)
  assert(t.clock:now() - before >= 7, "Retry-After was not kept")
  local err = t:raises(function() enroll(c) end, "http", "502")
  t:equal(err.unanswered, true)
  t:equal(err.retryable, false)
  t:equal(server.calls["POST /api/ssl/v1/enroll"], 1)
end)

test("a write whose answer got lost is marked and not sent again", QUICK, function(t)
  local peer = stream.start(t, function() return "close" end)
  local c = scm.connect{url = peer.url, customer_uri = "e", login = "l",
    password = "pppppp"}
  local err = t:raises(function() enroll(c) end)
  t:equal(err.unanswered, true)
  t:equal(#peer.heads, 1)
end)

test("a write that never left is sent again, a refused one when the code says so", QUICK,
  function(t)
    local server, c = failing(t, function(_, n)
      if n == 1 then return fake.html(429, {["Retry-After"] = "3"}) end
      return fake.fail(-195, "CA is not available")
    end)
    local err = t:raises(function() enroll(c) end, "http", "CA is not available now")
    t:equal(server.calls["POST /api/ssl/v1/enroll"], 2)
    t:equal(err.retryable, true)
    t:equal(err.unanswered, nil)
    local nobody = scm.connect{url = "http://127.0.0.1:1", customer_uri = "e",
      login = "l", password = "pppppp"}
    err = t:raises(function() enroll(nobody) end, "connect")
    t:equal(err.unanswered, nil)
  end)

test("a slow server ends in a timeout of ours", function(t)
  local server, c = failing(t, function()
    require "task".sleep(5)
    return {id = 1}
  end)
  local err = t:raises(function()
    c:call("ssl.get", {sslId = 1}, {timeout = "100ms", retries = 0})
  end, "timeout")
  assert(errors.is(err))
  t:equal(server.calls["GET /api/ssl/v1/{id}"], 1)
end)
