-- Attack: Return more values than anybody asked for.
function check() return table.unpack({}, 1, 5000) end
