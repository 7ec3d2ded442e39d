-- Attack: Fill a table until memory is gone.
local t = {}
while true do t[#t + 1] = {} end
