-- Attack: An error that is neither text nor table.
error(function() while true do end end)
