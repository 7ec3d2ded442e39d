--- COUNT certificates in one process from Pebble, http-01 by our own server.  issue.lua COUNT

package.path = "tests/integration/?.lua;tests/demo/?.lua;" .. package.path

local acme = require "acme"
local pebble = require "pebble"
local stage = require "stage"
local task = require "task"
local x509 = require "x509"

local count = tonumber(arg[1])

return stage.run(function()
  local ca = pebble.start(stage, {nonce_reject = 0, authz_reuse = 0})
  local account = acme.account{directory = ca.directory, ca = ca.ca, terms_agreed = true,
    key = x509.key{}}
  local folder, names = stage:tmpdir(), {}
  for i = 1, count do names[i] = ("soak%d.example.net"):format(i) end
  local results, errors = task.each(names, {limit = 32}, function(name)
    local issued = account:issue{names = {name}, solver = acme.http01{listen = ca.http01},
      state_dir = folder .. "/" .. name, timeout = "120s"}
    issued:done()
    return issued.chain[1].names[1]
  end)
  for i, name in ipairs(names) do
    if results[i] ~= name then error(errors[i] or name, 0) end
  end
  print(("%d certificates"):format(count))
  return 0
end)
