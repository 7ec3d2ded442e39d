-- Attack: Nest tables without end.
local t = {}
while true do t = { t } end
