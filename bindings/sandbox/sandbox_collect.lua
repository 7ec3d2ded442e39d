--- Collecting a certificate, in every documented format.

local encoding = require "encoding"
local wire = require "sandbox_wire"

local collect = {}

-- ---------------------------------------------------------------- PKCS#7

local function der(tag, ...)
  local body = table.concat{...}
  if #body < 128 then return string.char(tag, #body) .. body end
  local digits = ("%x"):format(#body)
  local length = encoding.hex_decode(#digits % 2 == 1 and "0" .. digits or digits)
  return string.char(tag, 0x80 | #length) .. length .. body
end

local SIGNED_DATA = "\6\9\42\134\72\134\247\13\1\7\2" -- 1.2.840.113549.1.7.2
local DATA = "\6\9\42\134\72\134\247\13\1\7\1"        -- 1.2.840.113549.1.7.1

--- A PKCS#7 that carries certificates and no signature (RFC 2315, 9).
local function pkcs7(certs)
  local all = {}
  for i, cert in ipairs(certs) do all[i] = cert:der() end
  local content = der(0x30, der(0x02, "\1"), der(0x31), der(0x30, DATA),
    der(0xa0, table.concat(all)), der(0x31))
  return der(0x30, SIGNED_DATA, der(0xa0, content))
end

local function pem(label, bytes)
  local text = encoding.base64_encode(bytes):gsub(("."):rep(64), "%0\n")
  if text:sub(-1) ~= "\n" then text = text .. "\n" end
  return ("-----BEGIN %s-----\n%s-----END %s-----\n"):format(label, text, label)
end

-- ---------------------------------------------------------------- formats

local function concat(...)
  local parts = {}
  for i, cert in ipairs{...} do parts[i] = cert:pem() end
  return table.concat(parts)
end

--- format → file ending, and the content of leaf, issuer and root.
local FORMATS = {
  base64 = {"cert", function(...) return pem("PKCS7", pkcs7{...}) end},
  bin = {"p7b", function(...) return pkcs7{...} end},
  x509 = {"cer", function(leaf, issuer, root) return concat(root, issuer, leaf) end},
  x509r = {"cer", concat},
  pem = {"pem", concat},
  x509co = {"cer", function(leaf) return leaf:pem() end},
  pemco = {"pem", function(leaf) return leaf:pem() end},
  x509io = {"cer", function(_, issuer, root) return concat(root, issuer) end},
  x509ior = {"cer", function(_, issuer, root) return concat(issuer, root) end},
  pemia = {"pem", function(leaf, issuer) return concat(leaf, issuer) end},
}

local PENDING = {Init = true, Requested = true, ["SA Approved"] = true, Approved = true,
  Applied = true}

--- Refuse what has no certificate (yet).
local function check_status(call, record)
  local status, settings = call.state.certs:status(record), call.state.settings
  if PENDING[status] then
    wire.fail(settings.pending_code, settings.pending_text, settings.pending_status)
  elseif status == "Revoked" then
    wire.fail(-110, "The certificate is revoked and cannot be downloaded")
  elseif status == "Declined" then
    wire.fail(-1112, "The certificate request was declined")
  elseif not record.serial then
    wire.fail(-169, "The certificate is not available, contact your administrator")
  end
end

local function existing(call)
  local id = wire.id(call, "sslId", -5101)
  return call.state.certs:get(id) or wire.missing(-5101, "Certificate was not found")
end

local function file_name(record, ending)
  return record.cn:gsub("^%*", "STAR"):gsub("%.", "_") .. "." .. ending
end

local function headers_for(call, record, ending)
  local charset = call.state.settings.collect_charset and ";charset=UTF-8" or ""
  return {["Content-Type"] = "application/octet-stream" .. charset,
    ["Content-Disposition"] = ('attachment; filename="%s"'):format(file_name(record,
      ending))}
end

local function get(call)
  local record = existing(call)
  local word = call.params.format or wire.text(call, "format") or "base64"
  local format = FORMATS[word:lower()] or wire.fail(-126, "Unknown SSL file format")
  check_status(call, record)
  local leaf = call.state.certs:x509(record)
  local chain = record.imported and {} or call.state.ca:chain(record.issuer)
  return 200, format[2](leaf, table.unpack(chain)), headers_for(call, record, format[1])
end

-- ---------------------------------------------------------------- keystore

local KEY_FORMATS = {key = true, p12 = true, p12aes = true, jks = true, pem = true}

--- Keys are held by agents of the customer; this sandbox has none that hand keys out.
local function keystore(call)
  local record = existing(call)
  if not KEY_FORMATS[call.params.formatType] then
    wire.fail(-1450, "Unsupported certificate format")
  end
  if not record.key then wire.fail(-3, "The private key is not available.") end
  wire.fail(-1, "The sandbox keeps the private keys of enroll-keygen to itself")
end

function collect.routes(routes)
  local base = "/api/ssl/v1,v2"
  routes:add("GET", base .. "/collect/{sslId}", get)
  routes:add("GET", base .. "/collect/{sslId}/{format}", get)
  routes:add("GET", base .. "/keystore/{sslId}/{formatType}", keystore)
  routes:add("POST", base .. "/keystore/{sslId}/{formatType}", keystore)
end

return collect
