-- Attack: Hash long strings as keys, a new one each time.
local t, s = {}, ("x"):rep(200000)
local i = 0
while true do
  i = i + 1
  t[s .. i] = nil
  if t[i .. s] then break end
end
