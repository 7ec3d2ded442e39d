-- Our client against the sandbox's SCM, which was written from the same documents by others:
-- both faces, and enrolments whose answers get lost, one by one, at every point.
local scm = require "scm"
local scm_server = require "scm_server"
local x509 = require "x509"

local QUICK = {clock = "virtual", timeout = "30s"}
local ORG = "Example Corp"

local function start(t, options)
  options = options or {}
  options.tls = false
  local server = scm_server.start(options)
  t:defer(function() server:close() end)
  return server
end

local function connect(server, face, login, retries)
  login = login or "api"
  if face == "admin" then
    return scm.connect{url = server.admin_url, retries = retries, oauth = {
      client_id = "sandbox-" .. login, client_secret = "sandbox-" .. login .. "-secret",
      token_url = server.token_url}}
  end
  return scm.connect{url = server.url, customer_uri = "sandbox", login = login,
    password = login .. "-password", retries = retries}
end

local key = x509.key{type = "p256"}

local function csr_for(names)
  return x509.csr{key = key, subject = {CN = names[1]}, names = names}
end

for _, face in ipairs{"classic", "admin"} do
  test("every product from enrolment to revocation, " .. face .. " face", QUICK,
    function(t)
      local server = start(t)
      local c, boss = connect(server, face), connect(server, face, "approver")
      for product, names in pairs{
        ["PositiveSSL"] = {"www.example.com"}, ["InstantSSL Pro"] = {"a.example.com"},
        ["InstantSSL Premium Wildcard"] = {"*.example.com", "example.com"},
        ["EV Multi-Domain"] = {"b.example.com", "c.example.com"}} do
        local id = c.ssl:enroll{org = ORG, profile = product, product = product,
          csr = csr_for(names), term = 199, server_type = "Tomcat"}
        if c.ssl:get(id).status == "Requested" then
          boss.ssl:approve{id = id, message = "fine"}
        end
        local bundle = c.ssl:wait{id = id, key = key, timeout = "1h"}
        for _, name in ipairs(names) do assert(bundle.cert:covers(name), name) end
        t:equal(bundle.complete, true)
        t:equal(c.ssl:get(id).state, "issued")
        t:equal(c.ssl:revoke{id = id, reason = "done", code = "superseded"}, true)
        t:equal(c.ssl:get(id).state, "gone")
      end
    end)
end

test("an estate of any size is listed whole, with filters in either spelling", function(t)
  local server = start(t, {certificates = 401})
  for _, face in ipairs{"classic", "admin"} do
    local c, seen, count = connect(server, face), {}, 0
    for cert in c.ssl:list() do
      assert(not seen[cert.sslId], "twice")
      seen[cert.sslId] = true
      count = count + 1
    end
    t:equal(count, 401)
    t:equal(c.ssl:count(), 401)
    t:equal(c.ssl:count{requested_via = "web api"},
      c.ssl:count{requested_via = "API"})
  end
end)

--- Enrol once, as a flow does: look before asking again.
local function enrol_until_known(c, csr)
  for try_number = 1, 6 do
    local ok, id = pcall(function()
      local wanted = {org = ORG, profile = "InstantSSL Pro", csr = csr}
      if try_number > 1 then
        wanted.key = "once-1"
        local found = c.ssl:find_enrolment(wanted)
        if found then return found.id end
        wanted.key = nil
      end
      wanted.idempotency_key = "once-1"
      return (c.ssl:enroll(wanted))
    end)
    if ok then return id end
  end
  error("gave up", 0)
end

for _, face in ipairs{"classic", "admin"} do
  test("each answer of an enrolment lost once: one certificate, " .. face, QUICK,
    function(t)
      local lost_enrolment = false
      for skip = 0, 11 do
        local server = start(t)
        server:fault{lose = true, skip = skip}
        local c = connect(server, face, nil, 0)
        local id = enrol_until_known(c, csr_for{"www.example.com"})
        local bundle
        for _ = 1, 3 do
          local ok, got = pcall(c.ssl.wait, c.ssl, {id = id, key = key, timeout = "1h"})
          bundle = bundle or ok and got
        end
        assert(bundle, "not collected")
        local again = connect(server, face) -- which repeats what reads
        local list = again.ssl:list{common_name = "www.example.com"}:all()
        t:equal(#list, 1, ("skip %d"):format(skip))
        t:equal(list[1].sslId, id)
        lost_enrolment = lost_enrolment or skip == 2
        server:close()
      end
      assert(lost_enrolment)
    end)
end

test("what the sandbox refuses comes with code and mend", QUICK, function(t)
  local server = start(t)
  local c = connect(server, "classic")
  local function refused(kind, code, names, profile)
    local err = t:raises(function()
      c.ssl:enroll{org = ORG, profile = profile or "InstantSSL Pro",
        csr = csr_for(names), term = 199}
    end, kind)
    t:equal(err.code, code)
    assert(err.scm.mend, tostring(err))
  end
  refused("denied", "-107", {"www.expired.test"})
  refused("denied", "-1010", {"www.elsewhere.test"})
  local stranger = scm.connect{url = server.url, customer_uri = "sandbox", login = "api",
    password = "not-the-password"}
  local err = t:raises(function() stranger:call("organization.list") end, "auth")
  t:equal(err.code, "-16")
  t:equal(err.status, 401)
end)
