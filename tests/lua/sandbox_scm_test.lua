-- The sandbox's SCM beside certificates: who may call, organizations, domains, DCV, custom
-- fields, and what goes wrong on request.

local client = require "sandbox_client"
local http = require "http"
local stream = require "stream"
local json = require "json"
local task = require "task"

local start = client.start

-- ------------------------------------------------------------------ who calls

test("the header login needs all three to be right", function(t)
  local scm = start(t)
  local function status(headers)
    local res = http.get(scm.base .. "/api/organization/v1", {headers = headers,
      raise = false})
    return res.status, res.body
  end
  local right = scm.headers
  t:equal(status(right), 200)
  for _, name in ipairs{"login", "password", "customerUri"} do
    local wrong = {}
    for key, value in pairs(right) do wrong[key] = key == name and value .. "x"
      or value end
    local code, body = status(wrong)
    t:equal(code, 401)
    t:equal(json.decode(body), {code = -16, description = "Unknown user"})
    wrong[name] = nil
    t:equal(status(wrong), 401)
  end
  scm.server:control("admin", {login = "api", disabled = true})
  t:equal(status(right), 401)
end)

test("a client certificate stands for the password under /private", function(t)
  local scm = start(t, {tls = true})
  local server = scm.server
  local mine, other = server:client_certificate "api", server.tls:client "api"
  local function ask(certificate, path)
    return http.get(server.url .. path, {ca = server.ca, raise = false,
      cert = certificate and certificate.cert, key = certificate and certificate.key,
      headers = {login = "api", customerUri = "sandbox"}}).status
  end
  t:equal(ask(mine, "/private/api/organization/v1"), 200)
  t:equal(ask(mine, "/api/organization/v1"), 401)
  t:equal(ask(other, "/private/api/organization/v1"), 401)
  t:equal(ask(nil, "/private/api/organization/v1"), 401)
end)

test("bearer tokens come from the endpoint that a 401 names, and end", function(t)
  local scm = start(t)
  local server = scm.server
  local function ask(token)
    return http.get(server.admin_url .. "/api/organization/v1", {raise = false,
      headers = {Authorization = token and "Bearer " .. token, login = "api",
        password = "api-password", customerUri = "sandbox"}})
  end
  local function token(secret)
    return http.post(server.token_url, nil, {raise = false, form = {
      grant_type = "client_credentials", client_id = "sandbox-api",
      client_secret = secret}})
  end
  local refused = ask(nil)
  t:equal(refused.status, 401)
  assert(refused:header "www-authenticate":find(server.token_url, 1, true))
  t:equal(token("wrong").status, 401)
  local answer = token("sandbox-api-secret"):json()
  t:equal({answer.token_type, answer.expires_in}, {"Bearer", 300})
  t:equal(ask(answer.access_token).status, 200)
  t:equal(ask("x" .. answer.access_token).status, 401)
  server:advance(300)
  t:equal(ask(answer.access_token).status, 401)
  local again = token("sandbox-api-secret"):json().access_token
  t:equal(ask(again).status, 200)
  server:control "expire-tokens"
  t:equal(ask(again).status, 401)
  server:fault{path = "*/token", status = 429, retry_after = 7}
  local busy = token "sandbox-api-secret"
  t:equal({busy.status, busy:header "retry-after"}, {429, "7"})
end)

-- ------------------------------------------------------------------ organizations

test("organizations are listed whole, with their departments", function(t)
  local scm = start(t)
  local list = scm:fits("organization.list", scm:get("/api/organization/v1", 200))
  t:equal({list[1].name, list[1].departments[1].parentName},
    {"Example Corp", "Example Corp"})
  scm:fits("organization.details", scm:get("/api/organization/v1/102", 200))
  for _, word in ipairs{"managedBy", "managed-by"} do
    scm:fits("organization.managed_by", scm:get("/api/organization/v1/" .. word
      .. "/MRAO",
      200))
  end
  scm:get("/api/organization/v1/report-type/SSL", 200)
  scm:refused("GET", "/api/organization/v1/7", nil, -1023, 404)
end)

