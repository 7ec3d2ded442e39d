-- Enrolment: what goes out, what is refused before it does, and finding what was lost.
local fake = require "scm_fake"
local json = require "json"
local scm = require "scm"
local x509 = require "x509"

local QUICK = {clock = "virtual", timeout = "20s"}
local key = x509.key{type = "p256"}
local PROFILE = {id = 424, name = "InstantSSL Pro", terms = {199, 365},
  keyTypes = {RSA = {"2048", "4096"}, EC = {"P-256", "P-384"}}}

local function csr_for(names, options)
  options = options or {}
  return x509.csr{key = options.key or key, subject = {CN = options.cn or names[1]},
    names = names}
end

--- A server with one organization and profile, and what else a test needs.
local function serve(t, handlers, options)
  handlers["GET /api/organization/v1"] = function()
    return json.array{{id = 1, name = "Example Corp"}}
  end
  handlers["GET /api/ssl/v1/types"] = function() return json.array{PROFILE} end
  handlers["GET /api/ssl/v2/types"] = handlers["GET /api/ssl/v1/types"]
  handlers["POST /token"] = function() return {access_token = "t"} end
  local function enroll() return {sslId = 55, renewId = "gu03sW6WENt7GTvDTuOP"} end
  handlers["POST /api/ssl/v1/enroll"] = handlers["POST /api/ssl/v1/enroll"] or enroll
  handlers["POST /api/ssl/v2/enroll"] = enroll
  local server = fake.start(t, handlers)
  if options then options.oauth.token_url = server.url .. "/token" end
  return server, server:connect(options)
end

