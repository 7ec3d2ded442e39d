--- Install a certificate so that a crash at any point leaves one that works.
--
--     local deploy = require "deploy"
--     local installed = deploy.current(dir)            -- nil when there is none
--     deploy.install{dir = dir, pem = pem, key = key, reload = {"systemctl", "reload", "x"}}
--
-- A folder holds generations and one link:
--
--     dir/gen-000007/{cert,chain,fullchain,key}.pem  dir/current -> gen-000007
--
-- A generation is written whole, synced and checked before the link is switched in one
-- step, so a reader sees the old pair or the new pair, never a mixture. `reload-pending`
-- stands in the folder from before the switch until the reload worked, and names the
-- generations after and before it; a run that finds it reloads again. When the reload fails,
-- the link goes back and the old pair is reloaded.

local args = require "args"
local errors = require "errors"
local fs = require "fs"
local log = require "log"
local practice = require "practice"
local process = require "process"
local time = require "time"
local x509 = require "x509"

local deploy = {}

local PENDING = "reload-pending"

local INSTALL = {
  {name = "dir", type = "string", required = true, nonempty = true},
  {name = "pem", type = "string", required = true, nonempty = true,
    doc = "the chain as PEM, leaf first"},
  {name = "key", type = "any", required = true, doc = "x509.key"},
  {name = "names", type = "list", choices = "string", doc = "what the leaf must cover"},
  {name = "owner", type = "string"},
  {name = "mode", type = "string"},
  {name = "keep", type = "integer", positive = true},
  {name = "reload", type = "list", choices = "string", nonempty = true},
  {name = "reload_timeout", type = "duration"},
  {name = "on_step", type = "function"},
}

local function generation_number(name)
  return math.tointeger(tonumber(name:match("^gen%-(%d+)$")))
end