test("an organization is made, changed under its written names, and ended", function(t)
  local scm = start(t)
  local body = {name = "New Corp", address1 = "Street 1", country = "DE",
    stateProvince = "Bavaria", alternativeName = "New", clientCertificate = {
      allowKeyRecoveryByMasterAdmins = true, allowKeyRecoveryByOrgAdmins = false,
      allowKeyRecoveryByDepartmentAdmins = false}}
  local answer, res = scm:post("/api/organization/v1", body, 201)
  t:equal(answer, "")
  local path = res:header "location":match "/api/.*$"
  local details = scm:fits("organization.details", scm:get(path, 200))
  t:equal({details.stateOrProvince, details.secondaryName}, {"Bavaria", "New"})
  body.parentOrgName, body.name = "New Corp", "Lab"
  local _, made = scm:post("/api/organization/v1", body, 201)
  local department = made:header "location":match "/api/.*$"
  scm:refused("DELETE", path, nil, -1021)
  scm:delete(department, 204)
  scm:delete(path, 204)
  scm:refused("GET", path, nil, -1023, 404)
  scm:refused("POST", "/api/organization/v1", {name = "x"}, -1001)
  body.parentOrgName = "Nobody"
  scm:refused("POST", "/api/organization/v1", body, -1023)
end)

