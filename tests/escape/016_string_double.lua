-- Attack: Double a string until memory is gone.
local s = "x"
while true do s = s .. s end
