--- The certificate authority of the sandbox: a root, and issuers per validation level.
--
--     local ca = sandbox_ca.new{seed = 7, base_url = "http://127.0.0.1:8080"}
--     local made = ca:issue{level = "OV", csr = csr, names = {"www.example.com"},
--       organization = {O = "Example Corp", C = "DE"}, days = 199}
--     print(made.serial, made.cert, ca:bundle("OV"))
--
-- New certificates come from P-256 issuers. The seeded estate of the sandbox comes from an
-- older RSA generation, whose signatures are a function of what is signed, so that such a
-- certificate can be forgotten and made again, byte for byte.

local args = require "args"
local digest = require "digest"
local encoding = require "encoding"
local errors = require "errors"
local fs = require "fs"
local time = require "time"
local x509 = require "x509"

local sandbox_ca = {}

--- Before and after anything a virtual clock is set to.
local FROM, TO = 1420070400, 4102358400 -- 2015-01-01, 2099-12-31

local LEVELS = {
  DV = {policies = "2.23.140.1.2.1"},
  OV = {policies = "2.23.140.1.2.2"},
  EV = {policies = "2.23.140.1.1"},
}

local NEW = {
  {name = "seed", type = "integer", doc = "serial numbers are a function of it (0)"},
  {name = "folder", type = "string", doc = "keep keys and certificates there"},
  {name = "base_url", type = "string", doc = "of CRLs and issuers' certificates"},
  {name = "now", type = "function", doc = "the clock; ours by default"},
}

local ISSUE = {
  {name = "level", type = "enum", choices = "DV|OV|EV", required = true},
  {name = "csr", type = "any", doc = "x509.csr; or public_key"},
  {name = "public_key", type = "any", doc = "x509.key"},
  {name = "names", type = "list", required = true, doc = "of the certificate, in order"},
  {name = "organization", type = "table", doc = "subject of OV and EV: {O, L, ST, C, …}"},
  {name = "days", type = "number", positive = true, doc = "90"},
  {name = "not_before", type = "number", doc = "now, whole seconds"},
  {name = "serial", type = "string", doc = "the next of the seed by default"},
  {name = "old", type = "boolean", doc = "from the RSA generation"},
}

--- @class sandbox_ca
--- @field root any x509.cert
local Ca = {}
Ca.__index = Ca

-- ---------------------------------------------------------------- keys and issuers

--- A key of the CA: read from the folder when it is there, else made (and kept there).
local function key_for(ca, name, kind)
  local path = ca.folder and ca.folder .. "/" .. name .. ".key"
  if path and fs.exists(path) then return x509.read_key{pem = secret("file:" .. path)} end
  local key = x509.key{type = kind}
  if path then fs.write(path, key:pem(), {mode = "0600"}) end
  return key
end

local function cert_for(ca, name, make)
  local path = ca.folder and ca.folder .. "/" .. name .. ".pem"
  if path and fs.exists(path) then return x509.read(fs.read(path)) end
  local cert = make()
  if path then fs.write(path, cert:pem()) end
  return cert
end

local function url(ca, path) return ca.base_url and ca.base_url .. path end

--- Where the issuer's certificate and its list are, when the CA has a place for them.
local function pointers(ca, issuer)
  if not ca.base_url then return {} end
  return {
    {oid = "authorityInfoAccess",
      value = "caIssuers;URI:" .. url(ca, "/ca/" .. issuer .. ".cer")},
    {oid = "crlDistributionPoints",
      value = "URI:" .. url(ca, "/ca/" .. issuer .. ".crl")},
  }
end

--- The issuer of a level: {name, key, cert}, made when first needed. Making an RSA key
--- waits, so another task may have been faster: its result then counts.
local function issuer(ca, level, old)
  local name = level .. (old and "-rsa" or "")
  if ca.issuers[name] then return ca.issuers[name] end
  local key_name = old and "rsa" or name
  local key = ca.keys[key_name] or key_for(ca, key_name, old and "rsa2048" or "p256")
  ca.keys[key_name] = ca.keys[key_name] or key
  key = ca.keys[key_name]
  local cert = cert_for(ca, name, function()
    local extensions = pointers(ca, "root")
    extensions[#extensions + 1] = {oid = "certificatePolicies",
      value = LEVELS[level].policies}
    return x509.sign{issuer = ca.root, issuer_key = ca.root_key, public_key = key,
      is_ca = true, path_len = 0, not_before = FROM, not_after = TO,
      serial = ca:serial_of("issuer " .. name), extensions = extensions,
      subject = {O = "secrun sandbox",
        CN = ("secrun sandbox %s CA %s"):format(level, old and "R1" or "E1")}}
  end)
  ca.issuers[name] = ca.issuers[name] or {name = name, key = key, cert = cert}
  return ca.issuers[name]
end

-- ---------------------------------------------------------------- issuing

--- The serial number of something, a function of the seed: 16 bytes, positive, hexadecimal.
---@param what string
---@return string
function Ca:serial_of(what)
  local hash = digest.sha256(("sandbox ca %d %s"):format(self.seed, what))
  return encoding.hex_encode(string.char(hash:byte() & 0x3f | 0x40) .. hash:sub(2, 16))
end

