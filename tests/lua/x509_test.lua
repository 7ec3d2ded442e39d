-- x509_test.lua – the face of keys, requests, certificates, lists, chains and bundles.

local x509 = require "x509"

local NOON = 1750000000 -- 2025-06-15T15:06:40Z
local DAY = 86400

-- A root, an intermediate, a server certificate and its key.
local function world()
  local w = {}
  w.root_key, w.middle_key, w.key = x509.key{}, x509.key{}, x509.key{}
  w.root = x509.sign{key = w.root_key, subject = {CN = "Test Root"}, is_ca = true,
    not_before = NOON - 999 * DAY, days = 2000}
  w.middle = x509.sign{issuer = w.root, issuer_key = w.root_key,
    public_key = w.middle_key, subject = {CN = "Test Intermediate"}, is_ca = true,
    path_len = 0,
    not_before = NOON - 99 * DAY, days = 400}
  w.csr = x509.csr{key = w.key, names = {"www.example.com", "*.example.org"}}
  w.leaf = x509.sign{issuer = w.middle, issuer_key = w.middle_key, csr = w.csr,
    not_before = NOON - DAY, days = 90}
  return w
end

-- "-----BEGIN …" without its armour would still be the key.
local function shows_no_key(text)
  assert(not tostring(text):find("PRIVATE KEY", 1, true), "a private key shows")
  assert(not tostring(text):find("MIG", 1, true), "key material shows")
end

test("a new key is P-256 and says so without its secret", function(t)
  local key = x509.key{}
  t:equal(key.type, "p256")
  t:equal(key.bits, 256)
  t:equal(key.private, true)
  assert(tostring(key):match("^x509%.key: P%-256 private key, spki sha256 %x+$"))
  shows_no_key(key)
end)

test("keys of every type survive PEM", {timeout = "60s"}, function(t)
  for _, type in ipairs {"p256", "p384", "p521", "rsa2048", "ed25519"} do
    local key = x509.key{type = type}
    t:equal(key.type, type)
    local plain = x509.read_key{pem = key:pem()}
    t:equal(plain.spki_sha256, key.spki_sha256)
    local public = x509.read_key{pem = key:pem{public = true}}
    t:equal(public.private, false)
    assert(public:verify("data", key:sign("data")))
    assert(not public:verify("date", key:sign("data")))
  end
end)

test("an encrypted key opens with its passphrase", {timeout = "60s"}, function()
  local key = x509.key{}
  local sealed = key:pem{passphrase = "correct horse"}
  assert(x509.read_key{pem = sealed, passphrase = "correct horse"}:matches(key))
end)

test("a private key leaves as a secret only", function(t)
  local key = x509.key{}
  local pem = key:pem()
  t:equal(type(pem), "userdata")
  shows_no_key(pem)
  t:raises(function() return "x" .. pem end)
  t:equal(type(key:pem{public = true}), "string")
  shows_no_key(x509.pem_bundle{key = key})
end)

test("a missing passphrase and a wrong one differ", {timeout = "60s"}, function(t)
  local sealed = x509.key{}:pem{passphrase = "horse"}
  local err = t:raises(function() x509.read_key{pem = sealed} end, "auth", "passphrase")
  t:equal(err.code, "PASSPHRASE_REQUIRED")
  err = t:raises(function() x509.read_key{pem = sealed, passphrase = "cow"} end, "auth")
  t:equal(err.code, "WRONG_PASSPHRASE")
end)

test("a closed key says that it is closed", function(t)
  local kept
  do
    local key <close> = x509.key{}
    kept = key
  end
  t:equal(tostring(kept), "x509.key: closed")
  t:raises(function() return kept.type end, "usage", "closed")
  t:raises(function() kept:sign("x") end, "usage", "closed")
end)

test("a mistyped field raises and suggests the right one", function(t)
  local w = world()
  t:raises(function() return w.leaf.not_afer end, "usage", "not_after")
  t:raises(function() x509.key{typ = "p256"} end, "usage", "type")
end)