--- The generations in a folder, oldest first.
local function generations(dir)
  local found = {}
  if not fs.exists(dir) then return found end
  for _, name in ipairs(fs.list(dir)) do
    local number = generation_number(name)
    if number then found[#found + 1] = {name = name, number = number} end
  end
  table.sort(found, function(a, b) return a.number < b.number end)
  return found
end

local function link_target(dir)
  local link = dir .. "/current"
  local stat = fs.stat(link, {follow = false})
  if not stat then return nil end
  local target = stat.type == "link" and fs.readlink(link)
  if not target or not generation_number(target:gsub("/$", "")) then
    errors.raise("conflict", ("%s is not a link to a generation; secrun did not make it. "
      .. "Move it away, or choose another install.dir"):format(link))
  end
  return target
end

--- Read and decode a file of a pair. Nothing and why when it is missing or holds something
--- else; raises when it cannot be read, which says nothing about what stands in it.
local function decoded(path, max, decode)
  local text, err = try(fs.read, path, {max = max})
  if not text then
    if err.kind == "not_found" or err.kind == "limit" then return nil, err.message end
    error(err, 0)
  end
  local value
  value, err = try(decode, text)
  if not value then return nil, path .. ": " .. err.message end
  return value
end

--- What is in service: leaf, chain, key and whether they belong together.
---@param dir string
--- Raises io when the files are there and this user may not read them.
---@return table? installed {generation, chain, leaf, key? or key_broken, matches,
---  reload_pending}, or {generation, broken = why}
function deploy.current(dir)
  dir = practice.path(dir)
  local target = link_target(dir)
  if not target then return nil end
  local folder = dir .. "/" .. target
  local chain, why = decoded(folder .. "/fullchain.pem", 256 * 1024, x509.read_chain)
  if not chain then return {generation = target, broken = why} end
  local key, key_broken = decoded(folder .. "/key.pem", 64 * 1024,
    function(pem) return x509.read_key{pem = pem} end)
  return {
    generation = target, chain = chain, leaf = chain[1],
    key = key, key_broken = key_broken,
    matches = key ~= nil and key:matches(chain[1]),
    reload_pending = fs.exists(dir .. "/" .. PENDING),
  }
end

local function refuse(dir, format, ...)
  errors.raise("protocol", ("%s is not installed to %s"):format(format:format(...), dir))
end

--- The pair as it will be read from disk: key matches, names covered, in its time.
local function self_check(options, folder)
  local chain = x509.read_chain(fs.read(folder .. "/fullchain.pem", {max = 256 * 1024}))
  local key = x509.read_key{pem = fs.read(folder .. "/key.pem", {max = 64 * 1024})}
  local leaf, now = chain[1], time.now()
  if not key:matches(leaf) then refuse(options.dir, "a certificate of another key") end
  if leaf.not_after <= now then
    refuse(options.dir, "a certificate that expired %s", time.rfc3339(leaf.not_after))
  end
  for _, name in ipairs(options.names or {}) do
    if not leaf:covers(name) then
      refuse(options.dir, "a certificate that does not cover %s", name)
    end
  end
  return leaf
end

local function write_generation(options, folder)
  local key_mode = options.mode or "0600"
  local leaf, rest = {}, {}
  for i, cert in ipairs(x509.read_chain(options.pem)) do
    table.insert(i == 1 and leaf or rest, cert:pem())
  end
  fs.mkdir(folder, {mode = key_mode:sub(3, 3) == "0" and "0700" or "0750"})
  if options.owner then fs.chown(folder, options.owner) end
  local function put(name, data, mode)
    fs.write(folder .. "/" .. name, data, {mode = mode, owner = options.owner})
  end
  put("key.pem", options.key:pem(), key_mode)
  put("cert.pem", table.concat(leaf), "0644")
  put("chain.pem", table.concat(rest), "0644")
  put("fullchain.pem", table.concat(leaf) .. table.concat(rest), "0644")
end

local function run_reload(options)
  if not options.reload then return end
  if practice.folder() then
    print(("would run: %s"):format(table.concat(options.reload, " ")))
    return
  end
  process.run{argv = options.reload, timeout = options.reload_timeout or "60s"}
end

--- The reload failed. Back to the pair from before; without one the new pair stays and the
--- next run reloads again.
local function roll_back(options, previous, failed, err)
  local left = "there was none before, so the new one stays and the next run reloads "
    .. "again"
  if previous then
    left = "the certificate that was in service is back"
    fs.symlink_replace(previous, options.dir .. "/current")
    local ok, again = pcall(run_reload, options)
    if not ok then
      log.error("%s: the old certificate is back, but reloading it failed too: %s",
        options.dir, tostring(again))
    end
    fs.remove(options.dir .. "/" .. PENDING, {missing_ok = true})
    fs.remove_tree(options.dir .. "/" .. failed, {missing_ok = true})
  end
  errors.raise("io", ("the reload after installing to %s failed; %s"):format(options.dir,
    left), {code = "RELOAD", cause = err})
end

--- Reload the consumer, or go back.
local function reload(options, previous, name)
  local ok, err = xpcall(run_reload, errors.object, options)
  if not ok then roll_back(options, previous, name, err) end
  fs.remove(options.dir .. "/" .. PENDING, {missing_ok = true})
end

--- The options, with the folder where it is while practising.
local function in_place(options)
  local copy = {}
  for key, value in pairs(options) do copy[key] = value end
  copy.dir = practice.path(options.dir)
  return copy
end

--- Reload after a switch that an earlier run did not finish; when that fails, the pair from
--- before the switch comes back if there was one. Raises io (code RELOAD) then.
---@param options {dir: string, reload: string[]?, reload_timeout: number?}
---@return boolean done
function deploy.finish_reload(options)
  options = in_place(options)
  local text, err = try(fs.read, options.dir .. "/" .. PENDING, {max = 4096})
  if not text then
    if err.kind == "not_found" then return false end
    error(err, 0)
  end
  local name = text:match("^(gen%-%d+)\n")
  local previous = text:match("^gen%-%d+\n(gen%-%d+)\n$")
  if name and name ~= link_target(options.dir) then -- stopped before the switch
    fs.remove(options.dir .. "/" .. PENDING, {missing_ok = true})
    return false
  end
  if previous and not fs.exists(options.dir .. "/" .. previous) then previous = nil end
  reload(options, previous, name)
  return true
end

--- Take away generations that were never in service: a run was stopped before its switch.
local function drop_unused(dir, current)
  local in_service = current and generation_number(current) or 0
  for _, generation in ipairs(generations(dir)) do
    if generation.number > in_service then
      fs.remove_tree(dir .. "/" .. generation.name)
    end
  end
end

local function prune(dir, keep)
  local all, current = generations(dir), link_target(dir)
  for i = 1, #all - keep do
    if all[i].name ~= current then fs.remove_tree(dir .. "/" .. all[i].name) end
  end
end

--- Write a new generation, switch to it, reload. Raises what failed; the pair in service
--- then is the one from before.
---@param options table see INSTALL: dir, pem, key, names, owner, mode, keep, reload, reload_timeout
---@return table installed {generation, leaf}
function deploy.install(options)
  options = in_place(args.check("deploy.install", INSTALL, options))
  local dir, step = options.dir, options.on_step or function() end
  fs.mkdir(dir, {parents = true, mode = "0755"})
  fs.sweep(dir)
  local previous = link_target(dir)
  drop_unused(dir, previous)
  local all = generations(dir)
  local name = ("gen-%06d"):format(#all > 0 and all[#all].number + 1 or 1)
  local folder = dir .. "/" .. name
  local half <close> = setmetatable({}, {__close = function(_, err)
    if err and link_target(dir) ~= name then
      fs.remove_tree(folder, {missing_ok = true})
    end
  end})
  write_generation(options, folder)
  local leaf = self_check(options, folder)
  step("written", folder)
  if options.reload then
    fs.write(dir .. "/" .. PENDING, name .. "\n" .. (previous or "") .. "\n",
      {mode = "0600"})
  end
  step("journalled", folder)
  fs.symlink_replace(name, dir .. "/current")
  step("switched", folder)
  reload(options, previous, name)
  step("reloaded", folder)
  prune(dir, options.keep or 3)
  return {generation = name, leaf = leaf}
end

return deploy
