-- Attack: Compare long strings of NUL bytes: one instruction, no allocation.
local s = ("\0"):rep(250000)
local a, b = s .. "a", s .. "b"
local less = true
while less do less = a < b end
