--- What must survive a crash of one issuance: key, order URL, CSR, chain, in one folder.
--
--     local file <close> = order_file.open(dir)     -- locked against other processes
--     local key = file:stored_key("p256")           -- of an earlier run
--     file:save{directory = …, account = …, order = url, names = names}
--
-- Rules: the key is durable before newOrder, the order URL before any challenge is
-- answered; the CSR stands beside the URL, so that finalize repeats its bytes. Every file is
-- written whole and 0600, these two with fsync of file and folder; the chain can be fetched
-- again, so it goes without. `done` removes the key durably before anything else, so that a
-- crash in between never makes a later order reuse the key.

local errors = require "errors"
local fs = require "fs"
local json = require "json"
local log = require "log"
local x509 = require "x509"

local VERSION = 1
local READ, UNSYNCED = {max = 1024 * 1024}, {fsync = false}
local FOLDER = {make = true, lock = true}
local NAMES =
  {order = "order.json", key = "key.pem", chain = "chain.pem"}

---@class acme.OrderFile
---@field dir string
---@field names table<string, boolean> the files that are there
local OrderFile = {}
OrderFile.__index = OrderFile

local order_file = {}

--- Open (and make) the folder of one issuance. Raises conflict when another process or
--- task works in it.
---@param dir string
---@return acme.OrderFile file to be closed
function order_file.open(dir)
  local ok, folder, names = pcall(fs.folder, dir, FOLDER)
  if ok then
    return setmetatable({dir = dir, folder = folder, names = names}, OrderFile)
  end
  local err = errors.object(folder)
  if err.kind ~= "conflict" then error(err, 0) end
  errors.raise("conflict",
    ("%s: another run is working on this certificate"):format(dir),
    {retryable = true, cause = err})
end

--- Let others work in the folder.
function OrderFile:close() self.folder:close() end
OrderFile.__close = OrderFile.close

---@private
function OrderFile:path(name) return self.dir .. "/" .. NAMES[name] end

--- The content of one of the files, or nil.
---@private
function OrderFile:read(name)
  local file = NAMES[name]
  return self.names[file] and self.folder:read(file, READ) or nil
end

---@private
function OrderFile:write(name, data, options)
  self.names[NAMES[name]] = true
  self.folder:write(NAMES[name], data, options)
end

---@private
function OrderFile:remove(list, options)
  local present = {}
  for _, name in ipairs(list) do
    local file = NAMES[name]
    if self.names[file] then present[#present + 1] = file end
    self.names[file] = nil
  end
  if #present > 0 then self.folder:remove(present, options) end
end

-------------------------------------------------------------------- the order

local function is_record(record)
  if type(record) ~= "table" or record.version ~= VERSION then return false end
  for _, field in ipairs{"directory", "account", "order", "key_type", "spki_sha256"} do
    if type(record[field]) ~= "string" then return false end
  end
  if type(record.names) ~= "table" then return false end
  for _, name in ipairs(record.names) do
    if type(name) ~= "string" then return false end
  end
  return true
end

--- The stored order, or nil. A damaged file is put aside with a warning: the order in it
--- is lost, nothing else.
---@return table? record directory, account, order, names, key_type, spki_sha256 …
function OrderFile:load()
  local text = self:read("order")
  if not text then return nil end
  local record = try(json.decode, text)
  if is_record(record) then return record end
  log.warn(("%s is damaged and is put aside; a new order is made"):format(
    self:path("order")))
  fs.rename(self:path("order"), self:path("order") .. ".damaged")
  self.names[NAMES.order] = nil
  return nil
end

--- Store what finds the order again. On disk when this returns.
---@param record {directory: string, account: string, order: string, names: string[],
---  key_type: string, spki_sha256: string, csr: string, profile: string?, expires: integer?}
function OrderFile:save(record)
  record.version = VERSION
  self:write("order", json.encode(record))
end

--- Forget the order and its chain; the key stays for the next of the attempt.
function OrderFile:forget()
  self:remove{"chain", "order"}
end

-------------------------------------------------------------------- key, CSR, chain

--- The stored key, or nil when there is none, it is damaged or of another type.
---@param key_type string?
---@return x509.key?
function OrderFile:stored_key(key_type)
  local text = self:read("key")
  local key = text and try(x509.read_key, {pem = text})
  if not key or not key.private then return nil end
  if key_type and key.type ~= key_type then return nil end
  return key
end

--- Store a key; on disk when this returns.
---@param key x509.key
function OrderFile:save_key(key) self:write("key", key:pem()) end

--- The stored chain as PEM, or nil.
---@return string?
function OrderFile:chain() return self:read("chain") end

function OrderFile:save_chain(pem) self:write("chain", pem, UNSYNCED) end

--- Forget the chain only: it is fetched from its order again.
function OrderFile:drop_chain() self:remove{"chain"} end

--- The certificate is installed: nothing here is needed any more.
function OrderFile:done()
  self:remove({"key", "chain", "order"}, {durable = self.names[NAMES.key] and 1 or 0})
end

return order_file
