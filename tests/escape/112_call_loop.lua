-- Attack: Behave at load, loop when called.
function check() while true do end end
