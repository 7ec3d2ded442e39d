-- SSL certificates of the sandbox's SCM: how they are asked for, issued, changed and ended.

local client = require "sandbox_client"
local http = require "http"
local json = require "json"
local x509 = require "x509"

local start, csr = client.start, client.csr

local function enroll_body(names, fields)
  local body = {orgId = 101, certType = 511, term = 199, csr = csr(names)}
  for key, value in pairs(fields or {}) do body[key] = value end
  return body
end

-- ------------------------------------------------------------------ issuing

test("an OV request walks Requested, Approved, Applied, Issued", function(t)
  local scm = start(t, {settings = {approval = "manual", apply_after = "10s",
    issue_after = "1h"}})
  local answer = scm:post("/api/ssl/v1/enroll", enroll_body "www.example.com", 200)
  scm:fits("ssl.enrolled", answer)
  local id = answer.sslId
  t:equal(scm:status(id), "Requested")
  scm:refused("GET", "/api/ssl/v1/collect/" .. id, nil, 0)
  scm:refused("POST", "/api/ssl/v1/approve/" .. id, {message = "me"}, -3)
  scm.as.approver:post("/api/ssl/v1/approve/" .. id, {message = "fine"}, 204)
  t:equal(scm:status(id), "Approved")
  scm.as.approver:refused("POST", "/api/ssl/v1/approve/" .. id, {message = "x"}, -1112)
  scm.server:advance "10s"
  t:equal(scm:status(id), "Applied")
  scm.server:advance "1h"
  local details = scm:get("/api/ssl/v1/" .. id, 200)
  scm:fits("ssl.details", details)
  t:equal(details.status, "Issued")
  local cert = x509.read(scm:get("/api/ssl/v1/collect/" .. id .. "?format=x509CO", 200))
  t:equal(details.serialNumber:gsub(":", ""):lower(), cert.serial)
  t:equal(cert.validation, "ov")
end)

test("those who may approve themselves wait for nobody, save for EV", function(t)
  local scm = start(t)
  local ov, ev = scm:enroll "www.example.com", scm:enroll("a.example.com",
    {certType = 521})
  scm.server:advance "1m"
  t:equal({scm:status(ov), scm:status(ev)}, {"Issued", "Requested"})
  scm.server:control("admin", {login = "api", grant = {"sslApprove"}})
  scm:refused("POST", "/api/ssl/v1/approve/" .. ev, {message = "me"}, -1140)
  scm.as.approver:post("/api/ssl/v1/approve/" .. ev, {message = "fine"}, 204)
  scm.server:advance "1m"
  t:equal(scm:status(ev), "Issued")
end)

test("details fit the documented shape in every state", function(t)
  local scm = start(t, {certificates = 300, settings = {approval = "manual"}})
  local seen = {}
  for id = 20001, 20300 do
    local details = scm:get("/api/ssl/v1/" .. id, 200)
    scm:fits("ssl.details", details)
    seen[details.status] = true
  end
  scm:fits("ssl.details", scm:get("/api/ssl/v2/" .. scm:enroll "www.example.com", 200))
  assert(seen.Issued and seen.Revoked and seen.Expired and seen.Requested,
    "the estate has too few states")
end)

