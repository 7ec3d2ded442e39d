-- Attack: Compare long equal strings for equality.
local a, b = ("x"):rep(250000), ("x"):rep(250000)
local same = true
while same do same = a == b end
