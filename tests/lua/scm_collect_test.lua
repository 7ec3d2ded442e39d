-- Collecting: every format comes out sorted and checked; every "not yet" is pending.
local fake = require "scm_fake"
local process = require "process"
local x509 = require "x509"

local QUICK = {clock = "virtual", timeout = "20s"}

local function issue(issuer, issuer_key, options)
  options.issuer, options.issuer_key, options.days = issuer, issuer_key, 90
  return x509.sign(options)
end

local root_key, middle_key = x509.key{type = "p256"}, x509.key{type = "p256"}
local key = x509.key{type = "p256"}
local root = x509.sign{key = root_key, subject = {CN = "Root"}, is_ca = true, days = 900}
local middle = issue(root, root_key, {key = middle_key, subject = {CN = "Issuing CA"},
  is_ca = true})
local leaf = issue(middle, middle_key, {key = key, names = {"a.test"}})

--- The certificates as PKCS#7, as openssl writes it.
local function pkcs7(form)
  local run = process.run{argv = {"openssl", "crl2pkcs7", "-nocrl", "-certfile",
    "/dev/stdin", "-outform", form}, stdin = root:pem() .. leaf:pem() .. middle:pem()}
  return run.stdout
end

local FILES = {
  x509 = root:pem() .. middle:pem() .. leaf:pem(),
  x509R = leaf:pem() .. middle:pem() .. root:pem(),
  pem = leaf:pem() .. middle:pem() .. root:pem(),
  x509CO = leaf:pem(), pemco = leaf:pem(),
  x509IO = root:pem() .. middle:pem(), x509IOR = middle:pem() .. root:pem(),
  pemia = leaf:pem() .. middle:pem(),
}

local function serve(t, collect, details)
  local server = fake.start(t, {
    ["GET /api/ssl/v1/collect/{id}"] = function(request, n)
      local reply = collect(request, n)
      if type(reply) ~= "string" then return reply end
      return {status = 200, body = reply, headers = {
        ["Content-Type"] = "application/octet-stream;charset=UTF-8",
        ["Content-Disposition"] = 'attachment; filename="a.cer"'}}
    end,
    ["GET /api/ssl/v1/{id}"] = details or function()
      return {id = 7, status = "Applied"}
    end})
  return server, server:connect()
end

