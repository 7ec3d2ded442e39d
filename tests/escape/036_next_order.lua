-- Attack: Learn the hash seed from next.
local first = next({ z = 1, y = 2, x = 3, a = 4 })
if first ~= "a" then return first end
error("sorted")
