-- The CA of the sandbox: what it signs is what a public CA would.

local digest = require "digest"
local fs = require "fs"
local sandbox_ca = require "sandbox_ca"
local x509 = require "x509"

local function csr_for(...)
  local key = x509.key{}
  return x509.csr{key = key, names = {...}}, key
end

local ORG = {O = "Example Corp", L = "Berlin", C = "DE", serialNumber = "HRB 7"}

test("certificates chain to the root, with the policies of their level", function(t)
  local ca = sandbox_ca.new{base_url = "http://127.0.0.1:1"}
  local csr, key = csr_for "a.example.com"
  for _, level in ipairs{"DV", "OV", "EV"} do
    for _, old in ipairs{false, true} do
      local made = ca:issue{level = level, csr = csr, days = 30, organization = ORG,
        names = {"www.example.com", "example.com", "192.0.2.1"}, old = old}
      local chain = ca:chain(made.issuer)
      t:equal(made.cert.validation, level:lower())
      t:equal(made.cert.names, {"www.example.com", "example.com", "192.0.2.1"})
      assert(made.cert:matches(key) and made.cert:issued_by(chain[1]))
      assert(chain[1]:issued_by(ca.root))
      t:equal(made.cert.lifetime, 30 * 86400 - 1) -- its last second counts
      t:equal(made.cert.crl_urls, {"http://127.0.0.1:1/ca/" .. made.issuer .. ".crl"})
      x509.verify{cert = made.cert, chain = {chain[1]}, roots = {ca.root},
        name = "www.example.com", crls = {ca:crl(made.issuer)}}
    end
  end
end)

test("subjects say as much as the level vouches for", function(t)
  local ca, csr = sandbox_ca.new{}, csr_for "a.example.com"
  local function subject(level)
    return ca:issue{level = level, csr = csr, names = {"a.example.com"},
      organization = ORG}.cert.subject_dn
  end
  t:equal(subject "DV", "CN=a.example.com")
  t:equal(subject "OV", "CN=a.example.com,O=Example Corp,L=Berlin,C=DE")
  assert(subject "EV":find("jurisdictionC=DE", 1, true))
  assert(subject "EV":find("serialNumber=HRB 7", 1, true))
  t:raises(function()
    ca:issue{level = "OV", csr = csr, names = {"a.example.com"}}
  end, "usage", "organization.O")
end)

test("a long name stands among the names only", function(t)
  local ca, csr = sandbox_ca.new{}, csr_for "a.example.com"
  local long = ("a"):rep(60) .. ".example.com"
  local cert = ca:issue{level = "DV", csr = csr, names = {long}}.cert
  t:equal(cert.names, {long})
  t:equal(cert.subject_dn, "")
end)

test("serials are a function of the seed, and dates of the clock", function(t)
  local csr, now = csr_for "a.example.com", 1800000000.5
  local function serials(seed)
    local ca = sandbox_ca.new{seed = seed, now = function() return now end}
    local list = {}
    for i = 1, 3 do
      local cert = ca:issue{level = "DV", csr = csr, names = {"a.example.com"}}.cert
      t:equal(cert.not_before, 1800000000)
      list[i] = cert.serial
    end
    return list
  end
  t:equal(serials(1), serials(1))
  assert(serials(1)[1] ~= serials(2)[1] and serials(1)[1] ~= serials(1)[2])
end)

test("a certificate of the old generation is made again byte for byte", function(t)
  local ca, csr = sandbox_ca.new{}, csr_for "a.example.com"
  local function make()
    return digest.sha256(ca:issue{level = "DV", csr = csr, names = {"a.example.com"},
      not_before = 1700000000, serial = ca:serial_of "x", old = true}.cert:der())
  end
  t:equal(make(), make())
end)

test("revoked serials are on the issuer's list, and on no other", function(t)
  local ca, csr = sandbox_ca.new{}, csr_for "a.example.com"
  local made = ca:issue{level = "DV", csr = csr, names = {"a.example.com"}}
  t:equal(ca:status(made.serial), "good")
  t:equal(ca:status "00", "unknown")
  ca:revoke(made.issuer, made.serial, "superseded")
  t:equal(ca:status(made.serial), "revoked")
  t:equal(#ca:crl("DV").revoked, 1)
  t:equal(ca:crl("DV").revoked[1].reason, "superseded")
  t:equal(#ca:crl("OV").revoked, 0)
end)

test("keys are kept in a folder when one is given, readable by their owner", function(t)
  local folder = t:tmpdir() .. "/ca"
  local first = sandbox_ca.new{folder = folder}
  local csr = csr_for "a.example.com"
  local cert = first:issue{level = "DV", csr = csr, names = {"a.example.com"}}.cert
  local second = sandbox_ca.new{folder = folder}
  t:equal(second.root.sha256, first.root.sha256)
  assert(cert:issued_by(second:chain("DV")[1]))
  for _, name in ipairs(fs.list(folder)) do
    if name:find "%.key$" then t:equal(fs.stat(folder .. "/" .. name).mode, "0600") end
  end
end)

test("what cannot be signed is refused", function(t)
  local ca, csr = sandbox_ca.new{}, csr_for "a.example.com"
  t:raises(function() ca:issue{level = "XV", csr = csr, names = {"a"}} end, "usage", "DV")
  t:raises(function() ca:issue{level = "DV", csr = csr, names = {"not a name"}} end,
    "usage")
  t:raises(function() sandbox_ca.new{sed = 1} end, "usage", "seed")
end)
