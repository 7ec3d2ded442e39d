-- Attack: Match many stars against a long text for ever.
local p, s = ("*a"):rep(120), ("a"):rep(4000)
while true do glob(p .. "b", s) end