local function subject_of(level, names, organization)
  local cn = #names[1] <= 64 and names[1] or nil
  local subject = {}
  local function add(kind, value)
    if value then subject[#subject + 1] = {type = kind, value = value} end
  end
  if level ~= "DV" then
    local o = organization or {}
    add("C", o.C)
    add("ST", o.ST)
    add("L", o.L)
    add("O", o.O)
    if level == "EV" then
      add("businessCategory", o.businessCategory or "Private Organization")
      add("jurisdictionC", o.jurisdictionC or o.C)
      add("serialNumber", o.serialNumber or "HRB 1")
    end
  end
  add("CN", cn)
  return subject
end

--- Names as x509 wants them: addresses apart.
local function sorted_names(names)
  local dns, ip = {}, {}
  for _, name in ipairs(names) do
    local list = (name:find "^%d+%.%d+%.%d+%.%d+$" or name:find ":") and ip or dns
    list[#list + 1] = name
  end
  return {dns = dns, ip = ip}
end

--- @class sandbox_ca.issued
--- @field cert any x509.cert
--- @field serial string hexadecimal, as cert.serial
--- @field issuer string name of the issuer: "DV", "OV-rsa" …

--- Sign a certificate for the key of a request. Names are those asked for, not the request's.
--- Raises usage (BAD_CSR, BAD_NAME …).
---@param options table see ISSUE
---@return sandbox_ca.issued
function Ca:issue(options)
  args.check("sandbox_ca:issue", ISSUE, options)
  if options.level ~= "DV" and not (options.organization and options.organization.O) then
    errors.raise("usage", ("sandbox_ca:issue: %s needs organization.O"):format(
      options.level))
  end
  local from = issuer(self, options.level, options.old)
  local not_before = options.not_before or math.floor(self.now())
  local serial = options.serial
  if not serial then
    self.count = self.count + 1
    serial = self:serial_of("certificate " .. self.count)
  end
  local extensions = pointers(self, from.name)
  extensions[#extensions + 1] = {oid = "certificatePolicies",
    value = LEVELS[options.level].policies}
  local cert = x509.sign{issuer = from.cert, issuer_key = from.key, csr = options.csr,
    public_key = options.public_key, serial = serial, names = sorted_names(options.names),
    subject = subject_of(options.level, options.names, options.organization),
    not_before = not_before, not_after = not_before + (options.days or 90) * 86400 - 1,
    extensions = extensions}
  if not options.old then self.issued[cert.serial] = from.name end
  return {cert = cert, serial = cert.serial, issuer = from.name}
end

--- The certificates above a leaf, issuer first, root last.
---@param name string of the issuer
---@return any[] certs x509.cert
function Ca:chain(name)
  return {issuer(self, name:sub(1, 2), name:find "-rsa$" ~= nil).cert, self.root}
end

--- PEM of issuer and root.
---@param name string
---@return string
function Ca:bundle(name)
  local chain = self:chain(name)
  return chain[1]:pem() .. chain[2]:pem()
end

-- ---------------------------------------------------------------- revocation

--- Revoke by serial number. `reason` is a word of RFC 5280 ("superseded") or nil.
---@param name string of the issuer
---@param serial string
---@param reason string?
---@param when number? now by default
function Ca:revoke(name, serial, reason, when)
  self.revoked[serial] = {issuer = name, serial = serial, when = when or self.now(),
    reason = reason}
end

--- "good", "revoked" (with {when, reason}) or "unknown", as an OCSP responder answers.
---@param serial string
---@return string
---@return table?
function Ca:status(serial)
  if self.revoked[serial] then return "revoked", self.revoked[serial] end
  return self.issued[serial] and "good" or "unknown"
end

--- The revocation list of an issuer, signed now.
---@param name string "DV", "OV-rsa" …
---@return any crl x509.crl
function Ca:crl(name)
  local from, list = issuer(self, name:sub(1, 2), name:find "-rsa$" ~= nil), {}
  for _, entry in pairs(self.revoked) do
    if entry.issuer == name then
      list[#list + 1] = {serial = entry.serial, when = entry.when, reason = entry.reason}
    end
  end
  table.sort(list, function(a, b) return a.serial < b.serial end)
  self.crl_number = self.crl_number + 1
  return x509.crl{issuer = from.cert, issuer_key = from.key, revoked = list,
    this_update = math.floor(self.now()), number = self.crl_number}
end

--- The names of issuers that there can be.
sandbox_ca.ISSUERS = {"DV", "OV", "EV", "DV-rsa", "OV-rsa", "EV-rsa"}

--- Make a CA. Keys stay in memory, unless `folder` is given: there they are written (0600),
--- and read by the next CA with that folder.
---@param options {seed: integer?, folder: string?, base_url: string?, now: function?}?
---@return sandbox_ca
function sandbox_ca.new(options)
  options = args.check("sandbox_ca.new", NEW, options)
  local ca = setmetatable({seed = options.seed or 0, folder = options.folder,
    base_url = options.base_url, now = options.now or time.now, issuers = {},
    keys = {}, issued = {}, revoked = {}, count = 0, crl_number = 0}, Ca)
  if ca.folder then fs.mkdir(ca.folder, {parents = true, mode = "0700"}) end
  ca.root_key = key_for(ca, "root", "p256")
  ca.root = cert_for(ca, "root", function()
    return x509.sign{key = ca.root_key, is_ca = true, not_before = FROM, not_after = TO,
      serial = ca:serial_of "root",
      subject = {O = "secrun sandbox", CN = "secrun sandbox root"}}
  end)
  return ca
end

return sandbox_ca
