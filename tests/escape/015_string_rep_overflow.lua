-- Attack: A length that wraps around the size of memory.
local s = ("abc"):rep(math.maxinteger, ",")
return #s
