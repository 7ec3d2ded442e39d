-- Attack: Wide fields, over and over.
local s = ("%99d"):rep(8)
while true do s.format(s, 1, 2, 3, 4, 5, 6, 7, 8) end
