--- What one certificate's settings are: its own, its organization's, or the estate's.
--
--     local acme = setting.of(e, certificate, "acme")
--     local channel = setting.channel(e, certificate)      -- "acme" or "scm"
--
-- Secrets in an estate are references until `secret` resolves one.

local products = require "products"

local setting = {}

--- A setting of a certificate: its own, its org's, or the estate's.
---@param e table estate
---@param certificate table
---@param key string
---@return any
function setting.of(e, certificate, key)
  local org = certificate.org and (e.orgs or {})[certificate.org]
  local own = certificate[key]
  if own ~= nil then return own end
  if type(org) == "table" and org[key] ~= nil then return org[key] end
  return e[key]
end

--- How a certificate is ordered: as it says itself, else as its product is: DV by ACME, OV
--- and EV by SCM; by ACME without a product.
---@return "acme"|"scm"
function setting.channel(e, certificate)
  local own = setting.of(e, certificate, "channel")
  if own then return own end
  local product = certificate.product and try(products.get, certificate.product)
  return product and product.channel or "acme"
end

--- "certificates[2] (www)", for messages about the file.
---@param i integer
---@param certificate any
---@return string
function setting.place(i, certificate)
  local name = type(certificate) == "table" and certificate.name
  if type(name) == "string" then return ("certificates[%d] (%s)"):format(i, name) end
  return ("certificates[%d]"):format(i)
end

--- Whether a value read from the file stands for a secret.
---@return boolean
function setting.is_reference(value)
  return type(value) == "table" and value["$secret"] ~= nil
end

--- The secret that a reference in the estate file stands for.
function setting.secret(value)
  if setting.is_reference(value) then return secret(value["$secret"]) end
  return value
end

--- The sources of every secret that an organization's flows may need: the estate's and its
--- own, not those of others.
---@param e table estate
---@param org string? "" or nil: of no organization
---@return any[] sources as `secret` takes them
function setting.secret_sources(e, org)
  local sources = {}
  local function walk(value, key)
    if type(value) ~= "table" or key == "orgs" then return end
    if setting.is_reference(value) then
      sources[#sources + 1] = value["$secret"]
      return
    end
    for name, item in pairs(value) do walk(item, name) end
  end
  walk(e)
  walk((e.orgs or {})[org])
  return sources
end

return setting
