-- Attack: More values than the stack may hold.
return select("#", table.unpack({}, 1, 1e7))