test("a JWK holds the public half only", function()
  local jwk = x509.key{type = "p384"}:jwk()
  assert(jwk:match('^{"crv":"P%-384","kty":"EC","x":"[%w_-]+","y":"[%w_-]+"}$'), jwk)
end)

test("a request carries names, sorts and options", function(t)
  local key = x509.key{}
  local csr = x509.csr{key = key, must_staple = true,
    subject = {O = "Example Corp", C = "DE", OU = {"a", "b"}},
    names = {"A.example", "192.0.2.1", "user@example.com", uri = {"https://x.example/"}}}
  local back = x509.read_csr(csr:pem())
  t:equal(back.names,
    {"a.example", "192.0.2.1", "user@example.com", "https://x.example/"})
  t:equal(back.sans[2], {type = "ip", value = "192.0.2.1"})
  t:equal(back.subject.O, "Example Corp")
  t:equal(back.subject.CN, nil)
  t:equal(back.subject_dn, "OU=b,OU=a,O=Example Corp,C=DE")
  t:equal(back.must_staple, true)
  t:equal(back.spki_sha256, key.spki_sha256)
  assert(back:verify() and back:matches(key) and key:matches(back))
  t:equal(x509.read_csr(csr:der()).names, back.names)
end)

test("a bad name is refused with the reason", function(t)
  local key = x509.key{}
  local function csr(name) return function() x509.csr{key = key, names = {name}} end end
  t:raises(csr("m\u{fc}ller.example"), "usage", "xn%-%-")
  t:raises(csr("a b"), "usage", "BAD_NAME")
  t:raises(csr("*a.example"), "usage", "%*")
  t:raises(csr("good.example\0.evil"), "usage", "NUL")
  t:raises(csr(7), "usage", "string")
  t:raises(function() x509.csr{key = key} end, "usage", "names")
  t:raises(function()
    x509.csr{key = key, subject = {CN = ("a"):rep(65)}}
  end, "usage", "64")
end)

