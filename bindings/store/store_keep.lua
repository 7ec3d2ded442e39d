--- A store's file as a whole: backup, restore, check, and what one wants to know about it.
--
--     local path = keep.backup(db.place)              -- backups/secrun-20261125T031500Z.db
--     local kept = keep.restore(path, "/var/lib/secrun/secrun.db")
--
-- A backup is one file, a snapshot taken while writers go on. Those in the folder backups/
-- beside the store are found by the messages that need one.

local core = require "store.core"
local fs = require "fs"
local time = require "time"

local keep = {}

local DAY = 86400

local function stamp()
  return (time.rfc3339(time.now()):gsub("%.%d+", ""):gsub("[-:]", ""))
end

--- An absolute path from one that counts from the folder we are in.
local function absolute(path)
  if path:find("^/") then return path end
  return fs.realpath(".") .. "/" .. path
end

--- Take away what backups that were killed left behind, which may be large; not what one
--- may be writing now.
local function sweep(folder)
  for _, name in ipairs(fs.list(folder)) do
    local path = folder .. "/" .. name
    local stat = name:find("^%.secrun%-%x+") and fs.stat(path)
    if stat and time.now() - stat.mtime > DAY then
      fs.remove(path, {missing_ok = true})
    end
  end
end

--- Copy what is committed now to a new file.
---@param place string the store's file
---@param path string? backups/secrun-TIME.db beside the store by default
---@param label string? of that name instead of "secrun"
---@return string path
function keep.backup(place, path, label)
  if not path then
    local folder = place:match("^(.*)/") .. "/backups"
    fs.mkdir(folder, {parents = true, mode = "0700"})
    sweep(folder)
    path = ("%s/%s-%s.db"):format(folder, label or "secrun", stamp())
  end
  core.backup(place, path)
  return path
end

--- Put a backup in the place of a store that nobody has open.
---@param backup string
---@param path string the store's file
---@return string? kept where the file that was there is now
function keep.restore(backup, path)
  return core.restore(absolute(backup), path, stamp())
end

--- Whether the file is sound.
---@param place string
---@return {ok: boolean, problems: string[]}
function keep.check(place)
  local problems = core.check(place)
  return {ok = #problems == 0, problems = problems}
end

local function size(path)
  local stat = fs.stat(path)
  return stat and stat.size or 0
end

--- Size, newest backup and its age.
---@param place string
---@return {size: integer, log: integer, backup: string?, backup_at: number?}
function keep.info(place)
  local backup = core.newest_backup(place)
  return {size = size(place), log = size(place .. "-wal"), backup = backup,
    backup_at = backup and fs.stat(backup).mtime}
end

return keep
