-- Attack: Change what every string of the process can do.
getmetatable("").__index = function() return "poisoned" end