test("a certificate shows what a script needs", function(t)
  local w = world()
  local c = x509.read(w.leaf:pem())
  t:equal(c.names, {"www.example.com", "*.example.org"})
  t:equal(c.issuer.CN, "Test Intermediate")
  t:equal(c.subject_dn, "")
  t:equal(c.not_before, NOON - DAY)
  t:equal(c.not_after, NOON + 89 * DAY)
  t:equal(c.lifetime, 90 * DAY)
  t:equal(c.key_type, "p256")
  t:equal(c.key_usage, {"digitalSignature"})
  t:equal(c.ext_key_usage, {"serverAuth"})
  t:equal(c.aki, w.middle.ski)
  t:equal(c.is_ca, false)
  t:equal(c.scts, 0)
  assert(c.ari_id:match("^[%w_-]+%.[%w_-]+$"))
  assert(c:covers("www.example.com") and c:covers("a.example.org"))
  assert(not c:covers("example.org") and not c:covers("a.b.example.org"))
  assert(c:matches(w.key) and w.key:matches(c) and not w.root_key:matches(c))
  assert(c:issued_by(w.middle) and not c:issued_by(w.root))
  t:equal(w.root.self_signed, true)
  t:equal(w.middle.path_len, 0)
  t:equal(w.root.path_len, nil)
  t:equal(x509.read(c:der()).sha256, c.sha256)
  local found = false
  for _, e in ipairs(c.extensions) do
    found = found or (e.name == "subjectAltName" and e.critical and #e.hex == 2 * #e.der)
  end
  assert(found)
end)

test("the virtual clock dates a certificate", {clock = "virtual"}, function(t)
  local now = os.time()
  local c = x509.sign{key = x509.key{}, names = {"a.example"}, days = 10}
  t:equal(c.not_before, now)
  t:equal(math.ceil(c:expires_in()), 10 * DAY)
  t:equal(c.subject.CN, "a.example")
  require("task").sleep("4d")
  t:equal(math.ceil(c:expires_in()), 6 * DAY)
  x509.verify{cert = c, roots = {c}, name = "a.example"}
  require("task").sleep("7d")
  t:raises(function() x509.verify{cert = c, roots = {c}} end, "tls", "expired")
end)

test("a certificate takes any extension", function(t)
  local digest = ("\x2a"):rep(32)
  local c = x509.sign{key = x509.key{}, names = {"a.example"}, days = 1, extensions = {
    {oid = "acmeIdentifier", critical = true, der = "\4\32" .. digest},
    {oid = "1.2.3.4", value = "ASN1:UTF8String:hello"},
    {oid = "nameConstraints", value = "permitted;DNS:example.com"},
    {oid = "certificatePolicies", value = "2.23.140.1.2.1"},
  }}
  t:equal(c.extensions[1].oid, "1.3.6.1.5.5.7.1.31")
  t:equal(c.extensions[1].critical, true)
  t:equal(c.extensions[1].der:sub(3), digest)
  t:equal(c.validation, "dv")
  local copy = x509.sign{key = x509.key{}, subject = c.subject, names = c.sans, days = 1,
    extensions = {c.extensions[2]}}
  t:equal(copy.names, c.names)
  t:raises(function()
    x509.sign{key = x509.key{}, names = {"a.example"},
      extensions = {{ oid = "1.2.3", der = "\4\9x"}}}
  end, "usage", "DER")
end)

test("mistakes at signing are named", function(t)
  local w = world()
  local function sign(opts) return function() x509.sign(opts) end end
  t:raises(sign{issuer = w.middle, issuer_key = w.root_key, key = w.key}, "usage",
    "Test Intermediate")
  t:raises(sign{issuer = w.leaf, issuer_key = w.key, key = w.key, names = {"a.b"}},
    "usage", "not a CA")
  t:raises(sign{names = {"a.b"}}, "usage", "key")
  t:raises(sign{key = w.key, is_ca = true, issuer = w.root, issuer_key = w.root_key},
    "usage", "subject")
  t:raises(sign{key = w.key, names = {"a.b"}, serial = "-1"}, "usage", "serial")
  t:raises(sign{key = w.key, names = {"a.b"}, key_usage = {"digitalSig"}}, "usage",
    "key_usage")
end)

test("a chain in disorder is ordered, and holes are told", function(t)
  local w = world()
  local path, gap = x509.order {w.root, w.leaf, w.middle, w.leaf}
  t:equal({#path, gap.complete, gap.missing, #gap.unused}, {3, true, nil, 0})
  t:equal(path[1].sha256, w.leaf.sha256)
  t:equal(path[3].sha256, w.root.sha256)
  path, gap = x509.order(w.root:pem() .. w.leaf:pem())
  t:equal(#path, 1)
  t:equal(gap.complete, false)
  t:equal(gap.missing, "CN=Test Intermediate")
  t:equal(gap.unused[1].subject.CN, "Test Root")
end)

test("a chain is verified by name, time and purpose", function(t)
  local w = world()
  local function verify(more)
    local opts = {cert = w.leaf, chain = {w.middle}, roots = {w.root}, at = NOON}
    for k, v in pairs(more) do opts[k] = v end
    return x509.verify(opts)
  end
  local path = verify{name = "www.example.com"}
  t:equal(#path, 3)
  t:equal(path[3].subject.CN, "Test Root")
  local err = t:raises(function() verify{at = NOON + 100 * DAY} end, "tls", "expired")
  t:equal(err.code, "X509_V_ERR_CERT_HAS_EXPIRED")
  t:raises(function() verify{at = NOON - 2 * DAY} end, "tls", "not valid before")
  err = t:raises(function() verify{chain = {}} end, "tls", "Test Intermediate")
  t:equal(err.code, "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY")
  err = t:raises(function() verify{name = "b.example.com"} end, "tls", "www%.example")
  t:equal(err.code, "X509_V_ERR_HOSTNAME_MISMATCH")
  err = t:raises(function() verify{purpose = "client"} end, "tls")
  t:equal(err.code, "X509_V_ERR_INVALID_PURPOSE")
  t:raises(function() verify{roots = {}} end, "usage", "roots")
  t:raises(function() verify{roots = "system"} end, "tls", "Test")
end)

test("a revoked certificate does not verify", function(t)
  local w = world()
  local crl = x509.crl{issuer = w.middle, issuer_key = w.middle_key, this_update = NOON,
    number = 7, revoked = {{ serial = w.leaf.serial, reason = "keyCompromise"}}}
  crl = x509.read_crl(crl:pem())
  t:equal(crl.number, "07")
  t:equal(crl:find(w.leaf),
    {serial = w.leaf.serial, when = NOON, reason = "keyCompromise"})
  t:equal(crl:find("01"), nil)
  assert(crl:verify(w.middle) and not crl:verify(w.root))
  local function verify(list)
    x509.verify{cert = w.leaf, chain = w.middle, roots = w.root:pem(), at = NOON + 1,
      crls = {list}}
  end
  local err = t:raises(function() verify(crl) end, "tls", "revoked")
  t:equal(err.code, "X509_V_ERR_CERT_REVOKED")
  verify(x509.crl{issuer = w.middle, issuer_key = w.middle_key, this_update = NOON})
end)

test("PKCS#12 survives, modern and legacy", {timeout = "60s"}, function(t)
  local w = world()
  for _, legacy in ipairs {false, true} do
    local file = x509.pkcs12{key = w.key, cert = w.leaf, chain = {w.leaf, w.middle},
      password = "s3cret", name = "web", legacy = legacy}
    t:equal(type(file), "userdata")
    local back = x509.read_pkcs12{data = file, password = "s3cret"}
    assert(back.key:matches(w.key) and back.cert:matches(w.leaf))
    t:equal({#back.chain, back.name}, {1, "web"})
    local err = t:raises(function()
      x509.read_pkcs12{data = file, password = "no"}
    end, "auth")
    t:equal(err.code, "WRONG_PASSWORD")
  end
  t:raises(function()
    x509.pkcs12{key = w.root_key, cert = w.leaf, password = "x"}
  end, "usage", "not that of")
end)

test("key and chain travel in one PEM", function(t)
  local w = world()
  local text = x509.pem_bundle{key = w.key, cert = w.leaf, chain = {w.middle}}
  local back = x509.read_bundle{pem = text}
  assert(back.key:matches(back.cert))
  t:equal(#back.chain, 1)
  t:equal(x509.read_bundle{pem = w.root:pem()}.key, nil)
end)

test("chains are read through Windows line ends and comments", function(t)
  local w = world()
  local text = "subject=x\n" .. w.leaf:pem() .. "\n# next\n" .. w.middle:pem()
  text = text:gsub("\n", "\r\n")
  t:equal(#x509.read_chain(text), 2)
  t:raises(function() x509.read_chain(text:sub(1, -40)) end, "usage", "truncated")
end)

test("hostile input is refused in one line", function(t)
  local w = world()
  for _, read in ipairs {x509.read, x509.read_chain, x509.read_csr, x509.read_crl} do
    t:raises(function() read() end, "usage", "got")
    t:raises(function() read("") end, "usage")
    t:raises(function() read("0\x82\xff\xff") end, "usage")
    t:raises(function() read(("A"):rep(10 << 20)) end, "limit", "at most")
  end
  t:raises(function() x509.read(w.leaf:der() .. "x") end, "usage", "more follows")
  t:raises(function() x509.read_key{pem = ""} end, "usage", "no key")
  t:raises(function() x509.read_key{} end, "usage")
  t:raises(function() x509.read_pkcs12{data = "0\x03\2\1\3", password = ""} end, "usage")
  t:raises(function() x509.order{} end, "usage")
  t:raises(function() x509.order {1} end, "usage", "expected a certificate")
end)

test("jobs run side by side and can be abandoned", {timeout = "60s"}, function(t)
  local task = require "task"
  local err = t:raises(function()
    task.timeout(0.02, function() x509.key{type = "rsa4096"} end)
  end, "timeout")
  assert(err)
  local keys = {}
  do
    local g <close> = task.group{}
    for i = 1, 3 do g:spawn(function() keys[i] = x509.key{type = "rsa2048"} end) end
  end
  assert(keys[1].private and keys[2].private and not keys[1]:matches(keys[2]))
end)

-- The openssl program as an independent reader and writer.
local function openssl(...)
  return require("process").run{argv = {"openssl", ...}, check = true}.stdout
end

test("the openssl program reads what we write", {timeout = "60s"}, function(t)
  local fs, w, dir = require "fs", world(), t:tmpdir()
  local function file(name, data)
    fs.write(dir .. "/" .. name, data)
    return dir .. "/" .. name
  end
  local root, middle = file("root.pem", w.root:pem()), file("middle.pem", w.middle:pem())
  local leaf, csr = file("leaf.pem", w.leaf:pem()), file("a.csr", w.csr:pem())
  assert(openssl("verify", "-x509_strict", "-attime", tostring(NOON), "-CAfile", root,
    "-untrusted", middle, "-verify_hostname", "www.example.com", leaf):find "OK")
  openssl("req", "-in", csr, "-verify", "-noout")
  local sealed = file("key.pem", w.key:pem{passphrase = "horse"})
  local public = openssl("pkey", "-in", sealed, "-passin", "pass:horse", "-pubout")
  assert(x509.read_key{pem = public}:matches(w.leaf))
  local crl = file("a.crl", x509.crl{issuer = w.root, issuer_key = w.root_key, number = 1,
    revoked = {{serial = w.middle.serial}}}:pem())
  assert(openssl("crl", "-in", crl, "-noout", "-text"):find("Serial Number", 1, true))
  for _, legacy in ipairs {false, true} do
    local p12 = file("a.p12", x509.pkcs12{key = w.key, cert = w.leaf, chain = {w.middle},
      password = "pw", legacy = legacy})
    local text = openssl("pkcs12", "-in", p12, "-passin", "pass:pw", "-nodes")
    local back = x509.read_bundle{pem = text}
    assert(back.key:matches(w.key))
    t:equal(#back.chain, 1)
  end
end)

test("we read what the openssl program writes", {timeout = "60s"}, function(t)
  local fs, dir = require "fs", t:tmpdir()
  local key, cert, p12 = dir .. "/key.pem", dir .. "/cert.pem", dir .. "/a.p12"
  openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert,
    "-subj", "/C=DE/O=Example, Inc./CN=www.example.com", "-days", "30",
    "-addext", "subjectAltName=DNS:www.example.com,IP:192.0.2.1")
  local c = x509.read(fs.read(cert))
  t:equal(c.subject_dn, "CN=www.example.com,O=Example\\, Inc.,C=DE")
  t:equal(tostring(c.subject), c.subject_dn)
  t:equal(c.key_type, "rsa2048")
  t:equal(c.lifetime, 30 * DAY)
  local print = openssl("x509", "-in", cert, "-noout", "-fingerprint", "-sha256")
  t:equal(print:match("=(.*)\n"):gsub(":", ""):lower(), c.sha256)
  local serial = openssl("x509", "-in", cert, "-noout", "-serial")
  t:equal(serial:match("=(%x+)"):lower(), c.serial)
  local old = dir .. "/old.pem"
  openssl("rsa", "-in", key, "-traditional", "-aes128", "-passout", "pass:horse",
    "-out", old)
  assert(x509.read_key{pem = fs.read(old), passphrase = "horse"}:matches(c))
  openssl("pkcs12", "-export", "-legacy", "-inkey", key, "-in", cert,
    "-passout", "pass:pw", "-name", "web", "-out", p12)
  local back = x509.read_pkcs12{data = fs.read(p12), password = "pw"}
  assert(back.key:matches(c))
  t:equal(back.name, "web")
end)