test("collect gives every format, the chain in the documented order", function(t)
  local scm = start(t)
  local id = scm:enroll({"www.example.com", "example.com"})
  scm.server:advance "1m"
  local function names(format, path)
    local text, res = scm:get("/api/ssl/v1/collect/" .. id
      .. (path and "/" or "?format=") .. format, 200)
    local list = {}
    for i, cert in ipairs(x509.read_chain(text)) do
      list[i] = cert.is_ca and (cert.self_signed and "root" or "issuer") or "leaf"
    end
    return table.concat(list, " "), res
  end
  t:equal(names "x509", "root issuer leaf")
  t:equal(names "x509R", "leaf issuer root")
  t:equal(names("pem", true), "leaf issuer root")
  t:equal(names "x509CO", "leaf")
  t:equal(names "pemco", "leaf")
  t:equal(names "x509IO", "root issuer")
  t:equal(names "x509IOR", "issuer root")
  t:equal(names "pemia", "leaf issuer")
  local _, res = names "x509"
  t:equal(res:header "content-type", "application/octet-stream;charset=UTF-8")
  t:equal(res:header "content-disposition", 'attachment; filename="www_example_com.cer"')
  local der = scm:get("/api/ssl/v1/collect/" .. id .. "?format=bin", 200)
  t:equal(der:sub(1, 1), "\x30")
  local pem = scm:get("/api/ssl/v1/collect/" .. id, 200)
  assert(pem:find "^%-%-%-%-%-BEGIN PKCS7%-%-%-%-%-\n", pem)
  scm:refused("GET", "/api/ssl/v1/collect/" .. id .. "?format=x510", nil, -126)
  scm:refused("GET", "/api/ssl/v1/collect/7", nil, -5101, 404)
end)

test("what is not ready says so as the settings want it", function(t)
  local scm = start(t, {settings = {stuck = true}})
  local id = scm:enroll "www.example.com"
  scm.server:advance "30d"
  t:equal(scm:status(id), "Applied")
  local path = "/api/ssl/v1/collect/" .. id
  t:equal(scm:refused("GET", path, nil, 0), "Being processed by Sectigo")
  scm.server:control("settings", {pending_code = -109, pending_status = 404})
  scm:refused("GET", path, nil, -109, 404)
  scm.server:control("settings", {empty_errors = true})
  t:equal(scm:get(path, 404), "")
  scm.server:control("settings", {stuck = false, empty_errors = false})
  scm.server:advance "1m"
  scm:get(path, 200)
end)

-- ------------------------------------------------------------------ refusals

test("requests are refused with the code that says why", function(t)
  local scm = start(t)
  local function refused(code, names, fields)
    return scm:refused("POST", "/api/ssl/v1/enroll", enroll_body(names, fields), code)
  end
  local name = "www.example.com"
  t:equal(refused(-1001, name, {csr = json.null}), "Value of 'csr' must not be null.")
  refused(-1001, name, {comments = ("x"):rep(1025)})
  refused(-1023, name, {orgId = 7})
  refused(-111, name, {certType = 7})
  refused(-36, name, {term = 398})
  refused(-9, name, {csr = "?"})
  refused(-10, name, {csr = "AAAA"})
  refused(-11, name, {csr = csr(name, "ed25519")})
  refused(-13, name, {csr = csr(name, "p521")})
  refused(-1010, "www.example.net")
  refused(-1010, "www.example.edu")
  refused(-107, "www.expired.test")
  refused(-107, "new.test")
  refused(-1601, "*.example.com")
  refused(-1601, name, {certType = 513})
  refused(-1601, name, {subjAltNames = "a.example.com,b.example.com"})
  refused(-1601, name, {certType = 522, subjAltNames = "*.example.com"})
  refused(-843, "startup.test", {orgId = 301})
  refused(-843, "www.example.net", {orgId = 201, certType = 521})
  refused(-135, name, {customFields = {{name = "Nope", value = "1"}}})
  scm:put("/api/organization/v1/101", {sslCertsApiEnabled = false}, 200)
  refused(-37, name)
  scm.as.viewer:refused("POST", "/api/ssl/v1/enroll", enroll_body(name), -3)
  t:equal(scm:get("/api/ssl/v1", 200), {})
end)

test("names come from the common name and the comma-separated field alone", function(t)
  local scm = start(t)
  local function names(fields)
    local id = scm:post("/api/ssl/v1/enroll",
      enroll_body({"www.example.com", "x.example.com"},
      fields), 200).sslId
    scm.server:advance "1m"
    return x509.read(scm:get("/api/ssl/v1/collect/" .. id .. "/x509CO", 200)).names
  end
  t:equal(names{}, {"www.example.com"})
  t:equal(names{certType = 503, subjAltNames = "b.example.com, *.c.example.com"},
    {"www.example.com", "b.example.com", "*.c.example.com"})
  t:equal(names{certType = 503, subjAltNames = {"b.example.com"}}, {"www.example.com"})
end)

