--- The private key of one renewal: a file that is durable before its CSR leaves.
--
--     local key = renewal_key.prepare(path, {type = "p256"})     -- made, or found again
--     local key = renewal_key.read(path, spki_sha256)
--
-- The file lives in a folder of the certificate below the state folder until the
-- certificate is in service, where the key has a place of its own.

local errors = require "errors"
local fs = require "fs"
local x509 = require "x509"

local renewal_key = {}

local LIMIT = 64 * 1024

--- The key in the file, or nil when there is none.
local function stored(path)
  local text, err = try(fs.read, path, {max = LIMIT})
  if text then return x509.read_key{pem = text} end
  if err.kind == "not_found" then return nil end
  error(err, 0)
end

--- The key for a renewal, on disk when this returns: what stands in the file already, else
--- `key`, else a new one of `type`.
---@param path string
---@param options {type: string, key: x509.key?}
---@return x509.key
function renewal_key.prepare(path, options)
  local key = stored(path)
  if key and key.private then return key end
  key = options.key or x509.key{type = options.type}
  fs.mkdir(path:match("^(.*)/[^/]*$"), {parents = true, mode = "0700"})
  fs.write(path, key:pem(), {mode = "0600"})
  return key
end

--- The key that was prepared. Raises conflict when the file is gone or holds another one:
--- the order was made for a key that nobody has any more.
---@param path string
---@param spki_sha256 string of the key that is expected
---@return x509.key
function renewal_key.read(path, spki_sha256)
  local key = stored(path)
  if key and key.private and key.spki_sha256 == spki_sha256 then return key end
  errors.raise("conflict", ("%s: the private key of this renewal %s; cancel it, and "
    .. "renew again with a new key"):format(path, key and "is another one" or "is gone"),
    {code = "KEY"})
end

--- The certificate is in service: the folder with the keys of its renewals goes.
---@param path string
function renewal_key.forget(path)
  fs.remove_tree(path:match("^(.*)/[^/]*$"), {missing_ok = true})
end

return renewal_key
