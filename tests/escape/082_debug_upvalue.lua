-- Attack: Change an upvalue of a built-in function.
debug.setupvalue(deny, 1, function() end)
