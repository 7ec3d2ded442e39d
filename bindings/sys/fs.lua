--- Files and folders: durable, careful, never blocking the loop.
--
--     local fs = require "fs"
--     fs.write("/etc/ssl/www.key", key, {mode = "0600"})
--     local lock <close> = fs.lock("/run/renew.lock", {wait = "1m"})
--     for _, name in ipairs(fs.list("/etc/ssl")) do … end

local core = require "fs.core"

---@class fs.write_options
---@field mode string? octal digits, "0600" by default; exact, whatever the umask
---@field atomic boolean? temporary file and rename (true); replaces a link
---@field fsync boolean? file and folder are on the disk when it returns (true)
---@field owner string? "user", "user:group" or ":group"
---@field exclusive boolean? raise conflict when the name exists

---@class fs.stat
---@field type string "file" "directory" "link" "fifo" "socket" "char" "block"
---@field size integer bytes
---@field mode string four octal digits
---@field mtime number UTC seconds
---@field uid integer
---@field gid integer
---@field nlink integer
---@field inode integer
---@field device integer

---@alias fs.mkdir {parents: boolean?, mode: string?}
---@alias fs.missing {missing_ok: boolean?}
---@alias fs.follow {follow: boolean?}

---@class fs.folder a folder held open; `:close()` or `<close>` releases it and its lock
---@field read fun(self, name: string, options: {max: integer?}?): string? nil: not there
---@field write fun(self, name: string, data: string, options: {mode: string?,
---  fsync: boolean?}?) atomic
---@field remove fun(self, names: string[], options: {durable: integer?}?) in this order,
---  with one fsync after the first `durable` (all); a name that is not there is no error

---@alias fs.folder_options {make: boolean?, mode: string?, lock: boolean?}

--- Every function waits, off the loop, and raises usage, denied, not_found (ENOENT),
--- conflict (EEXIST), limit or io; `code` is the errno name, the text has path and mend.
---@class fs
---@field read fun(path: string, options: {max: integer?}?): string max is 16 MiB
---@field write fun(path: string, data: string, options: fs.write_options?) or a secret
---@field append fun(path: string, data: string, options: fs.write_options?)
---@field mkdir fun(path: string, options: fs.mkdir?): boolean true when made
---@field remove fun(path: string, options: fs.missing?): boolean file, link, empty folder
---@field remove_tree fun(path: string, options: fs.missing?): boolean follows no link
---@field rename fun(from: string, to: string) replaces `to`
---@field symlink fun(target: string, path: string)
---@field symlink_replace fun(target: string, path: string) switches a link in one step
---@field readlink fun(path: string): string
---@field realpath fun(path: string): string
---@field list fun(path: string): string[] names in byte order
---@field stat fun(path: string, options: fs.follow?): fs.stat? nil when nothing is there
---@field exists fun(path: string, options: fs.follow?): boolean
---@field chmod fun(path: string, mode: string)
---@field chown fun(path: string, owner: string)
---@field check_owner fun(path: string) raises denied when root must not trust it
---@field folder fun(path: string, options: fs.folder_options?): fs.folder, table
---  and the names in it as a set; `lock` excludes others (conflict), needs no file, and
---  sweeps what killed writes left behind
local fs = {}
for name, fn in pairs(core) do fs[name] = fn end
fs.make_tmpdir, fs.trylock = nil, nil

local FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5

local function is_held(err)
  return type(err) ~= "string" and err.kind == "conflict" and err.retryable
end

--- Lock a file (made when it lacks) against other processes and tasks with flock. It is
--- tried again at growing intervals, each try off the loop, so a waiter costs nothing and
--- can be cancelled; there is no order among waiters.
---@param path string
---@param options {wait: number|string}? how long to try, none by default
---@return table lock `:close()` or `<close>` releases it
--- Raises conflict, naming the holder's process, when it is still held in the end.
function fs.lock(path, options)
  local args = require "args"
  options = args.check("fs.lock", {{name = "wait", type = "duration"}}, options)
  local left, pause = args.duration(options.wait or 0), FIRST_PAUSE
  while true do
    local ok, result = pcall(core.trylock, path)
    if ok then return result end
    if not is_held(result) or left <= 0 then error(result, 0) end
    require("task").sleep(math.min(pause, left))
    left, pause = left - pause, math.min(pause * 2, LONGEST_PAUSE)
  end
end

--- Remove what killed writes left behind in a folder: our own temporary files and links
--- (`.secrun-` and 16 hexadecimal digits). Only for folders that nobody else writes to now.
---@param path string
---@return integer count
function fs.sweep(path)
  local count = 0
  for _, name in ipairs(fs.list(path)) do
    if name:find("^%.secrun%-%x+$") and #name == 24 then
      fs.remove(path .. "/" .. name, {missing_ok = true})
      count = count + 1
    end
  end
  return count
end

local guard_mt = {
  __close = function(guard) fs.remove_tree(guard.path, {missing_ok = true}) end,
}

--- A fresh folder of mode 0700 below $TMPDIR or /tmp. The second result removes it with
--- all it holds at the end of its scope: `local dir, guard <close> = fs.tmpdir()`.
---@param base string? folder to make it in
---@return string path
---@return table guard
function fs.tmpdir(base)
  local path = core.make_tmpdir(base)
  return path, setmetatable({path = path}, guard_mt)
end

return fs