test("validations of organizations open and close the way for OV and EV", function(t)
  local scm = start(t)
  local base = "/api/organization/v2/301/validations"
  local list = scm:fits("organization.validations", scm:get(base, 200))
  t:equal({#list, list[1].status}, {1, "PENDING"})
  scm:fits("organization.validation", scm:get(base .. "/" .. list[1].id, 200))
  scm.server:control("org-validation", {orgId = 301, level = "OV_SSL", outcome = "valid"})
  t:equal(scm:get(base, 200)[1].status, "VALIDATED")
  scm:enroll("startup.test", {orgId = 301})
  local again = scm:fits("organization.validation",
    scm:put(base .. "/" .. list[1].id .. "/revalidate", {}, 200))
  t:equal({again.status, again.backgroundStatus}, {"VALIDATED", "PENDING"})
  scm.server:advance "400d"
  t:equal(scm:get(base, 200)[1].status, "EXPIRED")
  scm:delete(base .. "/" .. list[1].id, 204)
  local submit = {organizationDetails = {generalDetails = {legalName = "S",
    country = "DE"}},
    backendId = 1, validationLevel = "EV_SSL"}
  scm:post(base .. "/submit", submit, 201)
  scm:refused("POST", base .. "/submit", submit, -1021)
  submit.overwriteIfExists = true
  local _, res = scm:post(base .. "/submit", submit, 201)
  local path = res:header "location":match "/api/.*$"
  scm:put(path .. "/validator", {adminId = 2}, 202)
  t:equal(scm:get(path, 200).validator, {id = 2, name = "Alan Approver"})
  scm:fits("organization.validation", scm:post(path .. "/sync", {}, 200))
  scm:fits("ca_backend.list", scm:get("/api/ca-backend/v1", 200))
end)

-- ------------------------------------------------------------------ profiles

test("profiles are listed in both styles", function(t)
  local scm = start(t, {settings = {duplicate_profiles = true}})
  local old = scm:fits("ssl.types", scm:get("/api/ssl/v1/types?organizationId=101", 200))
  scm:refused("GET", "/api/ssl/v1/types?organizationId=7", nil, -1023)
  local names = {}
  for _, profile in ipairs(old) do names[profile.name] = (names[profile.name]
    or 0) + 1 end
  t:equal(names.InstantSSL, 2)
  local page, res = scm:get("/api/profile/v1?size=4&page=1&sort=id,desc", 200)
  t:equal({#page, page[1].id, res:header "x-total-count"}, {4, 512, "9"})
  t:equal(scm:get("/api/profile/v1/521", 200).attributes.validationLevel, "EV")
  scm:refused("GET", "/api/profile/v1/7", nil, -111, 404)
end)

-- ------------------------------------------------------------------ domains

test("a domain is requested, delegated by another, and used", function(t)
  local scm = start(t)
  local _, res = scm:post("/api/domain/v1", {name = "Made.test", active = "true",
    delegations = {{orgId = 101, certTypes = {"SSL"}}}}, 201)
  local path = res:header "location":match "/api/.*$"
  local details = scm:fits("domain.details", scm:get(path, 200))
  t:equal({details.name, details.delegationStatus, details.validationStatus},
    {"made.test", "REQUESTED", "NOT_VALIDATED"})
  scm:refused("POST", path .. "/delegation/approve", {orgId = 101}, -3)
  scm.as.approver:post(path .. "/delegation/approve", {orgId = 101}, 200)
  scm.as.approver:refused("POST", path .. "/delegation/approve", {orgId = 101}, -705)
  scm.server:control("dcv", {domain = "made.test", outcome = "valid"})
  scm:enroll "www.made.test"
  scm.as.approver:refused("DELETE", path, nil, -740)
  scm.as.approver:post("/api/domain/v1/delegation",
    {orgId = 103, domainIds = {details.id}},
    200)
  t:equal(#scm:get(path, 200).delegations, 2)
  scm:delete(path .. "/delegation", 200, {orgId = 103})
  t:equal(#scm:get(path, 200).delegations, 1)
  scm.as.approver:put(path .. "/suspend", nil, 200)
  t:equal(scm:get(path, 200).state, "SUSPENDED")
  scm.as.approver:put(path .. "/activate", nil, 200)
  scm:refused("PUT", path .. "/monitoring", {enabled = true}, -7)
  scm:put(path .. "/monitoring", {enabled = true, bucketId = "x"}, 200)
end)

test("privileges of a delegation decide about names under it", function(t)
  local scm = start(t)
  scm.as.approver:post("/api/domain/v1", {name = "only.test", delegations = {{orgId = 101,
    certTypes = {"SSL"}, domainCertificateRequestPrivileges = {"DOMAIN"}}}}, 201)
  scm.server:control("dcv", {domain = "only.test", outcome = "valid"})
  scm:enroll "only.test"
  scm:refused("POST", "/api/ssl/v1/enroll", {orgId = 101, certType = 511,
    csr = client.csr "www.only.test"}, -1010)
end)

test("domains are listed with filters; wrong names are named", function(t)
  local scm = start(t)
  scm:fits("domain.list", scm:get("/api/domain/v1", 200))
  local function count(query)
    return scm:fits("domain.count", scm:get("/api/domain/v1/count?" .. query, 200)).count
  end
  t:equal({count "", count "name=example", count "status=requested", count "orgId=201",
    count "state=inactive"}, {7, 3, 1, 2, 0})
  local page, res = scm:get("/api/domain/v1?size=3&position=6", 200)
  t:equal({#page, res:header "x-total-count"}, {1, "7"})
  local one = {{orgId = 101, certTypes = {"SSL"}}}
  local function refused(code, name, delegations)
    scm:refused("POST", "/api/domain/v1", {name = name, delegations = delegations or one},
      code)
  end
  refused(-700, "example.com")
  refused(-709, "a.test", {})
  refused(-712, "a.b")
  refused(-713, ("a"):rep(64) .. ".test")
  refused(-714, "abcdef")
  refused(-732, "a_b-.test")
  refused(-1023, "a.test", {{orgId = 7}})
  t:equal(count "", 7)
  scm:refused("GET", "/api/domain/v1/7", nil, -727, 404)
end)

-- ------------------------------------------------------------------ DCV

local V = "/api/dcv/v1/validation/"

test("a domain is proven by CNAME: start, submit, check", function(t)
  local scm = start(t)
  local d = {domain = "new.test"}
  scm:refused("POST", V .. "submit/domain/cname", d, -724)
  local record = scm:fits("dcv.cname", scm:post(V .. "start/domain/cname", d, 200))
  assert(record.host:find "^_%x+%.new%.test%.$" and #record.host == 43, record.host)
  assert(record.point:find "^%x+%.%x+%.sectigo%.com%.$")
  t:equal(scm:post(V .. "start/domain/cname", d, 200), record)
  local status = scm:post("/api/dcv/v2/validation/status", d, 200)
  t:equal({status.orderStatus, status.host}, {"AWAITING_SUBMIT", record.host})
  scm:fits("dcv.submitted", scm:post(V .. "submit/domain/cname", d, 200))
  status = scm:fits("dcv.status", scm:post("/api/dcv/v2/validation/status", d, 200))
  t:equal({status.status, status.orderStatus, status.orderMode},
    {"NOT_VALIDATED", "SUBMITTED", "CNAME"})
  scm.server:control("dcv", {domain = "new.test", outcome = "fail"})
  t:equal(scm:post(V .. "sync?force=true", d, 200).orderStatus, "SUBMITTED")
  scm.server:control("dcv", {domain = "new.test", outcome = "valid"})
  status = scm:fits("dcv.status_v1", scm:post(V .. "status", d, 200))
  t:equal({status.status, status.orderStatus}, {"VALIDATED", "NOT_INITIATED"})
  scm.server:advance "201d"
  t:equal(scm:post(V .. "status", d, 200).status, "EXPIRED")
end)

test("HTTP, HTTPS, TXT, persistent TXT and e-mail have their own data", function(t)
  local scm = start(t, {settings = {dcv = "accept"}})
  local d = {domain = "new.test"}
  for _, scheme in ipairs{"http", "https"} do
    local file = scm:fits("dcv.http", scm:post(V .. "start/domain/" .. scheme, d, 200))
    local name = file.url:match("^" .. scheme
      .. "://new%.test/%.well%-known/pki%-validation/"
      .. "(%x+)%.txt$")
    assert(#name == 32 and name == name:upper()
      and file.firstLine:lower() == file.firstLine)
    scm:fits("dcv.submitted", scm:post(V .. "submit/domain/" .. scheme, d, 200))
    scm:post(V .. "clear", d, 200)
  end
  local txt = scm:fits("dcv.submitted_txt", scm:post(V .. "submit/domain/txt", d, 200))
  t:equal({txt.host, #txt.point}, {"_pki-validation.new.test.", 32})
  scm:fits("dcv.cleared", scm:post(V .. "clear", d, 200))
  txt = scm:post("/api/dcv/v2/validation/submit/domain/persistent-txt", d, 200)
  t:equal(txt.host, "_validation-persist.new.test.")
  scm.server:advance "1m"
  local status = scm:post("/api/dcv/v2/validation/status", d, 200)
  t:equal(status.status, "VALIDATED")
  scm:post(V .. "delete", d, 200)
  t:equal(scm:post(V .. "status", d, 200).status, "NOT_VALIDATED")
  local mail = scm:fits("dcv.email", scm:post(V .. "start/domain/email", d, 200))
  t:equal(mail.emails[1], "admin@new.test")
  scm:refused("POST", V .. "submit/domain/email", {domain = "new.test",
    email = "me@new.test"}, -1603)
  scm:fits("dcv.submitted_email", scm:post(V .. "submit/domain/email",
    {domain = "new.test", email = "admin@new.test"}, 200))
  scm:fits("dcv.status", scm:post("/api/dcv/v2/validation/status", d, 200))
end)

test("DCV refuses what is not registrable, not known, or not allowed", function(t)
  local scm = start(t)
  scm:refused("POST", V .. "status", {domain = "www.example.com"}, -723)
  scm:refused("POST", V .. "status", {domain = "*.example.com"}, -723)
  scm:refused("POST", V .. "status", {domain = "unknown.test"}, -727, 404)
  scm:refused("POST", V .. "status", {}, -1001)
  local text = scm.as.viewer:refused("GET", "/api/dcv/v1/validation", nil, -3)
  t:equal(text, "You are not authorized to perform DCV validation.")
end)

test("validations are listed, by state and by what expires", function(t)
  local scm = start(t)
  local list = scm:fits("dcv.list", scm:get("/api/dcv/v1/validation?org=&department=",
    200))
  t:equal(#list, 7)
  t:equal(#scm:get("/api/dcv/v2/validation?dcvStatus=Not%20validated", 200), 1)
  t:equal(scm:get("/api/dcv/v2/validation?dcvStatus=EXPIRED", 200)[1].domain,
    "expired.test")
  t:equal(#scm:get("/api/dcv/v2/validation?expiresIn=3", 200), 0)
  scm.server:advance "168d"
  t:equal(#scm:get("/api/dcv/v2/validation?expiresIn=3", 200), 1)
  scm.server:control("settings", {dcv_words = "display"})
  t:equal(scm:get("/api/dcv/v2/validation", 200)[5].dcvStatus, "Not validated")
end)

-- ------------------------------------------------------------------ custom fields

test("custom fields in both versions", function(t)
  local scm = start(t)
  local list = scm:fits("custom_field.list", scm:get("/api/customField/v2/?certType=",
    200))
  scm:fits("custom_field.list_v1", scm:get("/api/customField/v1", 200))
  scm:fits("ssl.custom_fields", scm:get("/api/ssl/v1/customFields", 200))
  local _, res = scm:post("/api/customField/v2", {name = "Kind", certType = "SSL",
    input = {
    type = "TEXT_OPTION", options = {"a", "b"}}}, 201)
  local path = res:header "location":match "/api/.*$"
  local field = scm:fits("custom_field.details", scm:get(path, 200))
  t:equal({field.certType, field.input.options}, {"ssl", {"a", "b"}})
  scm:refused("POST", "/api/customField/v2", {name = "Kind", certType = "ssl"}, -134)
  field.state = "INACTIVE"
  t:equal(scm:put("/api/customField/v2", field, 200).state, "INACTIVE")
  t:equal(#scm:get("/api/ssl/v1/customFields", 200), #list)
  scm:delete(path, 204)
  scm:refused("GET", path, nil, -135, 404)
  t:equal(scm:post("/api/customField/v1", {name = "Old", mandatory = true},
    200).mandatory,
    true)
end)

-- ------------------------------------------------------------------ faults

local function ask(scm, path)
  return http.get(scm.base .. (path or "/api/organization/v1"), {headers = scm.headers,
    raise = false, retry = 0})
end

test("faults fit method and path, wait, and are used up", function(t)
  local scm = start(t)
  scm.server:fault{method = "get", path = "/api/*/v1", status = 502, html = true,
    skip = 1,
    times = 2}
  local seen = {}
  for i = 1, 5 do seen[i] = ask(scm).status end
  t:equal(seen, {200, 502, 502, 200, 200})
  scm.server:fault{path = "/api/domain/*", status = 503}
  t:equal(ask(scm).status, 200)
  scm.server:control("faults", {clear = true})
  t:equal(ask(scm, "/api/domain/v1").status, 200)
end)

test("429 with Retry-After, pages of proxies, empty and odd bodies", function(t)
  local scm = start(t)
  scm.server:control("faults", {{status = 429, retry_after = 5},
    {status = 502, html = true},
    {status = 401, empty = true}, {status = 200, body = "{\"half\":"}})
  local busy, page, empty, odd = ask(scm), ask(scm), ask(scm), ask(scm)
  t:equal({busy.status, busy:header "retry-after"}, {429, "5"})
  t:equal(page.status, 502)
  t:equal(page:header "content-type", "text/html")
  assert(page.body:find "<h1>502 Bad Gateway</h1>")
  t:equal({empty.status, empty.body}, {401, ""})
  t:equal(odd.body, '{"half":')
end)

test("an answer is lost after the work was done, or before", function(t)
  local scm = start(t)
  local body = {orgId = 101, certType = 511, csr = client.csr "www.example.com"}
  for _, case in ipairs{{"drop", 0}, {"lose", 1}} do
    scm.server:fault{path = "/api/ssl/v1/enroll", [case[1]] = true}
    t:raises(function() scm:post("/api/ssl/v1/enroll", body) end)
    t:equal(#scm:get("/api/ssl/v1", 200), case[2])
  end
end)

test("an answer is cut in the middle", function(t)
  local scm = start(t)
  scm.server:fault{truncate = true}
  t:raises(function() ask(scm) end)
  t:equal(ask(scm).status, 200)
end)

test("an answer is no HTTP, by fault and after a refused collect", function(t)
  local scm = start(t, {settings = {collect_breaks = true}})
  scm.server:fault{raw = "what?\r\n\r\n"}
  t:raises(function() ask(scm) end, "protocol")
  local conn <close> = stream.connect{host = "127.0.0.1", port = scm.server.classic.port}
  local id = scm:enroll "www.example.com"
  conn:write(("GET /api/ssl/v1/collect/%d HTTP/1.1\r\nHost: x\r\nlogin: api\r\n"
    .. "password: api-password\r\ncustomerUri: sandbox\r\n\r\n"):format(id))
  t:equal(conn:read(), "HTTP/1.1 400 Bad Request")
  conn:read_until "Sectigo\"}"
  conn:write "GET /api/ssl/v1 HTTP/1.1\r\nHost: x\r\n\r\n"
  t:equal(conn:read(), "\0\0HTP/1.1 2OO")
end)

test("slow answers come by the clock", {clock = "virtual"}, function(t)
  local scm = start(t)
  scm.server:fault{slow = "40s"}
  t:raises(function() task.timeout("30s", ask, scm) end, "timeout")
  t:equal(ask(scm).status, 200)
end)

test("faults and settings that cannot be are named", function(t)
  local scm = start(t)
  t:raises(function() scm.server:fault{path = "/x"} end, "usage", "status, slow")
  t:raises(function() scm.server:fault{stauts = 500} end, "usage", "status")
  t:raises(function() start(t, {settings = {lagg = 1}}) end, "usage", "lag")
  local res = http.post(scm.base .. "/control/clock", nil, {json = {advanse = "1d"},
    raise = false})
  t:equal(res.status, 400)
  assert(res:json().error:find "advance")
  res = http.post(scm.base .. "/control/clok", nil, {json = {}, raise = false})
  assert(res:json().error:find "did you mean clock")
end)

test("the control face moves the clock and tells what was asked", function(t)
  local scm = start(t)
  scm:get("/api/organization/v1", 200)
  local seen = http.get(scm.base .. "/control/requests"):json()
  t:equal({seen.count, seen.last[1].path, seen.last[1].login},
    {1, "/api/organization/v1", "api"})
  local answer = http.post(scm.base .. "/control/clock", nil,
    {json = {set = "2030-01-01T00:00:00Z"}}):json()
  assert(answer.now:find "^2030%-01%-01T00:00:00", answer.now)
end)
