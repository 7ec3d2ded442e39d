--- TLS certificates for servers of the sandbox and their clients, made in memory.
--
--     local tls = loopback.certificate()
--     stream.listen{tls = {cert = tls.cert, key = tls.key}}   -- clients: ca = tls.ca
--     local me = tls:client "api"                             -- me.cert, me.key

local x509 = require "x509"

local loopback = {}

--- Long before and after anything a virtual clock is set to.
local FROM, TO = 1577836800, 4102358400 -- 2020-01-01, 2099-12-31

local NAMES = {"localhost", "127.0.0.1", "::1"}

--- @class sandbox.tls
--- @field cert string PEM
--- @field key any the private key, as net/stream takes it
--- @field ca string PEM of the CA that signed it
local Tls = {}
Tls.__index = Tls

local function sign(tls, what)
  what.issuer, what.issuer_key = tls.issuer, tls.issuer_key
  what.not_before, what.not_after = FROM, TO
  return x509.sign(what)
end

--- A client certificate of the same CA.
---@param name string its common name
---@return {cert: string, key: any, serial: string}
function Tls:client(name)
  local key = x509.key{type = "p256"}
  local leaf = sign(self, {key = key, subject = {CN = name},
    ext_key_usage = {"clientAuth"}})
  return {cert = leaf:pem(), key = key:pem(), serial = leaf.serial}
end

--- Make one. `names` are further names it is for, beside localhost, 127.0.0.1 and ::1.
---@param names string[]?
---@return sandbox.tls
function loopback.certificate(names)
  local all = table.move(NAMES, 1, #NAMES, 1, {})
  table.move(names or {}, 1, #(names or {}), #all + 1, all)
  local tls, key = setmetatable({}, Tls), x509.key{type = "p256"}
  tls.issuer_key = x509.key{type = "p256"}
  tls.issuer = x509.sign{key = tls.issuer_key, is_ca = true, not_before = FROM,
    not_after = TO, subject = {O = "secrun sandbox", CN = "secrun sandbox loopback CA"}}
  local leaf = sign(tls, {key = key, names = all, subject = {CN = "localhost"}})
  tls.cert, tls.key, tls.ca = leaf:pem(), key:pem(), tls.issuer:pem()
  return tls
end

return loopback
