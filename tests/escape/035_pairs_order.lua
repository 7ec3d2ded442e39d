-- Attack: Learn the hash seed from the order of pairs.
local seen = {}
for _, word in ipairs({ "d", "a", "c", "b", "e" }) do seen[word] = true end
local order = ""
for k in pairs(seen) do order = order .. k end
if order ~= "abcde" then return order end
error("sorted")
