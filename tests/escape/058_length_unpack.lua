-- Attack: The same with unpack.
local t = {}
for i = 62, 0, -1 do t[1 << i] = true end
return table.unpack(t)
