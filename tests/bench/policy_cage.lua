--- The measured side of the policy benchmark: secrun policy_cage.lua COUNT FILE…
-- Prints microseconds of processor time for one decision of all files, each in its cage.
local cage = require "cage"
local fs = require "fs"

local count = tonumber(arg[1])
local texts, names = {}, {}
for i = 2, #arg do texts[#texts + 1] = fs.read(arg[i]) end
for i = 1, 10 do names[i] = ("host%d.example.com"):format(i) end
local args = {{key_type = "rsa3072", names = names}}

local began = os.clock()
for _ = 1, count do
  for i = 1, #texts do
    local options = {text = texts[i], name = "policy", call = "check", args = args}
    assert(cage.run(options).verdict == "allow")
  end
end
print(("%.2f"):format((os.clock() - began) * 1e6 / count))
