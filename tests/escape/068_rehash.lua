-- Attack: Make a full table rehash with every new key.
local t, n = {}, 32768
for i = 1, n do t["k" .. i] = true end
while true do
  t["k" .. n - 32767] = nil
  n = n + 1
  t["k" .. n] = true
end
