-- Attack: Search a table of empty slots for ever.
local t = {}
for i = 1, 200000 do t[i] = i end
for i = 1, 200000 do t[i] = nil end
local n = 0
while true do n = n + (next(t) or 1) end
