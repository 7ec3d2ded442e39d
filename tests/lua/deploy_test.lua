-- Installing: whole generations, one switch, reload, back on failure.
local deploy = require "deploy"
local fs = require "fs"
local time = require "time"
local x509 = require "x509"

local DAY = 86400

local function pair(name, days)
  local key = x509.key{type = "p256"}
  local cert = x509.sign{subject = {CN = name}, key = key, names = {name},
    not_before = time.now() - DAY, not_after = time.now() + (days or 90) * DAY}
  return {pem = cert:pem(), key = key, leaf = cert}
end

local function install(dir, p, more)
  local options = {dir = dir, pem = p.pem, key = p.key}
  for k, v in pairs(more or {}) do options[k] = v end
  return deploy.install(options)
end

local function serial(dir) return deploy.current(dir).leaf.serial end

test("a first install makes a generation, private from the first byte", function(t)
  local dir = t:tmpdir() .. "/www"
  local p = pair("a.example")
  install(dir, p, {names = {"a.example"}})
  local now = deploy.current(dir)
  t:equal({now.generation, now.matches, now.leaf.serial},
    {"gen-000001", true, p.leaf.serial})
  t:equal(fs.stat(dir .. "/current/key.pem").mode, "0600")
  t:equal(fs.stat(dir .. "/gen-000001").mode, "0700")
end)

test("there is nothing in service in an empty or missing folder", function(t)
  local dir = t:tmpdir()
  t:equal(deploy.current(dir), nil)
  t:equal(deploy.current(dir .. "/missing"), nil)
end)

test("old generations go, the one in service and its predecessors stay", function(t)
  local dir = t:tmpdir()
  for _ = 1, 5 do install(dir, pair("a.example"), {keep = 3}) end
  t:equal(fs.readlink(dir .. "/current"), "gen-000005")
  t:equal(fs.list(dir), {"current", "gen-000003", "gen-000004", "gen-000005"})
end)

test("a pair that is wrong is never switched to", function(t)
  local dir = t:tmpdir()
  local good = pair("a.example")
  install(dir, good)
  local other = pair("a.example")
  other.key = x509.key{}
  t:raises(function() install(dir, other) end, "protocol", "another key")
  t:raises(function() install(dir, pair("a.example", -0.5)) end, "protocol", "expired")
  t:raises(function() install(dir, pair("b.example"), {names = {"a.example"}}) end,
    "protocol", "does not cover a.example")
  t:equal(serial(dir), good.leaf.serial)
  t:equal(fs.list(dir), {"current", "gen-000001"})
end)

test("a reload that fails brings the certificate from before back", function(t)
  local dir = t:tmpdir()
  local good = pair("a.example")
  install(dir, good)
  local err = t:raises(function()
    install(dir, pair("a.example"), {reload = {"false"}})
  end, "io", "RELOAD")
  assert(err.message:find("is back", 1, true), err.message)
  t:equal(serial(dir), good.leaf.serial)
  t:equal(deploy.current(dir).reload_pending, false)
end)

test("a reload that hangs is ended and counts as failed", function(t)
  local dir = t:tmpdir()
  local good = pair("a.example")
  install(dir, good)
  t:raises(function()
    install(dir, pair("a.example"), {reload = {"sleep", "60"}, reload_timeout = "300ms"})
  end, "io", "did not end within")
  t:equal(serial(dir), good.leaf.serial)
end)

test("a first install whose reload fails stays, and the next run reloads", function(t)
  local dir, flag = t:tmpdir() .. "/www", t:tmpdir() .. "/flag"
  t:raises(function() install(dir, pair("a.example"), {reload = {"false"}}) end, "io",
    "the next run reloads")
  t:equal(deploy.current(dir).reload_pending, true)
  t:equal(deploy.finish_reload{dir = dir, reload = {"touch", flag}}, true)
  t:equal(fs.exists(flag), true)
  t:equal(deploy.current(dir).reload_pending, false)
end)

