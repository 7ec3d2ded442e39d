--- An estate in a folder of its own, and the program run on it.
--
--     local home = estate_home.new(t, ca, '{name = "www", domains = {"www.a.test"}}')
--     estate_home.expect(estate_home.renew(home, "--force"), 0, "www +renewed")

local deploy = require "deploy"
local fs = require "fs"
local process = require "process"
local time = require "time"
local x509 = require "x509"

local DAY = 86400

local estate_home = {program = require("load").paths().program}

--- An estate in a fresh folder; `certificates` is Lua text in which HOME is that folder.
--- `ca`: {directory =, ca =, http01 = "address:port" or webroot = folder}.
function estate_home.new(t, ca, certificates, more)
  local home = t:tmpdir()
  local text = ([[
acme = {directory = %q, ca = %q, terms_agreed = true}
challenge = {%s = %q}
allow_internal = {"test"}
state = %q
%s
certificates = {%s}
]]):format(ca.directory, ca.ca or "system", ca.webroot and "webroot" or "listen",
    ca.webroot or ca.http01 or "127.0.0.1:1", home .. "/state",
    more or "", (certificates:gsub("HOME", home)))
  fs.write(home .. "/estate.lua", text)
  return home
end

--- Run `secrun renew` on it; its result with stdout and stderr.
function estate_home.renew(home, ...)
  return process.run{check = false, timeout = "60s",
    argv = {estate_home.program, "renew", "--config", home .. "/estate.lua", ...}}
end

--- Raise unless the result has this status and its output matches every pattern.
function estate_home.expect(result, status, ...)
  local text = result.stdout .. result.stderr
  if result.status ~= status then
    local got = result.status or result.signal
    error(("status %s, want %d\n%s"):format(got, status, text), 2)
  end
  for _, pattern in ipairs{...} do
    if not text:find(pattern) then error(("no %q in\n%s"):format(pattern, text), 2) end
  end
  return result
end

--- A certificate in service for `left` more days; returns its serial.
function estate_home.in_service(dir, name, left)
  local key = x509.key{}
  local cert = x509.sign{subject = {CN = name}, key = key, names = {name},
    not_before = time.now() + (left - 90) * DAY, not_after = time.now() + left * DAY}
  deploy.install{dir = dir, pem = cert:pem(), key = key}
  return cert.serial
end

return estate_home
