-- Attack: Join up to the largest integer.
return table.concat({}, ",", 1, math.maxinteger)