test("stopped between any two steps, one whole pair is in service", function(t)
  for _, stop in ipairs{"written", "journalled", "switched", "reloaded"} do
    local dir = t:tmpdir()
    local old, new = pair("a.example"), pair("a.example")
    install(dir, old)
    t:raises(function()
      install(dir, new, {reload = {"true"}, on_step = function(step)
        if step == stop then error("stopped", 0) end
      end})
    end, nil, "stopped")
    local now = deploy.current(dir)
    t:equal(now.matches, true, stop)
    local switched = stop == "switched" or stop == "reloaded"
    t:equal(now.leaf.serial, (switched and new or old).leaf.serial, stop)
    t:equal(now.reload_pending, stop == "switched" or stop == "journalled", stop)
  end
end)

test("what is not our link is not touched", function(t)
  local dir = t:tmpdir()
  fs.mkdir(dir .. "/current")
  t:raises(function() install(dir, pair("a.example")) end, "conflict", "not a link")
end)

test("a read-only place is an error with its path, and nothing is left", function(t)
  local err = t:raises(function()
    install("/proc/secrun-test", pair("a.example"))
  end, nil, "/proc/secrun%-test")
  assert(err.kind == "io" or err.kind == "not_found", err.kind)
end)

test("files that are damaged are reported as broken", function(t)
  local dir = t:tmpdir()
  install(dir, pair("a.example"))
  fs.write(dir .. "/gen-000001/key.pem", "")
  local now = deploy.current(dir)
  t:equal(now.matches, false)
  assert(now.key_broken:find(dir .. "/gen-000001/key.pem", 1, true), now.key_broken)
  fs.write(dir .. "/gen-000001/fullchain.pem", "")
  local broken = deploy.current(dir).broken
  assert(broken:find(dir .. "/gen-000001/fullchain.pem", 1, true), broken)
end)

test("files that this user may not read are no reason to renew", function(t)
  local dir = t:tmpdir()
  install(dir, pair("a.example"))
  fs.remove(dir .. "/gen-000001/key.pem")
  fs.mkdir(dir .. "/gen-000001/key.pem") -- cannot be read, also by root
  t:raises(function() deploy.current(dir) end, "io", "key%.pem")
end)

test("a link to somewhere else is not ours", function(t)
  local dir = t:tmpdir()
  fs.symlink_replace("/etc/ssl", dir .. "/current")
  t:raises(function() deploy.current(dir) end, "conflict", "not a link to a generation")
  t:raises(function() install(dir, pair("a.example")) end, "conflict", "Move it away")
  t:equal(fs.readlink(dir .. "/current"), "/etc/ssl")
end)

test("a reload that fails again says so", function(t)
  local dir = t:tmpdir()
  t:raises(function() install(dir, pair("a.example"), {reload = {"false"}}) end, "io")
  local err = t:raises(function()
    deploy.finish_reload{dir = dir, reload = {"false"}}
  end, "io", "the new one stays and the next run reloads again")
  t:equal(err.code, "RELOAD")
end)

--- Install a second pair, stopped after a step.
local function stopped_after(t, dir, stop)
  install(dir, pair("a.example"))
  local old = deploy.current(dir).leaf.serial
  t:raises(function()
    install(dir, pair("a.example"), {reload = {"true"}, on_step = function(step)
      if step == stop then error("stopped", 0) end
    end})
  end, nil, "stopped")
  return old
end

test("a reload that a stopped run left and that fails now brings the old one back",
  function(t)
    local dir = t:tmpdir()
    local old = stopped_after(t, dir, "switched")
    t:raises(function() deploy.finish_reload{dir = dir, reload = {"false"}} end, "io",
      "the certificate that was in service is back")
    t:equal(deploy.current(dir).leaf.serial, old)
    t:equal(deploy.current(dir).reload_pending, false)
  end)

test("stopped before the switch there is nothing to reload", function(t)
  local dir = t:tmpdir()
  stopped_after(t, dir, "journalled")
  t:equal(deploy.finish_reload{dir = dir, reload = {"false"}}, false)
  t:equal(deploy.current(dir).reload_pending, false)
end)

test("a generation that was never in service is taken away", function(t)
  local dir = t:tmpdir()
  install(dir, pair("a.example"))
  fs.mkdir(dir .. "/gen-000002")
  fs.write(dir .. "/gen-000002/key.pem", "half")
  t:equal(install(dir, pair("a.example")).generation, "gen-000002")
  t:equal(fs.list(dir), {"current", "gen-000001", "gen-000002"})
  t:equal(deploy.current(dir).matches, true)
end)
