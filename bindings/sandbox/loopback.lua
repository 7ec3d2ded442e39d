--- A TLS certificate for servers of the sandbox, made in memory, with the CA to trust.
--
--     local tls = loopback.certificate()
--     stream.listen{tls = {cert = tls.cert, key = tls.key}}   -- clients: ca = tls.ca

local x509 = require "x509"

local loopback = {}

--- Long before and after anything a virtual clock is set to.
local FROM, TO = 1577836800, 4102358400 -- 2020-01-01, 2099-12-31

local NAMES = {"localhost", "127.0.0.1", "::1"}

--- @class sandbox.tls
--- @field cert string PEM
--- @field key any the private key, as net/stream takes it
--- @field ca string PEM of the CA that signed it

--- Make one. `names` are further names it is for, beside localhost, 127.0.0.1 and ::1.
---@param names string[]?
---@return sandbox.tls
function loopback.certificate(names)
  local all = table.move(NAMES, 1, #NAMES, 1, {})
  table.move(names or {}, 1, #(names or {}), #all + 1, all)
  local ca_key, key = x509.key{type = "p256"}, x509.key{type = "p256"}
  local ca = x509.sign{key = ca_key, is_ca = true, not_before = FROM, not_after = TO,
    subject = {O = "secrun sandbox", CN = "secrun sandbox loopback CA"}}
  local leaf = x509.sign{issuer = ca, issuer_key = ca_key, key = key, names = all,
    not_before = FROM, not_after = TO, subject = {CN = "localhost"}}
  return {cert = leaf:pem(), key = key:pem(), ca = ca:pem()}
end

return loopback
