-- Attack: Unbalanced %b at every position.
local s = ("("):rep(3000)
while true do s:find("%b()") end
