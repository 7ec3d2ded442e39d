-- Attack: Hand a function to the outer state.
function check() return function() return "inside" end end
