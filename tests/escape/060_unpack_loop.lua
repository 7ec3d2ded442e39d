-- Attack: Many values, over and over.
while true do table.pack(table.unpack({}, 1, 7999)) end
