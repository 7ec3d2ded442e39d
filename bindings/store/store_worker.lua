--- Who works on a store: one process at a time holds its FILE.worker.
--
--     local lock, holder = worker.lock(db, "secrun serve")
--     if not lock then print("pid " .. holder.pid .. " works on it") end
--
-- The lock is the kernel's (flock), so it is free the moment its holder dies. What stands in
-- the file is for people and for messages only.

local core = require "store.core"
local errors = require "errors"
local fs = require "fs"
local json = require "json"
local time = require "time"

local worker = {}

--- Longer than somebody who only looks (worker.holder) has it.
local PATIENCE = 0.1

---@class store.holder
---@field pid integer?
---@field host string?
---@field since number? UTC seconds
---@field what string? "secrun serve"

local function path(place) return place .. ".worker" end

--- What the file says; empty while its holder is writing it, or when nobody ever worked.
local function read(place)
  local text = try(fs.read, path(place), {max = 4096})
  local holder = text and try(json.decode, text)
  return type(holder) == "table" and holder or {}
end

---@param db store.Db
---@param what string? of the holder, for the others' messages
---@return table? lock `:close()` or `<close>` frees it
---@return store.holder? holder when it is held
function worker.lock(db, what)
  if db.read_only then
    errors.raise("store", db.place .. " was opened to be read only", {code = "READONLY"})
  end
  local lock, err = try(fs.lock, path(db.place), {wait = PATIENCE})
  if not lock then
    if err.kind ~= "conflict" or not err.retryable then error(err, 0) end
    return nil, read(db.place)
  end
  local _, who = core.owner()
  local text = json.encode{pid = who.pid, host = who.host, what = what,
    since = time.now()}
  local ok, why = pcall(fs.write, path(db.place), text,
    {atomic = false, fsync = false, mode = "0600"})
  if ok then return lock end
  lock:close()
  error(why, 0)
end

--- Who works on the store now, or nil. Looks by trying to lock.
---@param db store.Db
---@return store.holder?
function worker.holder(db)
  if not fs.exists(path(db.place)) then return nil end
  local lock, err = try(fs.lock, path(db.place))
  if lock then
    lock:close()
    return nil
  end
  if err.kind ~= "conflict" then error(err, 0) end
  return read(db.place)
end

return worker
