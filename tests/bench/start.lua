--- Run two programs in turns and compare the medians of their wall times.
--
--     secrun tests/bench/start.lua PROGRAM ROUNDS

local process = require "process"
local time = require "time"

local TARGET = 1.2
local program, rounds = arg[1], tonumber(arg[2])

local cases = {
  {name = "secrun -e ''", argv = {program, "-e", ""}, times = {}},
  {name = "curl --version", argv = {"curl", "--version"}, times = {}},
}

local function median(list)
  table.sort(list)
  return list[#list // 2 + 1]
end

for round = -2, rounds do
  for _, case in ipairs(cases) do
    local began = time.cpu()
    process.run{argv = case.argv}
    if round > 0 then table.insert(case.times, time.cpu() - began) end
  end
end

local ours, theirs = median(cases[1].times), median(cases[2].times)
for _, case in ipairs(cases) do
  print(("%-15s median %5.1f ms, least %5.1f ms"):format(case.name,
    median(case.times) * 1000, case.times[1] * 1000))
end
print(("ratio of medians %.2f (target %.1f)"):format(ours / theirs, TARGET))
os.exit(ours / theirs <= TARGET)
