--- Which keys may be certified. RSA from 2048 bits on, and the NIST curves; Ed25519 is not
--- issued by public CAs.
--- Source: CA/Browser Forum Baseline Requirements 6.1.5 and 6.1.6.

description = "Key types and sizes that public CAs certify."
applies = {"enroll", "renew"}

local RSA_BITS = 2048
local CURVES = {p256 = true, p384 = true, p521 = true}

function check(r)
  local bits = r.key_type:match("^rsa(%d+)$")
  if bits and tonumber(bits) < RSA_BITS then
    return deny("RSA keys have at least %d bits, this has %s", RSA_BITS, bits)
  end
  if bits then return allow() end
  if CURVES[r.key_type] then return allow() end
  if r.key_type == "ed25519" then
    return deny("Ed25519 is not issued by public CAs; use p256")
  end
  return deny("%s is no key type we know", r.key_type)
end

tests = {
  {given = {key_type = "p256"}, expect = "allow"},
  {given = {key_type = "rsa2048"}, expect = "allow"},
  {given = {key_type = "rsa1024"}, expect = "deny"},
  {given = {key_type = "ed25519"}, expect = "deny"},
}
