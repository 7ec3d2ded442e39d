-- Attack: The same with sort and an order function that is C and always false.
local t = {}
for i = 62, 0, -1 do t[1 << i] = true end
table.sort(t, tonumber)
