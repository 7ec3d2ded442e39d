-- One issuance that kills itself with SIGKILL after the n-th step; started by
-- acme_kill_test.lua. Arguments: directory URL, its CA, listen address, state folder, n.
local acme = require "acme"
local fs = require "fs"
local process = require "process"

local directory, ca, listen, state, fatal = table.unpack(arg)
local count = 0

local account = acme.account{directory = directory, ca = ca, terms_agreed = true,
  key = {file = state .. "/account.pem"}}
local result = account:issue{names = {"a.test", "b.test"}, state_dir = state .. "/a.test",
  solver = acme.http01{listen = listen}, timeout = "30s",
  on_step = function(step)
    count = count + 1
    fs.append(state .. "/steps", step .. "\n")
    if count ~= tonumber(fatal) then return end
    process.run{argv = {"kill", "-KILL", tostring(process.pid)}}
    error("not killed")
  end}
print(result.key.spki_sha256, result.chain[1].serial)
