--- Which of the chains that a CA offers (RFC 8555 7.4.2, Link rel="alternate").
--
--     order:certificate{prefer = {issuer = "ISRG Root X1"}}
--     order:certificate{prefer = {fingerprint = "96bcec06…"}}   -- of a CA in the chain
--     order:certificate{prefer = {aki = "79b459e6…"}}           -- of any certificate in it
--
-- An issuer is looked for in the topmost certificate first, in all chains, then further
-- down, so that the name of a cross-signed root means the shorter way to it. When no chain
-- fits, the CA's own choice is taken, with a warning: a certificate is better than none.

local args = require "args"
local core = require "acme.core"
local errors = require "errors"
local log = require "log"
local x509 = require "x509"

local choice = {}

local ALTERNATES = 10 -- looked at, at most

local PREFER = {
  {name = "issuer", type = "string", nonempty = true, doc = "common name of an issuer"},
  {name = "fingerprint", type = "string", nonempty = true,
    doc = "SHA-256 of a certificate above the leaf, hexadecimal, colons allowed"},
  {name = "aki", type = "string", nonempty = true,
    doc = "authority key identifier of one of the certificates, hexadecimal"},
}

local function hex(text) return (text:gsub("[:%s]", ""):lower()) end

--- The options, checked: exactly one of them. nil stays nil.
---@param prefer {issuer: string?, fingerprint: string?, aki: string?}?
function choice.check(prefer)
  if prefer == nil then return nil end
  prefer = args.check("prefer_chain", PREFER, prefer)
  local first, second = next(prefer), next(prefer, (next(prefer)))
  if not first or second then
    errors.raise("usage", "prefer_chain: give one of issuer, fingerprint and aki")
  end
  return prefer
end

--- How well a chain fits: the height above the leaf at which it does, or nil.
local function rank(pem, prefer)
  local best
  local chain = x509.read_chain(pem)
  for i, cert in ipairs(chain) do
    local fits = prefer.issuer and cert.issuer.CN == prefer.issuer
      or prefer.aki and cert.aki and hex(cert.aki) == hex(prefer.aki)
      or prefer.fingerprint and i > 1 and cert.sha256 == hex(prefer.fingerprint)
    if fits then best = #chain - i end -- 0: the topmost
  end
  return best
end

--- The chain that fits best, fetched only as far as needed.
---@param client acme.Client
---@param url string of the certificate
---@param prefer table checked
---@return string pem
function choice.fetch(client, url, prefer)
  local pem, links = client:chain(url)
  local best, found = rank(pem, prefer), pem
  for i, link in ipairs(links) do
    if best == 0 or i > ALTERNATES then break end
    core.check_url(link.url, client.url)
    local other = client:chain(link.url)
    local height = rank(other, prefer)
    if height and (not best or height < best) then best, found = height, other end
  end
  if not best then
    local kind, value = next(prefer)
    log.warn(("no chain of the CA has the %s %s; its own choice of %d is taken"):format(
      kind, value, #links + 1))
  end
  return found
end

return choice
