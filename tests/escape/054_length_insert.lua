-- Attack: Values at powers of two make # answer 2^62; insert would shift them all.
local t = {}
for i = 62, 0, -1 do t[1 << i] = true end
table.insert(t, 1, true)