local function last(server) return server.asked[#server.asked] end

test("an enrolment carries every name of the CSR, org and profile by name", function(t)
  local server, c = serve(t, {})
  local csr = csr_for{"WWW.a.test", "a.test", "b.test"}
  local id, answer = c.ssl:enroll{org = "Example Corp", profile = "InstantSSL Pro",
    csr = csr, term = 199, comments = "for the shop", idempotency_key = "k-1",
    custom_fields = {Owner = "web", Cost = 42}, dcv_mode = "CNAME",
    external_requester = {"a@x.test", "b@x.test"}, server_type = "tomcat",
    number_servers = 2}
  t:equal(id, 55)
  t:equal(answer.renewId, "gu03sW6WENt7GTvDTuOP")
  t:equal(last(server).json, {orgId = 1, certType = 424, csr = csr:pem(), term = 199,
    subjAltNames = "a.test,b.test", comments = "for the shop [secrun:k-1]",
    customFields = {{name = "Cost", value = "42"}, {name = "Owner", value = "web"}},
    externalRequester = "a@x.test,b@x.test", dcvMode = "CNAME", serverType = 24,
    numberServers = 2})
end)

test("names that are given replace those of the CSR", function(t)
  local server, c = serve(t, {})
  c.ssl:enroll{org = 1, profile = 424, csr = csr_for({"a.test", "x.test"}):pem(),
    names = {"A.test", "c.test", "c.test"}}
  t:equal(last(server).json.subjAltNames, "c.test")
  t:equal(last(server).json.comments, nil)
end)

test("the admin face gets no server fields, but their names are checked", function(t)
  local oauth = {client_id = "enroll", client_secret = "ssssss"}
  local server, c = serve(t, {}, {oauth = oauth})
  local options = {org = 1, profile = 424, csr = csr_for{"a.test"},
    server_type = "Tomcat", number_servers = 1}
  c.ssl:enroll(options)
  t:equal(last(server).json.serverType, nil)
  t:equal(last(server).json.numberServers, nil)
  options.server_type = "Tomcatt"
  t:raises(function() c.ssl:enroll(options) end, "usage", 'did you mean "Tomcat"')
end)

test("what SCM would refuse is refused before it is asked", function(t)
  local server, c = serve(t, {})
  local function refuses(kind, pattern, change)
    local options = {org = "Example Corp", profile = "InstantSSL Pro",
      csr = csr_for{"a.test"}}
    for name, value in pairs(change) do options[name] = value end
    t:raises(function() c.ssl:enroll(options) end, kind, pattern)
  end
  refuses("usage", "term 30; profile \"InstantSSL Pro\" offers 199, 365", {term = 30})
  refuses("usage", "p521 key; profile .* takes EC P%-256", {csr = csr_for({"a.test"},
    {key = x509.key{type = "p521"}})})
  refuses("not_found", 'did you mean "Example Corp"', {org = "Exampl Corp"})
  refuses("not_found", "InstantSSL Pro", {profile = "EV SSL"})
  refuses("usage", "did you mean external_requester", {external_requestor = "x"})
  refuses("usage", "shorten the comment by", {comments = ("x"):rep(1020),
    idempotency_key = "k"})
  refuses("usage", "letters, digits", {idempotency_key = "a key"})
  refuses("usage", "EV certificate never has a wildcard", {product = "EV SSL",
    csr = csr_for{"*.a.test"}})
  refuses("usage", "is not one name", {names = {"a.test,b.test"}})
  t:equal(server.calls["POST /api/ssl/v1/enroll"], nil)
end)

test("an answer without an id says to look before trying again", function(t)
  local _, c = serve(t, {["POST /api/ssl/v1/enroll"] = function() return {x = 1} end})
  local err = t:raises(function()
    c.ssl:enroll{org = 1, profile = 424, csr = csr_for{"a.test"}}
  end, "protocol", "look for the enrolment")
  t:equal(err.unanswered, true)
end)

test("what SCM refuses comes with its code, its text and the mend", function(t)
  local reply
  local _, c = serve(t, {["POST /api/ssl/v1/enroll"] = function() return reply end})
  for code, case in pairs{
    [-107] = {"denied", "validate the domain"},
    [-737] = {"denied", "validate the domain"},
    [-1137] = {"denied", "validate the domain"}, [-843] = {"denied", "organization"},
    [-111] = {"not_found", "profile"}, [-170] = {"denied", "RSA"},
    [-13] = {"usage", "key size"}, [-36] = {"usage", "term"}, [-62] = {"usage", "custom"},
    [-3] = {"denied", "privilege"}, [-25] = {"denied", "privilege"},
    [-1010] = {"denied", "delegate"}, [-1140] = {"denied", "another login"}} do
    reply = fake.fail(code, "SCM's own words")
    local err = t:raises(function()
      c.ssl:enroll{org = 1, profile = 424, csr = csr_for{"a.test"}}
    end, case[1], case[2])
    t:equal(err.code, tostring(code))
    assert(tostring(err):find("SCM's own words", 1, true))
  end
end)

-------------------------------------------------------------------- finding

--- A store of enrolments; each shows in lists only after `lag` seconds.
local function store(t, lag)
  local all = {}
  local server, c
  local function add(details)
    details.id, details.at = 100 + #all, t.clock and t.clock:now() or 0
    all[#all + 1] = details
    return details.id
  end
  server, c = serve(t, {
    ["GET /api/ssl/v1"] = function(request)
      local list = {}
      for _, details in ipairs(all) do
        local visible = not t.clock or t.clock:now() - details.at >= (lag or 0)
        local name = request.query.commonName:lower()
        if visible and details.commonName:lower():find(name, 1, true) then
          list[#list + 1] = {sslId = details.id, commonName = details.commonName}
        end
      end
      return fake.list(list, #list)
    end,
    ["GET /api/ssl/v1/{id}"] = function(request)
      return fake.json(all[tonumber(request.params.id) - 99])
    end,
    ["POST /api/ssl/v1/enroll"] = function(request)
      local body = request.json
      local names = {}
      for name in (body.subjAltNames or ""):gmatch "[^,]+" do names[#names + 1] = name end
      add{commonName = x509.read_csr(body.csr).subject.CN, orgId = body.orgId,
        certType = {id = body.certType}, subjectAlternativeNames = json.array(names),
        comments = body.comments, status = "Applied"}
      return fake.cut() -- done, but nobody is told
    end})
  return server, c, add
end

local function record(change)
  local details = {commonName = "a.test", orgId = 1, certType = {id = 424},
    subjectAlternativeNames = json.array{"b.test"}, comments = "x [secrun:k-1]",
    status = "Requested"}
  for name, value in pairs(change or {}) do details[name] = value end
  return details
end

local WANTED = {key = "k-1", org = "Example Corp", profile = "InstantSSL Pro",
  names = {"a.test", "b.test"}, wait = 0}

local function find(c, change)
  local options = {}
  for name, value in pairs(WANTED) do options[name] = value end
  for name, value in pairs(change or {}) do options[name] = value end
  return c.ssl:find_enrolment(options)
end

test("an enrolment without answer is found, in spite of the lag", QUICK, function(t)
  local server, c = store(t, 10)
  local csr = csr_for{"a.test", "b.test"}
  local err = t:raises(function()
    c.ssl:enroll{org = 1, profile = 424, csr = csr, idempotency_key = "k-1"}
  end)
  t:equal(err.unanswered, true)
  t:equal(server.calls["POST /api/ssl/v1/enroll"], 1)
  local found = c.ssl:find_enrolment{key = "k-1", org = 1, profile = 424, csr = csr}
  t:equal(found.id, 100)
  t:equal(found.status, "Applied")
  t:equal(found.state, "open")
  t:equal(found.duplicates, {})
end)

test("what is not there is nil after the wait, not before", QUICK, function(t)
  local server, c, add = store(t)
  add(record{comments = "x [secrun:k-12]"})
  add(record{comments = ""})
  local before = t.clock:now()
  t:equal(find(c, {wait = "30s"}), nil)
  local waited = t.clock:now() - before
  assert(waited >= 15 and waited <= 31, waited)
  t:equal(server.calls["GET /api/ssl/v1/{id}"], 2, "details are read once each")
end)

test("what carries our key but differs is not adopted", QUICK, function(t)
  for pattern, change in pairs{
    ["organization 2 instead of 1"] = {orgId = 2},
    ["profile 9 instead of 424"] = {certType = {id = 9}},
    ["name b.test missing"] = {subjectAlternativeNames = json.array{}},
    ["name evil.test, which was not"] = {
      subjectAlternativeNames = json.array{"b.test", "evil.test"}},
  } do
    local _, c, add = store(t)
    add(record(change))
    local err = t:raises(function() find(c) end, "conflict", pattern)
    t:equal(err.code, "NOT_OURS")
  end
end)

test("names that SCM adds by itself do not matter, nor case", QUICK, function(t)
  local _, c, add = store(t)
  add(record{commonName = "A.test", subjectAlternativeNames = json.array{"B.test",
    "www.a.test"}})
  t:equal(find(c).id, 100)
  local _, d, add2 = store(t)
  add2(record{commonName = "*.a.test", subjectAlternativeNames = json.array{"a.test"}})
  t:equal(find(d, {names = {"*.a.test"}}).id, 100)
end)

test("of several with the key the oldest alive is taken, the others are told", QUICK,
  function(t)
    local _, c, add = store(t)
    add(record{status = "Declined"})
    add(record{status = "Issued"})
    add(record{status = "Requested"})
    local found = find(c)
    t:equal(found.id, 101)
    t:equal(found.state, "issued")
    t:equal(found.duplicates, {102})
    local _, d, add2 = store(t)
    add2(record{status = "Rejected"})
    t:equal(find(d).state, "dead")
  end)

test("a search without names is refused", function(t)
  local _, c = serve(t, {})
  t:raises(function()
    c.ssl:find_enrolment{key = "k", org = 1, profile = 424}
  end, "usage", "csr or names")
end)

test("a whole enrolment through lost answers makes one certificate", QUICK, function(t)
  local server, c = store(t, 3)
  local csr, sent = csr_for{"a.test"}, 0
  local function once()
    local found = c.ssl:find_enrolment{key = "k-2", org = 1, profile = 424, csr = csr}
    if found then return found.id end
    sent = sent + 1
    return c.ssl:enroll{org = 1, profile = 424, csr = csr, idempotency_key = "k-2"}
  end
  local id
  for _ = 1, 3 do id = id or select(2, pcall(once)) end
  local ok = math.type(id) == "integer"
  if not ok then id = once() end
  t:equal(id, 100)
  t:equal(sent, 1)
  t:equal(server.calls["POST /api/ssl/v1/enroll"], 1)
  assert(scm.status "Applied")
end)
