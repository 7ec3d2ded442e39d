-- Attack: Loop in a finalizer, where no hook fires.
setmetatable({}, { __gc = function() while true do end end })
collectgarbage()
