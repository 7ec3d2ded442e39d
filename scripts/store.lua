description = "Back up, restore, check or show the store: flows, alerts, schedules."
usage = "secrun store backup [FILE] | restore FILE | check | info  [--config FILE]"
needs = {net = {}, run = {}}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
}

local cli = require "cli"
local estate = require "estate"
local store = require "store"
local time = require "time"

local command = {}

--- Open the store as it is: what is damaged or of another schema can be backed up too.
local function open(e, options)
  options = options or {}
  options.create, options.migrate = false, false
  return store.open(e.store, options)
end

--- backup [FILE]: a snapshot, by default into backups/ beside the store.
function command.backup(e, file)
  local db <close> = open(e)
  print("backed up to " .. db:backup(file))
  return 0
end

--- restore FILE: the store of the estate becomes what the backup holds.
function command.restore(e, file)
  if not file then
    cli.usage_error("secrun store restore FILE: name the backup to restore")
  end
  local kept = store.restore(file, e.store)
  print(("restored %s from %s"):format(store.path(e.store), file))
  if kept then print("what was there is kept as " .. kept) end
  return 0
end

--- check: read all of it; exit status 1 when something is wrong.
function command.check(e)
  local db <close> = open(e)
  local result = db:check()
  if result.ok then
    print(db.place .. " is sound")
    return 0
  end
  for _, problem in ipairs(result.problems) do print(problem) end
  io.stderr:write(("%s is damaged; the way back is secrun store restore FILE\n")
    :format(db.place))
  return 1
end

local function size(bytes)
  if bytes < 10 * 1024 * 1024 then return ("%d KiB"):format(bytes // 1024) end
  return ("%d MiB"):format(bytes // (1024 * 1024))
end

local function worker_of(holder)
  if not holder then return "nobody" end
  local since = holder.since and ", since " .. time.rfc3339(holder.since) or ""
  return ("%s, process %s on %s%s"):format(holder.what or "a process", holder.pid or "?",
    holder.host or "?", since)
end

--- info: where it is, how large, who works on it, the newest backup.
function command.info(e)
  local db <close> = open(e)
  local info = db:info()
  print("file     " .. info.place)
  print(("size     %s, and %s of log"):format(size(info.size), size(info.log)))
  print(("schema   %d%s"):format(info.schema, info.missing > 0
    and (", %d to be applied when it is next used"):format(info.missing) or ""))
  print("worker   " .. worker_of(info.worker))
  print("backup   " .. (info.backup and ("%s, %s old"):format(info.backup,
    time.show(math.max(0, time.now() - info.backup_at))) or "none in backups/ beside it"))
  return 0
end

function main(words)
  local opts, rest = require("options").parse(words, options)
  local run = command[rest[1]]
  if not run then
    cli.usage_error((rest[1] and ("secrun store has no %q; "):format(rest[1]) or "")
      .. "say backup, restore, check or info")
  end
  local most = (rest[1] == "backup" or rest[1] == "restore") and 2 or 1
  if rest[most + 1] then
    cli.usage_error(("secrun store %s: what is %q for?"):format(rest[1], rest[most + 1]))
  end
  return run(estate.load(estate.find(opts.config)), rest[2])
end
