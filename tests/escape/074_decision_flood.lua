-- Attack: Decide without end.
while true do deny("no %d", 1) end
