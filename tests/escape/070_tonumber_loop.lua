-- Attack: Read a number of many digits for ever.
local s = "0." .. ("123456789"):rep(20000)
while true do tonumber(s) end
