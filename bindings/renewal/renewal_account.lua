--- The ACME account that a renewal uses: by its settings in the estate, opened once.
--
--     local account = renewal_account.open(settings, "/var/lib/secrun")
--
-- Many flows that run at once in one state share the account with its nonces and
-- connections. Its key is a file, named by the settings or kept below the state folder. The
-- file is made by one process only, and a CA gives the same account for the same key, so two
-- processes may register it; a lock only keeps their half-written files apart.

local acme = require "acme"
local estate = require "estate"
local fs = require "fs"
local gate = require "gate"
local json = require "json"

local renewal_account = {}

local LOCK_WAIT = 5 -- seconds: registering takes less

local open = {} -- by the settings as text

local function key_file(settings, folder)
  local host = settings.directory:match("^https?://([^/]+)") or "ca"
  return settings.key or folder .. "/accounts/" .. host:gsub("[^%w.-]", "_") .. ".key"
end

--- Take what a run that was killed left half-written. A process that hangs with the lock is
--- not waited for: then nothing is taken away.
local function sweep(folder)
  local lock, err = try(fs.lock, folder .. "/accounts.lock", {wait = LOCK_WAIT})
  if lock then
    fs.sweep(folder .. "/accounts")
  elseif err.kind ~= "conflict" then
    error(err, 0)
  end
  return lock
end

local function open_new(settings, folder)
  fs.mkdir(folder .. "/accounts", {parents = true, mode = "0700"})
  local lock <close> = sweep(folder)
  return acme.account{
    directory = settings.directory, contact = settings.contact, ca = settings.ca,
    terms_agreed = settings.terms_agreed, key = {file = key_file(settings, folder)},
    eab = settings.eab and {kid = settings.eab.kid, alg = settings.eab.alg,
      hmac_key = estate.secret(settings.eab.hmac_key)},
    http = settings.proxy and {proxy = settings.proxy} or nil,
  }
end

--- The account of these settings: `acme` of an estate file. Waits for a sibling task that is
--- opening the same one. Raises what acme.account raises.
---@param settings {directory: string, contact: string[]?, ca: string?, key: string?,
---  terms_agreed: boolean?, eab: table?, proxy: string?}
---@param folder string state folder
---@return acme.Account
function renewal_account.open(settings, folder)
  local id = folder .. "\0" .. json.encode(settings)
  local known = open[id]
  if not known then
    known = {gate = gate.new()}
    open[id] = known
  end
  local guard <close> = known.gate:enter()
  known.account = known.account or open_new(settings, folder)
  return known.account
end

return renewal_account
