-- Attack: The same with remove.
local t = {}
for i = 62, 0, -1 do t[1 << i] = true end
table.remove(t, 1)
