-- TLS certificates in SCM: decisions, renewal, filters, details in both shapes.
local fake = require "scm_fake"
local json = require "json"
local scm = require "scm"

local ORGS = json.array{
  {id = 1, name = "Example Corp", departments = json.array{
    {id = 11, name = "IT", parentName = "Example Corp"}}},
  {id = 2, name = "Other Corp", departments = json.array{
    {id = 21, name = "IT", parentName = "Other Corp"},
    {id = 22, name = "Sales", parentName = "Other Corp"}}},
}

local PROFILES = {
  ["1"] = {{id = 424, name = "InstantSSL Pro", terms = {199, 365}},
    {id = 425, name = "Short Life", description = "a"},
    {id = 426, name = "Short Life", description = "b"}},
}

local function serve(t, handlers)
  handlers["GET /api/organization/v1"] = function() return fake.json(ORGS) end
  handlers["GET /api/ssl/v1/types"] = function(request)
    return fake.json(json.array(PROFILES[request.query.organizationId] or {}))
  end
  local server = fake.start(t, handlers)
  return server, server:connect()
end

local function last(server) return server.asked[#server.asked] end

test("organizations are found by name, by path, in any case; never guessed", function(t)
  local server, c = serve(t, {})
  t:equal(c.organization:id "Example Corp", 1)
  t:equal(c.organization:id "example corp", 1)
  t:equal(c.organization:id "Other Corp/IT", 21)
  t:equal(c.organization:id "Sales", 22)
  t:equal(c.organization:id(77), 77)
  t:equal(server.calls["GET /api/organization/v1"], 1)
  t:raises(function() c.organization:id "IT" end, "usage",
    "11 %(Example Corp/IT%), 21 %(Other Corp/IT%)")
  t:raises(function() c.organization:id "Exmple Corp" end, "not_found",
    'did you mean "Example Corp"')
end)

test("filters name organization and profile, in our spelling or SCM's", function(t)
  local server, c = serve(t, {["GET /api/ssl/v1"] = function()
    return fake.list({}, 0)
  end})
  c.ssl:list{org = "Example Corp", profile = "InstantSSL Pro", common_name = "a.test",
    status = "SA Approved"}:all()
  local query = last(server).query
  t:equal(query.orgId, "1")
  t:equal(query.sslTypeId, "424")
  t:equal(query.commonName, "a.test")
  t:equal(query.status, "SAApproved")
  t:raises(function() c.ssl:list{profile = "InstantSSL Pro"} end, "usage", "needs org")
  t:raises(function() c.ssl:list{org = 1, profile = "Short Life"} end, "usage",
    "425 %(a%), 426 %(b%); give the id")
  t:raises(function() c.ssl:list{org = 1, profile = "InstantSSL"} end, "not_found",
    'did you mean "InstantSSL Pro"')
  t:raises(function() c.ssl:list{org = 1, stauts = "Issued"} end, "usage", '"status"')
end)

test("a count needs no list, on both faces", function(t)
  local server = fake.start(t, {
    ["HEAD /api/ssl/v1"] = function()
      return {status = 200, headers = {["X-Total-Count"] = "12"}}
    end,
    ["GET /api/ssl/v2"] = function() return fake.list({{sslId = 1}}, 34) end,
    ["POST /token"] = function() return {access_token = "t"} end})
  t:equal(server:connect().ssl:count{status = "Issued"}, 12)
  local admin = server:connect{oauth = {client_id = "count", client_secret = "ssssss",
    token_url = server.url .. "/token"}}
  t:equal(admin.ssl:count(), 34)
  t:equal(last(server).query.size, "1")
end)

test("details say the state; the validation is a list in both shapes", function(t)
  local dcv = {dcvLog = {}, instructions = {}}
  local server, c = serve(t, {
    ["GET /api/ssl/v1/{id}"] = function() return {id = 7, status = "SA Approved"} end,
    ["GET /api/ssl/v1/{id}/dcv"] = function() return fake.json(dcv) end})
  t:equal(c.ssl:get(7).state, "open")
  t:equal(c.ssl:get{id = 7}.id, 7)
  t:raises(function() c.ssl:get "7" end, "usage", "integer")
  t:equal(#c.ssl:dcv(7), 1)
  dcv = json.array{dcv, dcv}
  t:equal(#c.ssl:dcv{id = 7}, 2)
  t:equal(server.calls["GET /api/ssl/v1/{id}/dcv"], 2)
end)

test("revocation takes reasons by name, and either id or serial", function(t)
  local server, c = serve(t, {
    ["POST /api/ssl/v1/revoke/{id}"] = function() return {status = 204} end,
    ["POST /api/ssl/v1/revoke/serial/{serial}"] = function() return {status = 204} end})
  t:equal(c.ssl:revoke{id = 7, reason = "key lost", code = "key_compromise"}, true)
  t:equal(last(server).json, {reason = "key lost", reasonCode = 1})
  c.ssl:revoke{serial = "AB:CD", reason = "new one", code = 4}
  t:equal(last(server).raw_path, "/api/ssl/v1/revoke/serial/AB%3ACD")
  c.ssl:revoke{id = 7, reason = "x"}
  t:equal(last(server).json.reasonCode, 0)
  t:raises(function() c.ssl:revoke{id = 7, reason = "x", code = 2} end, "usage",
    "SCM takes")
  t:raises(function() c.ssl:revoke{id = 7, reason = "x", code = "superceded"} end,
    "usage", 'did you mean "superseded"')
  t:raises(function() c.ssl:revoke{reason = "x"} end, "usage", "either id or serial")
  t:raises(function() c.ssl:revoke{id = 7} end, "usage", "reason")
end)

test("where SCM renews by itself, ours refuses or takes over, never both", function(t)
  local auto = {state = "Scheduled", daysBeforeExpiration = 30}
  local server, c = serve(t, {
    ["GET /api/ssl/v1/{id}"] = function()
      return {id = 7, status = "Issued", autoRenewDetails = auto}
    end,
    ["PUT /api/ssl/v1"] = function() return {id = 7} end,
    ["POST /api/ssl/v1/renewById/{id}"] = function() return {sslId = 74} end})
  local err = t:raises(function() c.ssl:renew{id = 7, csr = "x"} end, "conflict",
    "30 days before it expires")
  t:equal(err.code, "AUTO_RENEWAL")
  t:equal(server.calls["POST /api/ssl/v1/renewById/{id}"], nil)
  t:equal(c.ssl:renew{id = 7, csr = "x", auto_renew = "take_over"}, 74)
  t:equal(server.asked[3].json, {sslId = 7, autoRenewDetails = {state = "Not scheduled"}})
  t:equal(last(server).json, {csr = "x"})
  auto = {state = "Not scheduled"}
  t:equal(c.ssl:renew{id = 7}, 74)
  t:equal(last(server).body, "{}")
  t:equal(server.calls["PUT /api/ssl/v1"], 1)
end)

test("approve, decline, replace; what is missing is named", function(t)
  local server, c = serve(t, {
    ["POST /api/ssl/v1/approve/{id}"] = function() return {status = 204} end,
    ["POST /api/ssl/v1/decline/{id}"] = function()
      return fake.fail(-1112, "Can''t approve in state Issued")
    end,
    ["POST /api/ssl/v1/replace/{id}"] = function() return {status = 204} end})
  t:equal(c.ssl:approve{id = 7, message = "fine"}, true)
  t:raises(function() c.ssl:approve{id = 7} end, "usage", "message")
  local err = t:raises(function() c.ssl:decline{id = 7, message = "no"} end, "conflict",
    "Can't approve")
  t:equal(err.code, "-1112")
  c.ssl:replace{id = 7, csr = "x", reason = "new key", names = {"a.test", "b.test"}}
  t:equal(last(server).json, {csr = "x", reason = "new key",
    subjectAlternativeNames = {"a.test", "b.test"}})
end)

test("the link to a key by POST, by GET where that is too new", function(t)
  local posts = {status = 405}
  local server, c = serve(t, {
    ["POST /api/ssl/v1/keystore/{id}/{format}"] = function() return posts end,
    ["GET /api/ssl/v1/keystore/{id}/{format}"] = function()
      return {link = "https://x.test/old"}
    end})
  t:equal(c.ssl:keystore{id = 7, format = "p12", passphrase = "canary-pass"},
    "https://x.test/old")
  t:equal(server.asked[1].json, {passphrase = "canary-pass"})
  posts = {link = "https://x.test/new"}
  t:equal(c.ssl:keystore{id = 7, format = "p12"}, "https://x.test/new")
  posts = fake.fail(-37, "denied")
  t:raises(function() c.ssl:keystore{id = 7, format = "p12"} end, "denied")
end)

test("any operation is a method; parameters in either spelling", function(t)
  local server, c = serve(t, {
    ["GET /api/person/v1"] = function() return fake.list({{id = 1}}, 1) end,
    ["DELETE /api/person/v1/{id}"] = function() return {status = 204} end,
    ["GET /api/endpoint/v1/{a}/account/{b}"] = function() return {id = 1} end})
  t:equal(#c.person:list{organization_id = 5, secondaryEmail = "x@y.test"}:all(), 1)
  t:equal(last(server).query.organizationId, "5")
  t:equal(c.person:delete(5), true)
  t:equal(c.endpoint:get_account{eeId = 1, id = 2}.id, 1)
  t:raises(function() c.endpoint:get_account(1) end, "usage", "eeId and id; give a table")
  t:raises(function() c.person.list{organizationId = 5} end, "usage", "colon")
  t:raises(function() c.ssl.list{org = 1} end, "usage", "write c.ssl:list with a colon")
  t:raises(function() return c.person.lits end, "usage", 'did you mean "list"')
  t:raises(function() return c.persons end, "usage", 'did you mean "person"')
end)

test("validation of domains by any method, statuses in one spelling", function(t)
  local server, c = serve(t, {
    ["POST /api/dcv/v1/validation/start/domain/cname"] = function()
      return {host = "_a.example.test.", point = "b.sectigo.com."}
    end,
    ["POST /api/dcv/v1/validation/submit/domain/email"] = function()
      return {status = "Not validated", orderStatus = "Submitted", message = "ok"}
    end,
    ["POST /api/dcv/v1/validation/submit-bulk/domain/email"] = function()
      return {message = "Submitted successfully"}
    end,
    ["POST /api/dcv/v2/validation/status"] = function()
      return {status = "VALIDATED", orderStatus = "Something new", expirationDate = "x"}
    end,
    ["POST /api/dcv/v1/validation/sync"] = function() return {status = "Expired"} end,
    ["POST /api/dcv/v1/validation/delete"] = function() return {status = 200} end})
  t:equal(c.dcv:start{domain = "example.test", method = "cname"}.host, "_a.example.test.")
  local answer = c.dcv:submit{domain = "example.test", method = "email",
    email = "admin@example.test"}
  t:equal(answer.status, "NOT_VALIDATED")
  t:equal(answer.orderStatus, "SUBMITTED")
  c.dcv:submit{domains = {"a.test", "b.test"}, method = "email", email = "x@a.test"}
  t:equal(last(server).json, {domains = {"a.test", "b.test"}, email = "x@a.test"})
  t:equal(c.dcv:status("example.test").orderStatus, "Something new")
  t:equal(c.dcv:sync{domain = "example.test", force = true}.status, "EXPIRED")
  t:equal(last(server).query.force, "true")
  t:equal(c.dcv:delete "example.test", true)
  t:raises(function() c.dcv:start{domain = "a.test", method = "dns"} end, "usage")
  t:raises(function() c.dcv:start{domain = "a.test", method = "txt"} end, "usage",
    "only on the admin face")
  t:raises(function() c.dcv:start{domains = {"a.test"}, method = "http"} end, "usage",
    "e%-mail only")
end)

test("dates and statuses for scripts", function(t)
  t:equal(scm.date "05/21/2025", scm.date "2025-05-21T00:00:00.000Z")
  t:equal(scm.date_text(scm.date "2025-05-21", "EU"), "21.05.2025")
  t:raises(function() scm.date "yesterday" end, "protocol", "no date")
  t:equal({scm.status "sa approved"}, {"SAApproved", "open"})
  t:equal(scm.status "nothing", nil)
  assert(#scm.codes() > 130)
end)
