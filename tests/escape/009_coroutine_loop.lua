-- Attack: Loop in a coroutine, which may have no hook of its own.
coroutine.wrap(function() while true do end end)()
