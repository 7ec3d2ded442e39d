-- Attack: Learn addresses from the order of tables as keys.
local t = { [{}] = 1, [{}] = 2 }
for k in pairs(t) do return k end
