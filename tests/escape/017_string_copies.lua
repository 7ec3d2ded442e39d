-- Attack: Copy a long string over and over: few instructions, many bytes.
local s = ("x"):rep(120000)
local n = 0
while true do n = n + #(s .. s) end
