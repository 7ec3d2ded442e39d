-- Attack: Set a field on a string.
local s = "x"
s.canary = "poisoned"
