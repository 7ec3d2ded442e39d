-- Attack: Move from one to the largest integer.
return table.move({}, 1, math.maxinteger - 1, 2)
