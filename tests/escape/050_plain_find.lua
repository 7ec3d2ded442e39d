-- Attack: Quadratic search for plain text.
local s = ("a"):rep(200000)
return s:find(("a"):rep(100000) .. "b", 1, true)
