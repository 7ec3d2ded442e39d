-- Attack: Nest pcall so that every level swallows one error.
local function f() while true do pcall(f) end end
f()
