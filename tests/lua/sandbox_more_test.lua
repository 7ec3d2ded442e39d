-- The sandbox's SCM: ACME accounts, persons, notifications, reports, discovery, administrators.

local client = require "sandbox_client"
local json = require "json"

local start = client.start

local function path_of(res) return res:header "location":match "/api/.*$" end

local function each_fits(scm, name, list)
  assert(#list > 0, name .. ": the list is empty")
  for _, one in ipairs(list) do scm:fits(name, one) end
end

-- ------------------------------------------------------------------ ACME

test("an ACME account carries credentials, and only domains it may have", function(t)
  local scm = start(t)
  local servers = scm:fits("acme.servers", scm:get("/api/acme/v1/server", 200))
  t:equal(#scm:get("/api/acme/v1/server?certValidationType=OV", 200), 1)
  local body = {name = "web", acmeServer = servers[2].name, organizationId = 101}
  local _, res = scm:post("/api/acme/v2/account", body, 201)
  local path = path_of(res)
  local account = scm:fits("acme.account", scm:get(path, 200))
  t:equal({account.status, account.certValidationType, account.macId},
    {"pending", "OV", account.accountId})
  local answer = scm:fits("acme.not_added", scm:post(path .. "/domain", {domains = {
    {name = "www.example.com"}, {name = "www.example.net"}, {name = "new.test"}}}, 200))
  t:equal(answer.notAddedDomains, {"www.example.net", "new.test"})
  local old = path:gsub("v2", "v1")
  t:equal(scm:fits("acme.account_v1", scm:get(old, 200)).domains,
    {{name = "www.example.com"}})
  scm:fits("acme.domains", scm:get(path .. "/domain?name=.*example.*", 200))
  t:equal(#scm:get(path .. "/domain?expiresWithinNextDays=5", 200), 0)
  t:equal(#scm:get(path .. "/domain?expiresWithinNextDays=199", 200), 1)
  local gone = scm:fits("acme.not_removed", scm:delete(old .. "/domains", 200,
    {domains = {
    {name = "www.example.com"}, {name = "b.example.com"}}}))
  t:equal(gone.notRemovedDomains, {"b.example.com"})
  scm:put(path, {name = "web2"}, 200)
  t:equal(scm:get(path, 200).name, "web2")
  scm:delete(path, 204)
  scm:refused("GET", path, nil, -1601, 404)
end)

test("ACME accounts are listed per organization, servers named either way", function(t)
  local scm = start(t)
  scm:refused("GET", "/api/acme/v1/account", nil, -1001)
  local servers = scm:get("/api/acme/v1/server", 200)
  for i, org in ipairs{101, 102, 201} do
    scm:post("/api/acme/v1/account", {name = "a" .. i, acmeServer = servers[1].url,
      organizationId = org}, 201)
  end
  local function count(query)
    local list, res = scm:get("/api/acme/v2/account" .. query, 200)
    t:equal(res:header "x-total-count", tostring(#list))
    return #list
  end
  t:equal({count "", count "?organizationId=101", count "?organizationId=101%2C-2"},
    {3, 2, 1})
  scm.server:control("settings", {acme_server = "url"})
  t:equal(scm:get("/api/acme/v2/account", 200)[1].acmeServer, servers[1].url)
  scm:refused("POST", "/api/acme/v2/account", {name = "x", acmeServer = "nowhere",
    organizationId = 101}, -1601)
end)

test("universal ACME accounts are tied to a profile; clients show and end", function(t)
  local scm = start(t)
  local _, res = scm:post("/api/acme/v1/pca/account", {name = "u", acmeServer = "any",
    organizationId = 101, profileName = "InstantSSL"}, 201)
  local path = path_of(res)
  local account = scm:fits("acme.universal", scm:get(path, 200))
  local accounts = require "sandbox_acme_accounts"
  local state = scm.server.state
  accounts.register(state, accounts.by_kid(state, account.macId), {ip = "192.0.2.1",
    id = "FmcZgzSqt6TpAtQFAAAAAA==", user_agent = "lego-cli/4.2.0"})
  scm:fits("acme.clients", scm:get(path .. "/client", 200))
  scm:put(path .. "/client/FmcZgzSqt6TpAtQFAAAAAA%3D%3D", nil, 204)
  t:equal(scm:get(path .. "/client", 200)[1].status, "deactivated")
  scm:refused("PUT", path .. "/client/x", nil, -1601, 404)
end)

-- ------------------------------------------------------------------ persons

test("persons are found by e-mail, made, changed and ended", function(t)
  local scm = start(t)
  each_fits(scm, "person", scm:get("/api/person/v1", 200))
  local found = scm:get("/api/person/v1/id/byEmail/grace@example.com", 200)
  scm:fits("person.by_email", found)
  scm:get("/api/person/v2/id/byEmail/grace%40example.com", 200)
  t:equal(scm:refused("GET", "/api/person/v1/id/byEmail/no@example.com", nil, -105, 404),
    "Person with e-mail: no@example.com was not found")
  local _, res = scm:post("/api/person/v1", {firstName = "Ada", lastName = "Lovelace",
    email = "ada@example.com", validationType = "HIGH", organizationId = 102}, 201)
  local path = path_of(res)
  scm:fits("person", scm:get(path, 200))
  scm:put(path, {phone = "1"}, 200)
  t:equal(scm:get("/api/person/v1?name=ada", 200)[1].phone, "1")
  scm:refused("POST", "/api/person/v1", {firstName = "x", lastName = "y", email = "z",
    validationType = "HIGH", organizationId = 102}, -1001)
  scm:post(path .. "/invitation/send", {profileId = 1}, 202)
  scm:fits("person.endpoints",
    scm:get(path:gsub("v1", "v2") .. "/invitation/endpoint", 200))
  scm:delete(path, 200)
  scm:refused("GET", path, nil, -105, 404)
end)

-- ------------------------------------------------------------------ notifications

test("notifications keep their type", function(t)
  local scm = start(t)
  each_fits(scm, "notification", scm:get("/api/notification/v1", 200))
  assert(#scm:get("/api/notification/v1/types", 200) > 50)
  local body = {description = "DCV", type = "DCVExpiration", recipientData = {
    notifyRoles = {"MRAO"}, recipients = {{type = "EMAIL", value = "a@b.test"}}}}
  local _, res = scm:post("/api/notification/v1", body, 201)
  local path = path_of(res)
  body.description = "DCV ends"
  scm:fits("notification", scm:put(path, body, 200))
  body.type = "SSLRevoked"
  scm:refused("PUT", path, body, -1601)
  body.type = "Nonsense"
  scm:refused("POST", "/api/notification/v1", body, -9)
  t:equal(#scm:get("/api/notification/v1?type=dcvexpiration", 200), 1)
  scm:delete(path, 200)
  t:equal(#scm:get("/api/notification/v1", 200), 1)
  scm.as.viewer:refused("POST", "/api/notification/v1", body, -3)
end)

-- ------------------------------------------------------------------ reports

test("the report of certificates is the whole estate in one answer", function(t)
  local scm = start(t, {certificates = 1200})
  scm:enroll "www.example.com"
  scm.server:advance "1m"
  scm:get("/api/ssl/v1", 200)
  local report, res = scm:post("/api/report/v1/ssl-certificates", {certificateStatus = 0},
    200)
  scm:fits("report.ssl", report)
  t:equal(#report.reports, 1201)
  assert(report.reports[1201].sha1)
  assert(res:header "content-disposition":find "rest_api_ssl_certificates.json")
  local function count(body)
    return #scm:post("/api/report/v1/ssl-certificates", body, 200).reports
  end
  local _, head = scm:send("HEAD", "/api/ssl/v1?status=Revoked", nil, 200)
  t:equal(count{certificateStatus = 3}, tonumber(head:header "x-total-count"))
  t:equal(count{commonName = "nothing like it"}, 0)
  t:equal(count{certificateDateAttribute = 5, from = "2199-01-01"}, 0)
  assert(count{organizationIds = {201}} < 600)
  scm:refused("POST", "/api/report/v1/ssl-certificates", {}, -951)
  scm:refused("POST", "/api/report/v1/ssl-certificates", {from = "yesterday"}, -1601)
end)

test("reports of domains, activity, and of what the sandbox has none of", function(t)
  local scm = start(t)
  scm:enroll "www.example.com"
  t:equal(#scm:fits("report.domains", scm:post("/api/report/v1/domains", {},
    200)).reports,
    7)
  local activity = scm:fits("report.activity", scm:post("/api/report/v1/activity",
    {from = "2020-01-01"}, 200))
  t:equal(activity.reports[1].description, "POST /api/ssl/v1/enroll")
  for _, kind in ipairs{"client", "device"} do
    scm:fits("report.empty", scm:post("/api/report/v1/" .. kind .. "-certificates",
      {certificateStatus = 0}, 200))
  end
end)

-- ------------------------------------------------------------------ discovery

local function net_task(bucket)
  return {name = "scan", agent = "agent 1", certBucketId = bucket, frequency = "Manual",
    timeZone = "UTC+00:00 - GMT, UCT, UTC, WET, EGST", time = {hours = 1, minutes = 2},
    ranges = {{address = "192.0.2.0/24", ports = "443"}}}
end

test("a network scan runs, ends by the clock, and has results", function(t)
  local scm = start(t, {certificates = 10})
  local bucket = scm:fits("bucket.list", scm:get("/api/discovery/v1/bucket", 200))[1].id
  local body = net_task(bucket)
  local made, res = scm:post("/api/discovery/v4/net_task", body, 201)
  scm:fits("task.made", made)
  local path = path_of(res)
  t:equal(scm:fits("task.net", scm:get(path, 200)).status, "null")
  scm:post(path .. "/start", nil, 200)
  scm:refused("POST", path .. "/start", {}, -618)
  t:equal(scm:fits("task.list", scm:get("/api/discovery/v4/net_task?status=IN_PROCESS",
    200))[1].status, "Scan in process")
  scm.server:advance "1m"
  local operation = "/api/discovery/v1/net_task/" .. made.taskId .. "/operation"
  local list = scm:fits("operations", scm:get(operation, 200))
  t:equal(list.data[1].status, "completed")
  local result = scm:fits("operation.result", scm:get(operation .. "/" .. list.data[1].id
    .. "/result?size=3", 200))
  t:equal(#result.data, 3)
  scm:post(path .. "/start", nil, 200)
  list = scm:get(operation, 200)
  scm:post(operation .. "/" .. list.data[2].id .. "/stop", nil, 200)
  t:equal(scm:get(path, 200).status, "Scan CANCELED by user")
  body.ranges[1].address = "10.0.0.0/8"
  scm:refused("PUT", path, body, -303)
  scm:delete(path, 204)
  scm:refused("GET", path, nil, -1601, 404)
end)

test("the other tasks have fields of their own", function(t)
  local scm = start(t)
  local body = net_task(scm:get("/api/discovery/v1/bucket", 200)[1].id)
  body.ranges, body.depth, body.domainDefinition = nil, 3, "DC=test"
  local _, res = scm:post("/api/discovery/v4/ad_task", body, 201)
  scm:fits("task.ad", scm:get(path_of(res), 200))
  body.agent, body.depth, body.azureAccountId = nil, nil, 4
  _, res = scm:post("/api/discovery/v1/azure_task", body, 201)
  scm:fits("task.azure", scm:get(path_of(res), 200))
  body.certBucketId = "none"
  scm:refused("POST", "/api/discovery/v1/azure_task", body, -1601)
end)

test("rules and buckets", function(t)
  local scm = start(t, {certificates = 5})
  local _, res = scm:post("/api/discovery/v1/assignmentrule", {name = "r", orgId = 101,
    filters = {{filterType = "COMMON_NAME", matchType = "CONTAINS", value = "x"}}}, 201)
  local path = path_of(res)
  local id = tonumber(path:match "%d+$")
  scm:fits("rule", scm:get(path, 200))
  t:equal(scm:get("/api/discovery/v1/assignmentrule", 200), {id})
  t:equal(scm:get("/api/discovery/v1/assignmentrule/count", 200), {count = 1})
  local bucket
  bucket, res = scm:post("/api/discovery/v1/bucket", {name = "b", assignmentRules = {id},
    orgDelegations = {101}, authenticationEnabled = true}, 201)
  scm:fits("bucket", bucket)
  scm:refused("DELETE", path, nil, -5003)
  local place = path_of(res)
  local shown = scm:fits("bucket", scm:get(place, 200))
  t:equal({shown.clientId, shown.clientSecret}, {bucket.clientId})
  local fresh = scm:put(place .. "/reset-client-secret", nil, 200)
  assert(fresh.clientSecret ~= bucket.clientSecret)
  scm:put(place .. "/delegations", {delegationMode = "GLOBAL_FOR_CUSTOMER"}, 200)
  local held = scm:fits("bucket.certificates", scm:get(place .. "/certificates", 200))
  scm:post(place .. "/runrules", nil, 200)
  scm:post(place .. "/assign", {hashes = {held.data[1].hash}, certType = "SSL",
    organizationId = 301}, 200)
  t:equal(#scm:get("/api/ssl/v1?orgId=301", 200), 1)
  scm:delete(place, 204)
  scm:delete(path, 204)
end)

-- ------------------------------------------------------------------ the whole

--- Resources that are served; of these every operation is, but for those named here.
local SERVED = {"profile", "ca_backend", "domain", "ssl", "discovery", "notification",
  "dcv",
  "custom_field", "acme", "admin", "person", "organization", "report"}
local NOT = {["acme.validate_ev_details"] = true, ["admin.unlink"] = true,
  ["admin.list_templates"] = true, ["admin.get_template"] = true,
  ["admin.create_template"] = true, ["admin.update_template"] = true,
  ["admin.delete_template"] = true}

test("every operation of the served resources has a handler, on both faces", function(t)
  local scm, served, checked = start(t), {}, 0
  for _, name in ipairs(SERVED) do served[name] = true end
  for _, op in ipairs(require("scm").operations()) do
    if served[op.name:match "^[^.]+"] and not NOT[op.name] then
      for _, versions in ipairs{op.classic or {}, op.admin or {}} do
        local path = op.path:gsub("v%*", "v" .. (versions[1] or 1)):gsub("{[^}]*}", "7")
        if versions[1] and not scm.server.routes:find(op.method, path) then
          error(("%s: no handler for %s %s"):format(op.name, op.method, path))
        end
        checked = checked + 1
      end
    end
  end
  assert(checked > 200, checked)
end)

-- ------------------------------------------------------------------ administrators

test("administrators are made with roles and privileges, changed and ended", function(t)
  local scm = start(t)
  local body = {login = "robot", password = "Robot-password-1", type = "API",
    email = "robot@example.com", forename = "Ro", surname = "Bot",
    privileges = {"sslRequest"}, credentials = {{role = "RAO_SSL", orgId = 101}}}
  local _, res = scm:post("/api/admin/v1", body, 201)
  local path = path_of(res)
  t:equal(scm:fits("admin", scm:get(path, 200)).privileges, {"sslRequest"})
  local robot = setmetatable({base = scm.base, headers = {login = "robot",
    password = "Robot-password-1", customerUri = "sandbox"}}, client.Client)
  robot:enroll "www.example.com"
  robot:refused("POST", "/api/admin/v1", body, -3)
  scm:put(path, {privileges = {"sslApprove"}, activeStatus = "ACTIVE"}, 200)
  robot:refused("POST", "/api/ssl/v1/enroll", {}, -3)
  scm:refused("POST", "/api/admin/v1", body, -1601)
  body.login, body.privileges = "other", {"flying"}
  scm:refused("POST", "/api/admin/v1", body, -1601)
  scm:delete(path, 204)
  robot:refused("GET", "/api/ssl/v1", nil, -16, 401)
end)

test("an expired password shuts out, until it is changed", function(t)
  local scm = start(t)
  scm:fits("admin.list", scm:get("/api/admin/v1/?login=api", 200))
  scm:fits("admin", scm:get("/api/admin/v1/1", 200))
  scm.server:control("admin", {login = "api", password_expired = true})
  scm:refused("GET", "/api/ssl/v1", nil, -16, 401)
  t:equal(scm:fits("admin.password", scm:get("/api/admin/v1/password", 200)).state,
    "EXPIRED")
  scm:refused("POST", "/api/admin/v1/changepassword", {newPassword = "short"}, -7306)
  scm:post("/api/admin/v1/changepassword", {newPassword = "Longer-enough-1"}, 204)
  scm:refused("GET", "/api/ssl/v1", nil, -16, 401)
  scm.headers.password = "Longer-enough-1"
  t:equal(scm:get("/api/ssl/v1", 200), json.array{})
end)
