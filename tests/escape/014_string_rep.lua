-- Attack: One gigabyte by string.rep.
local s = ("x"):rep(1e9)
return #s
