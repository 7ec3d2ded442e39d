-- Attack: Sort long strings that differ at the end.
local t, s = {}, ("x"):rep(100000)
for i = 1, 60 do t[i] = s .. i end
while true do table.sort(t) end
