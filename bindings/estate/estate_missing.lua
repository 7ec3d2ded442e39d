--- What an estate names and this machine lacks.
--
--     for _, text in ipairs(estate_missing.list(e)) do … end

local alert_routes = require "alert_routes"
local errors = require "errors"
local fs = require "fs"
local process = require "process"
local scm_estate = require "scm_estate"
local setting = require "estate_setting"
local x509 = require "x509"

local estate_missing = {}

--- Run fn; what it raises goes to the list, once, after its place.
local function collect(list, place, fn, ...)
  local _, err = try(fn, ...)
  local text = err and place .. ": " .. err.message
  if text and not list[text] then
    list[text] = true
    list[#list + 1] = text
  end
end

local function look_at_ca(path) x509.read_chain(fs.read(path)) end

local function look_at_account(list, place, account)
  if account.ca and account.ca ~= "system" then
    collect(list, place .. ".ca", look_at_ca, account.ca)
  end
  if account.eab then
    collect(list, place .. ".eab.hmac_key", setting.secret, account.eab.hmac_key)
  end
end

--- Secrets and files of all the logins to SCM.
local function look_at_scm(list, e)
  local needs = e.scm and scm_estate.needs(e.scm, "scm") or {}
  for name, org in pairs(e.orgs or {}) do
    local more = org.scm and scm_estate.needs(org.scm, "orgs." .. name .. ".scm") or {}
    table.move(more, 1, #more, #needs + 1, needs)
  end
  for _, need in ipairs(needs) do
    if need.secret then collect(list, need.place, setting.secret, need.secret) end
    if need.file then collect(list, need.place, fs.read, need.file) end
  end
end

local function look_for_folder(path)
  local stat = fs.stat(path)
  if not stat or stat.type ~= "directory" then
    errors.raise("not_found", ("there is no folder %s; make it, or name the one that the "
      .. "web server serves"):format(path))
  end
end

local function can_be_run(path)
  local stat = fs.stat(path)
  return stat and stat.type == "file" and stat.mode:find("[1357]") ~= nil
end

local function look_for_program(name)
  local found = name:find("/", 1, true) and can_be_run(name)
  local path = not name:find("/", 1, true) and process.env("PATH") or ""
  for folder in path:gmatch("[^:]+") do
    found = found or can_be_run(folder .. "/" .. name)
  end
  if not found then
    errors.raise("not_found", ("there is no program %q that can be run; install it, or "
      .. "give its full path"):format(name))
  end
end

--- What the file names and this machine lacks: CA files, secrets, webroots, programs.
---@return string[] texts each with its place
function estate_missing.list(e)
  local list = {}
  for i, certificate in ipairs(e.certificates) do
    local place = setting.place(i, certificate)
    if setting.channel(e, certificate) == "acme" then
      look_at_account(list, place .. " acme", setting.of(e, certificate, "acme"))
      local webroot = setting.of(e, certificate, "challenge").webroot
      if webroot then collect(list, place .. " challenge", look_for_folder, webroot) end
    end
    if certificate.reload then
      collect(list, place .. " reload", look_for_program, certificate.reload[1])
    end
  end
  look_at_scm(list, e)
  for _, need in ipairs(alert_routes.needs(e.alerts)) do
    if need.secret then collect(list, need.place, setting.secret, need.secret) end
    if need.ca then collect(list, need.place .. ".ca", look_at_ca, need.ca) end
  end
  return list
end

return estate_missing
