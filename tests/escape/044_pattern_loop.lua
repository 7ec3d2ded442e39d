-- Attack: Patterns just within the limit, in a loop.
local s = ("a"):rep(180)
while true do s:find("a-a-b") end