test("every format is put in order, leaf first, and checked against the key", function(t)
  FILES.base64 = FILES.base64 or pkcs7 "PEM"
  FILES.bin = FILES.bin or pkcs7 "DER"
  local server, c = serve(t, function(request) return FILES[request.query.format] end)
  local seen = 0
  for format, file in pairs(FILES) do
    local bundle = c.ssl:collect{id = 7, format = format, key = key}
    t:equal(bundle.raw, file)
    seen = seen + 1
    if format:find "^x509IO" then
      t:equal(bundle.cert, nil)
      t:equal(bundle.pem, middle:pem())
      t:equal(bundle.chain[1]:pem(), middle:pem())
      t:equal(bundle.chain[2]:pem(), root:pem())
    else
      t:equal(bundle.cert:pem(), leaf:pem(), format)
      local alone = format == "x509CO" or format == "pemco"
      t:equal(bundle.pem, alone and leaf:pem() or leaf:pem() .. middle:pem(), format)
      t:equal(bundle.complete, not alone and format ~= "pemia", format)
    end
  end
  t:equal(seen, 10)
  t:equal(c.ssl:collect(7).cert:matches(key), true)
  t:equal(server.asked[#server.asked].query.format, "x509")
end)

test("a certificate for another key is not taken", function(t)
  local _, c = serve(t, function() return FILES.x509 end)
  local err = t:raises(function()
    c.ssl:collect{id = 7, key = x509.key{type = "p256"}}
  end, "protocol", "not for our key")
  t:equal(err.code, "WRONG_KEY")
  local csr = x509.csr{key = key, names = {"a.test"}}
  t:equal(c.ssl:collect{id = 7, key = csr}.cert:pem(), leaf:pem())
end)

test("not ready in every documented shape is pending", QUICK, function(t)
  local reply
  local _, c = serve(t, function() return reply end)
  local function is_pending(answer)
    reply = answer
    local err = t:raises(function() c.ssl:collect(7) end, "pending")
    t:equal(err.retryable, true)
  end
  is_pending(fake.fail(0, "Being processed by Sectigo"))
  is_pending(fake.fail(-183, "Certificate is not collectable."))
  is_pending(fake.fail(-103, "x", 404))
  is_pending(fake.fail(-109, "x", 404))
  is_pending(fake.fail(-1400, "x"))
  is_pending(fake.fail(-618, "x"))
  is_pending("no certificate in here")
  is_pending("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
  is_pending{status = 400}                  -- empty: the status says Applied
  is_pending(fake.fail(-99, "unheard of"))  -- likewise
end)

test("a request that a person declined or the CA rejected will not be waited for", QUICK,
  function(t)
    local status = "Declined"
    local _, c = serve(t, function() return fake.fail(-99, "no") end,
      function() return {id = 7, status = status} end)
    t:raises(function() c.ssl:wait{id = 7} end, "conflict", "declined the request")
    status = "Rejected"
    t:raises(function() c.ssl:wait{id = 7} end, "conflict", "CA rejected")
    status = "Revoked"
    t:raises(function() c.ssl:wait{id = 7} end, "conflict", "is Revoked")
    status = "Issued"
    t:raises(function() c.ssl:collect(7) end, "pending", "its status is Issued")
    status = "Brand new"
    t:raises(function() c.ssl:collect(7) end, "http", "%-99")
  end)

test("an error of the details does not hide that of the collect", QUICK, function(t)
  local _, c = serve(t, function() return fake.fail(-5101, "gone", 404) end,
    function() return fake.fail(-5101, "gone", 404) end)
  t:raises(function() c.ssl:collect(7) end, "not_found", "ssl.collect")
end)

test("waiting asks ever more slowly, and collects when issued", QUICK, function(t)
  local times = {}
  local _, c = serve(t, function(_, n)
    times[n] = t.clock:now()
    return n < 9 and fake.fail(0, "Being processed by Sectigo") or FILES.x509
  end)
  t:equal(c.ssl:wait{id = 7, key = key}.cert:pem(), leaf:pem())
  assert(times[2] - times[1] < 3, "the first pause is short")
  assert(times[9] - times[8] > 20, "the last is long")
  local _, d = serve(t, function() return fake.fail(0, "Being processed by Sectigo") end)
  local before = t.clock:now()
  t:raises(function() d.ssl:wait{id = 7, timeout = "2m"} end, "pending")
  assert(t.clock:now() - before <= 121)
end)

test("a collect has a connection of its own", function(t)
  local stream = require "http_peer"
  local peer = stream.start(t, function(conn, head)
    if not head:find "/collect/" then
      return conn:write(stream.reply(200, '{"id":7,"status":"Applied"}'))
    end
    conn:write(stream.reply(400, '{"code":0,"description":"Being processed by Sectigo"}')
      .. "spoilt") -- as the real one was seen to do
  end)
  local c = require "scm".connect{url = peer.url, customer_uri = "e", login = "l",
    password = "pppppp"}
  c.ssl:get(7)
  t:raises(function() c.ssl:collect(7) end, "pending")
  t:equal(c.ssl:get(7).status, "Applied")
end)

test("certificates of persons and devices: enrolled by names, collected alike", QUICK,
  function(t)
    local json = require "json"
    local function profiles() return json.array{{id = 9, name = "Standard"}} end
    local function collect(request, n)
      if n == 1 then return fake.fail(-183, "Certificate is not collectable.") end
      t:equal(request.query.format, "base64")
      return {status = 200, body = FILES.pemia}
    end
    local server = fake.start(t, {
      ["GET /api/organization/v1"] = function()
        return json.array{{id = 5, name = "Example Corp"}}
      end,
      ["GET /api/smime/v1/types"] = profiles, ["GET /api/device/v1/types"] = profiles,
      ["POST /api/smime/v1/enroll"] = function()
        return {orderNumber = 12345, backendCertId = "12345"}
      end,
      ["POST /api/device/v1/enroll"] = function()
        return {deviceCertId = 77, status = "APPROVED"}
      end,
      ["GET /api/smime/v1/collect/{id}"] = collect,
      ["GET /api/device/v1/collect/{id}"] = collect})
    local c = server:connect()
    local csr = x509.csr{key = key, names = {"a.test"}}
    local id = c.smime:enroll{org = "Example Corp", profile = "Standard", csr = csr,
      email = "ann@a.test", first_name = "Ann", last_name = "A"}
    t:equal(id, "12345")
    t:equal(server.asked[#server.asked].json, {orgId = 5, certType = 9, csr = csr:pem(),
      email = "ann@a.test", firstName = "Ann", lastName = "A"})
    t:equal(c.smime:wait{id = id, key = key}.pem, leaf:pem() .. middle:pem())
    id = c.device:enroll{org = 5, profile = "standard", csr = csr,
      optional_fields = {dnsName = "a.test"}}
    t:equal(server.asked[#server.asked].json.optionalFields,
      {{name = "dnsName", value = "a.test"}})
    t:equal(c.device:wait{id = id, key = key}.cert:pem(), leaf:pem())
    t:raises(function() c.device:collect "77" end, "usage", "positive integer")
    t:raises(function() c.smime:enroll{org = 5, profile = 9, csr = csr} end, "usage",
      "email")
  end)