test("a mandatory custom field is asked for", function(t)
  local scm = start(t)
  scm:post("/api/customField/v2", {name = "Owner", certType = "ssl",
    mandatories = {"REST_API"}}, 201)
  local body = enroll_body "www.example.com"
  scm:refused("POST", "/api/ssl/v1/enroll", body, -62)
  body.customFields = {{name = "Owner", value = "me"}}
  local id = scm:post("/api/ssl/v1/enroll", body, 200).sslId
  t:equal(scm:get("/api/ssl/v1/" .. id, 200).customFields, body.customFields)
end)

test("terms follow the calendar", function(t)
  local scm = start(t)
  scm.server:control("clock", {set = "2026-03-01T00:00:00Z"})
  local function longest()
    local terms = scm:get("/api/ssl/v1/types", 200)[1].terms
    return terms[#terms]
  end
  t:equal(longest(), 397)
  for _, case in ipairs{{"2026-03-15", 199}, {"2027-03-15", 99}, {"2029-03-15", 46}} do
    scm.server:control("clock", {set = case[1] .. "T00:00:00Z"})
    t:equal(longest(), case[2])
  end
end)

-- ------------------------------------------------------------------ what follows

test("a declined request can be changed, and is asked for again", function(t)
  local scm = start(t, {settings = {approval = "manual"}})
  local id = scm:enroll "www.example.com"
  scm.as.approver:refused("POST", "/api/ssl/v1/decline/" .. id, {}, -1001)
  scm.as.approver:post("/api/ssl/v1/decline/" .. id, {message = "no"}, 204)
  t:equal(scm:status(id), "Declined")
  scm:refused("GET", "/api/ssl/v1/collect/" .. id, nil, -1112)
  local details = scm:put("/api/ssl/v1", {sslId = id, term = 90,
    csr = csr "a.example.com",
    subjectAlternativeNames = json.array{}, comments = "again"}, 200)
  scm:fits("ssl.details", details)
  t:equal({details.status, details.term, details.commonName, details.comments},
    {"Requested", 90, "a.example.com", "again"})
  scm.as.approver:post("/api/ssl/v1/approve/" .. id, {message = "ok"}, 204)
  scm.server:advance "1m"
  scm:refused("PUT", "/api/ssl/v1", {sslId = id, term = 30}, -1112)
  local changed = scm:put("/api/ssl/v1", {sslId = id, autoRenewDetails = {
    state = "Scheduled", daysBeforeExpiration = 20}}, 200)
  t:equal(changed.autoRenewDetails, {state = "Scheduled", daysBeforeExpiration = 20})
end)

test("revocation ends a certificate, and stands on the list", function(t)
  local scm = start(t)
  local a, b, c = scm:enroll "a.example.com", scm:enroll "b.example.com",
    scm:enroll "c.example.com"
  local revoke = "/api/ssl/v1/revoke/"
  scm:refused("POST", revoke .. a, {reason = "early"}, -102)
  scm.server:advance "1m"
  scm:refused("POST", revoke .. a, {}, -1001)
  scm:refused("POST", revoke .. a, {reason = "x", reasonCode = 2}, -1601)
  scm:post(revoke .. a, {reason = "gone", reasonCode = "4"}, 204)
  scm:refused("POST", revoke .. a, {reason = "again"}, -159)
  local serial = scm:get("/api/ssl/v1/" .. b, 200).serialNumber
  scm:post(revoke .. "serial/" .. serial, {reason = "gone", reasonCode = 1}, 204)
  scm:post(revoke .. "manual",
    {certId = c, revokeDate = "2026-05-21T12:24:27.916+00:00"}, 204)
  t:equal({scm:status(a), scm:status(b), scm:status(c)}, {"Revoked", "Revoked",
    "Revoked"})
  t:equal(scm:get("/api/ssl/v1/" .. c, 200).revoked, "05/21/2026")
  t:equal(scm:get("/api/ssl/v1/" .. a, 200).reasonCode, 4)
  scm:refused("GET", "/api/ssl/v1/collect/" .. a, nil, -110)
  local list = x509.read_crl(scm:get("/ca/OV.crl", 200))
  t:equal(#list.revoked, 3)
end)

test("a certificate expires by itself, and can be renewed then", function(t)
  local scm = start(t)
  local id = scm:enroll "www.example.com"
  scm.server:advance "1m"
  scm.server:advance "200d"
  t:equal(scm:status(id), "Expired")
  scm.server:control("dcv", {domain = "example.com", outcome = "valid"})
  local new = scm:fits("ssl.renewed", scm:post("/api/ssl/v1/renewById/" .. id,
    {csr = csr "www.example.com"}, 200)).sslId
  scm.server:advance "1m"
  t:equal(scm:status(new), "Issued")
  t:equal(scm:get("/api/ssl/v1/" .. id, 200).renewed, true)
end)

test("renewals by either id, and the mark for one made elsewhere", function(t)
  local scm = start(t)
  local answer = scm:post("/api/ssl/v1/enroll", enroll_body "www.example.com", 200)
  scm:refused("POST", "/api/ssl/v1/renewById/" .. answer.sslId, {}, -105)
  scm.server:advance "1m"
  scm:post("/api/ssl/v1/renew/" .. answer.renewId, {}, 204)
  scm:refused("POST", "/api/ssl/v1/renew/nonsense", {}, -123)
  scm:refused("POST", "/api/ssl/v1/renewById/" .. answer.sslId,
    {csr = csr "b.example.com"}, -166)
  t:equal(#scm:get("/api/ssl/v1", 200), 2)
  local other = scm:enroll "c.example.com"
  scm.server:advance "1m"
  scm:post("/api/ssl/v1/renew/manual/" .. other, {id = answer.sslId}, 204)
  t:equal(scm:get("/api/ssl/v1/" .. other, 200).renewed, true)
end)

test("replacement keeps the id, or makes a new one when told", function(t)
  local scm = start(t)
  local id = scm:enroll "www.example.com"
  scm.server:advance "1m"
  local before = scm:get("/api/ssl/v1/" .. id, 200).serialNumber
  local pem, key = csr "www.example.com"
  scm:post("/api/ssl/v1/replace/" .. id, {csr = pem, reason = "new key"}, 204)
  scm:refused("GET", "/api/ssl/v1/collect/" .. id, nil, 0)
  scm.server:advance "1m"
  local details = scm:get("/api/ssl/v1/" .. id, 200)
  assert(details.serialNumber ~= before and details.replaced)
  assert(x509.read(scm:get("/api/ssl/v1/collect/" .. id .. "/x509CO", 200)):matches(key))
  scm.server:control("settings", {replace = "new_id"})
  scm:post("/api/ssl/v1/replace/" .. id, {csr = pem, reason = "again"}, 204)
  t:equal(scm:status(id), "Replaced")
  t:equal(#scm:get("/api/ssl/v1", 200), 2)
end)

test("without prevalidation a certificate proves its domains itself", function(t)
  local scm = start(t, {settings = {prevalidation = false}})
  local id = scm:enroll("new.test", {dcvMode = "CNAME"})
  scm.server:advance "1d"
  t:equal(scm:status(id), "Applied")
  local shown = scm:fits("ssl.dcv", scm:get("/api/ssl/v1/" .. id .. "/dcv", 200))
  assert(shown.instructions[1].host:find "^_%x+%.new%.test%.$")
  scm:post("/api/ssl/v1/" .. id .. "/dcv/recheck", {}, 202)
  t:equal(scm:status(id), "Applied")
  scm.server:control("dcv", {sslId = id, outcome = "valid"})
  scm.server:advance "1m"
  t:equal(scm:status(id), "Issued")
  t:equal(scm:fits("ssl.dcv", scm:get("/api/ssl/v1/" .. id .. "/dcv", 200)).instructions,
    {})
  scm:refused("POST", "/api/ssl/v1/enroll", enroll_body("new.test", {dcvMode = "EMAIL"}),
    -951)
end)

test("keys made by the server, locations, imports", function(t)
  local scm = start(t)
  local answer = scm:post("/api/ssl/v1/enroll-keygen", {orgId = 101, certType = 511,
    commonName = "k.example.com", algorithm = "EC", keyParam = "P-256"}, 200)
  scm.server:advance "1m"
  t:equal(scm:get("/api/ssl/v1/" .. answer.sslId, 200).keyType, "EC")
  scm:refused("GET", "/api/ssl/v1/keystore/" .. answer.sslId .. "/p13", nil, -1450)
  local place = "/api/ssl/v1/" .. answer.sslId .. "/location"
  local _, res = scm:post(place, {details = {host = "a"}}, 201)
  local location = "/api/ssl/v1" .. res:header "location":match "/api/ssl/v1(.*)$"
  scm:fits("ssl.location", scm:get(location, 200))
  scm:put(location, {details = {host = "b"}}, 200)
  t:equal(scm:fits("ssl.locations", scm:get(place, 200))[1].details, {host = "b"})
  scm:delete(location, 204)
  scm:refused("GET", location, nil, -5101, 404)
  local key = x509.key{}
  local pem = x509.sign{key = key, names = {"old.example.com"}}:pem()
  local results = scm:post("/api/ssl/v2/import", {{orgID = 101, cert = pem},
    {orgID = 101, cert = pem}, {orgID = 101, cert = "?"}}, 200)
  scm:fits("ssl.imported", results)
  t:equal({results[1].created, results[2].created}, {true, false})
  scm:refused("DELETE", "/api/ssl/v1/" .. answer.sslId, nil, -3)
  scm:delete("/api/ssl/v1/" .. results[1].cert.id, 204)
  scm:refused("GET", "/api/ssl/v1/" .. results[1].cert.id, nil, -5101, 404)
end)

-- ------------------------------------------------------------------ lists

test("pages are exact at their borders, and count all", function(t)
  local scm = start(t, {certificates = 400})
  scm:enroll "www.example.com"
  local seen, position = {}, 0
  repeat
    local page, res = scm:get(("/api/ssl/v1?size=200&position=%d"):format(position), 200)
    scm:fits("ssl.list", page)
    t:equal(res:header "x-total-count", "401")
    for _, row in ipairs(page) do seen[#seen + 1] = row.sslId end
    position = position + #page
  until #page == 0
  t:equal({#seen, seen[1], seen[401]}, {401, 20001, 20401})
  local _, res = scm:send("HEAD", "/api/ssl/v1?status=Issued", nil, 200)
  assert(tonumber(res:header "x-total-count") < 401)
  t:equal(#scm:get("/api/ssl/v1?size=0", 200), 0)
  t:equal(#scm:get("/api/ssl/v1", 200), 200)
  scm:refused("GET", "/api/ssl/v1?size=201", nil, -1001)
  scm:refused("GET", "/api/ssl/v1?position=-1", nil, -1001)
  scm:refused("GET", "/api/ssl/v1?position=x", nil, -1001)
end)

test("filters take both spellings, and find what they should", function(t)
  local scm = start(t, {certificates = 200})
  local id = scm:enroll("find-me.example.org",
    {comments = "x", externalRequester = "z@z.test"})
  scm.server:advance "1m"
  local details = scm:get("/api/ssl/v1/" .. id, 200)
  local function only(query)
    local page = scm:get("/api/ssl/v1?" .. query, 200)
    t:equal(#page == 1 and page[1].sslId, id, query)
  end
  only "commonName=find-me"
  only "commonName=FIND-ME&status=Issued&requestedVia=API"
  only "requestedVia=Web%20API&externalRequester=z@z.test"
  only("serialNumber=" .. details.serialNumber)
  only("sha1Hash=" .. details.certificateDetails.sha1Hash)
  only "subjectAlternativeName=find-me&orgId=101&sslTypeId=511&status=issued"
  only "signatureAlgorithm=ecdsa"
  t:equal(scm:get("/api/ssl/v1?status=SAApproved", 200), {})
  t:equal(scm:get("/api/ssl/v1?status=SA%20Approved", 200), {})
  t:equal(scm:get("/api/ssl/v1?installStatus=NONE&size=3", 200),
    scm:get("/api/ssl/v1?installStatus=Not%20configured&size=3", 200))
  scm:refused("GET", "/api/ssl/v1?status=Isued", nil, -1601)
  local before = scm:get("/api/ssl/v1?status=Issued&size=200", 200)
  scm:post("/api/ssl/v1/revoke/" .. id, {reason = "x"}, 204)
  t:equal(#scm:get("/api/ssl/v1?status=Issued&size=200", 200), #before - 1)
end)

test("what was just made is not seen at once when reads lag", function(t)
  local scm = start(t, {settings = {lag = "30s"}})
  local id = scm:enroll "www.example.com"
  t:equal(scm:get("/api/ssl/v1", 200), {})
  scm:refused("GET", "/api/ssl/v1/" .. id, nil, -5101, 404)
  scm.server:advance "30s"
  t:equal(#scm:get("/api/ssl/v1", 200), 1)
end)

test("a seeded estate is a function of its seed, down to the signed bytes", function(t)
  local options = {certificates = 50, epoch = 1790000000 // 86400 * 86400}
  local one, two = start(t, options), start(t, options)
  local path = "/api/ssl/v1?size=50"
  t:equal(one:get(path, 200), two:get(path, 200))
  options.seed = 8
  local other = start(t, options):get(path, 200)
  assert(one:get(path, 200)[1].serialNumber ~= other[1].serialNumber)
  local function collect()
    return one:get("/api/ssl/v1/collect/20001/x509", 200)
  end
  local first = collect()
  one.server.state.certs.cache = {}
  t:equal(collect(), first)
end)

test("dates come in the form asked for, or the one of the face", function(t)
  local scm = start(t, {certificates = 1, settings = {dates = "iso"}})
  local path = "/api/ssl/v1/20001"
  local function requested(query) return scm:get(path .. (query or ""), 200).requested end
  local month, day, year = requested():match "^(%d%d)/(%d%d)/(%d%d%d%d)$"
  for name, want in pairs{EU = ("%s.%s.%s"):format(day, month, year),
    uk = ("%s/%s/%s"):format(day, month, year), jp = ("%s/%s/%s"):format(year, month,
      day),
    ["yyyy'y'MM"] = ("%sy%s"):format(year, month)} do
    t:equal(requested("?dateFormat=" .. name), want)
  end
  assert(requested "?dateFormat=US_HMS":find "^%d%d/%d%d/%d%d%d%d %d%d:%d%d:%d%d$")
  local token = http.post(scm.server.token_url, nil, {form = {client_id = "sandbox-api",
    grant_type = "client_credentials", client_secret = "sandbox-api-secret"}}):json()
  local shown = http.get(scm.server.admin_url .. path,
    {bearer = token.access_token}):json()
  assert(shown.requested:find "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$")
end)

test("the vendor's quirks of paths are accepted", function(t)
  local scm = start(t, {certificates = 3})
  t:equal(#scm:get("/api/ssl/v1/", 200), 3)
  t:equal(#scm:get("/api/ssl/v2", 200), 3)
  t:equal(scm:get("/api/ssl/v1/20001?dateFormat=iso",
    200).requested:find "^%d+%-%d+%-%d+$", 1)
  t:equal(scm:get("/api/ssl/v1/20001?dateFormat=dd.MM.yy", 400).code, -1601)
  local _, res = scm:send("PATCH", "/api/ssl/v1", {}, 405)
  t:equal(res:header "allow", "GET, HEAD, PUT")
  scm:get("/api/nothing/v1", 404)
  local raw = http.get(scm.base .. "/control/status", {raise = false})
  t:equal(raw:json().certificates, 3)
end)
