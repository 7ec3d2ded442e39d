-- Edge cases of accounts and revocation, against the CA of acme_ca.lua.

local encoding = require "encoding"
local fake = require "acme_ca"
local fs = require "fs"
local json = require "json"
local x509 = require "x509"

local function file_account(t, ca)
  local path = t:tmpdir() .. "/account.pem"
  return ca:account{key = {file = path}}, path
end

local function key_in(path) return x509.read_key{pem = fs.read(path)} end

local function self_signed(key)
  return x509.sign{key = key, subject = {CN = "a.test"}, names = {"a.test"}, days = 3}
end

test("contacts are replaced, also by none", function(t)
  local ca = fake.start(t)
  local a = ca:account()
  t:equal(a:update{contact = {"mailto:a@b.test"}}.contact, {"mailto:a@b.test"})
  t:equal(#a:update{contact = {}}.contact, 0)
  t:raises(function() a:update{} end, "usage", "contact")
end)

test("an ended account forgets its URL and keeps its key", function(t)
  local ca = fake.start(t)
  local a, path = file_account(t, ca)
  t:equal(fs.exists(path .. ".account.json"), true)
  a:deactivate()
  t:equal({fs.exists(path .. ".account.json"), fs.exists(path)}, {false, true})
end)

test("a CA that does not end the account is told of", function(t)
  local ca = fake.start(t, {acct = function() return fake.json{status = "valid"} end})
  local a = ca:account()
  t:raises(function() a:deactivate() end, "protocol", "answers that it is valid")
end)

-- ------------------------------------------------------------------ another key

test("edge 40: key rollover signs with the new key inside and the old one outside",
  function(t)
    local ca = fake.start(t)
    local a, path = file_account(t, ca)
    local old = key_in(path)
    local new = a:change_key()
    t:equal(ca.change.payload, {account = a:url(), oldKey = json.decode(old:jwk())})
    t:equal(ca.change.head.url, ca.url .. "/key_change")
    t:equal({ca.change.head.nonce, ca.change.head.kid}, {})
    t:equal(ca.change.head.jwk, json.decode(new:jwk()))
    t:equal(key_in(path):matches(new), true)
    t:equal({new.type, fs.exists(path .. ".new")}, {"p256", false})
    t:equal(ca:account{key = {file = path}}:url(), a:url())
  end)

test("edge 40: a refused rollover leaves the old key alone", function(t)
  local ca = fake.start(t, {key_change = function()
    return fake.problem(409, "malformed", "key in use")
  end})
  local a, path = file_account(t, ca)
  local before = fs.read(path)
  t:raises(function() a:change_key{type = "p384"} end, "conflict")
  t:equal({fs.read(path), fs.exists(path .. ".new")}, {before, false})
  t:equal(a.client.key:matches(key_in(path)), true)
end)

test("edge 40: a rollover whose answer is lost asks which key the CA knows", function(t)
  local ca = fake.start(t, {key_change = function(act)
    act()
    return fake.cut()
  end})
  local a, path = file_account(t, ca)
  local new = a:change_key()
  t:equal(key_in(path):matches(new), true)
  t:equal(fs.exists(path .. ".new"), false)
end)

test("edge 40: a lost answer is no success when the key is another account's", function(t)
  local ca = fake.start(t, {key_change = function() return fake.html(500) end})
  local a, other = ca:account(), x509.key{}
  local mine = a.client.key
  ca.hooks.account = function()
    return fake.json({status = "valid"}, 200, {Location = ca.url .. "/acct/2"})
  end
  t:raises(function() a:change_key{key = other} end, "conflict", "another account")
  t:equal(a.client.key:matches(mine), true)
end)

test("edge 40: killed after the CA took the new key, the next run goes on with it",
  function(t)
    local ca = fake.start(t)
    local a, path = file_account(t, ca)
    local new = x509.key{}
    fs.write(path .. ".new", new:pem())
    ca.key = json.decode(new:jwk())
    local again = ca:account{key = {file = path}}
    t:equal(again:url(), a:url())
    t:equal({key_in(path):matches(new), fs.exists(path .. ".new")}, {true, false})
  end)

test("edge 40: killed before the CA heard of the new key, the old one stays", function(t)
  local ca = fake.start(t)
  local a, path = file_account(t, ca)
  local old = key_in(path)
  ca.key = json.decode(old:jwk())
  fs.write(path .. ".new", x509.key{}:pem())
  t:equal(ca:account{key = {file = path}}:url(), a:url())
  t:equal({key_in(path):matches(old), fs.exists(path .. ".new")}, {true, false})
end)

test("a CA without keyChange says so, and so do wrong arguments", function(t)
  local ca = fake.start(t, {directory = function(act)
    local reply = act()
    local document = json.decode(reply.body)
    document.keyChange, document.revokeCert = nil, nil
    return fake.json(document)
  end})
  local a, path = file_account(t, ca)
  t:raises(function() a:change_key() end, "usage", "does not offer changing")
  t:equal(fs.exists(path .. ".new"), false)
  t:raises(function() a:change_key{key = x509.key{}} end, "usage", "leave `key` out")
  t:raises(function() ca:account():change_key() end, "usage", "give the new `key`")
  t:raises(function() a:revoke{cert = self_signed(x509.key{})} end, "usage", "revocation")
end)

-- ------------------------------------------------------------------ revocation

test("a certificate is revoked by the account, with a reason", function(t)
  local ca = fake.start(t)
  local a, cert = ca:account(), self_signed(x509.key{})
  t:equal(a:revoke{cert = cert, reason = "superseded"}, true)
  t:equal(ca.revoked,
    {certificate = encoding.base64url_encode(cert:der()), reason = 4})
  t:equal(a:revoke{cert = cert:pem()}, false, "already")
end)

test("edge 30: revocation by the certificate's key goes with jwk, not kid", function(t)
  local head
  local ca = fake.start(t, {revoke = function(act, _, request)
    head = json.decode(encoding.base64url_decode(json.decode(request.body).protected))
    return act()
  end})
  local key = x509.key{}
  local cert = self_signed(key)
  t:equal(ca:account():revoke{cert = cert, key = key, reason = "keyCompromise"}, true)
  t:equal({head.kid, head.jwk}, {nil, json.decode(key:jwk())})
  t:raises(function() ca:account():revoke{cert = cert, key = x509.key{}} end, "usage",
    "not that of the certificate")
end)

test("a misspelt reason gets a suggestion, a refused one the CA's words", function(t)
  local ca = fake.start(t, {revoke = function()
    return fake.problem(400, "badRevocationReason", "not that one")
  end})
  local a, cert = ca:account(), self_signed(x509.key{})
  t:raises(function() a:revoke{cert = cert, reason = "supersede"} end, "usage",
    "superseded")
  local _, err = try(a.revoke, a, {cert = cert, reason = "cACompromise"})
  t:equal(err.code, "urn:ietf:params:acme:error:badRevocationReason")
end)
