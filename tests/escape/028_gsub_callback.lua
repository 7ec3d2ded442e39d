-- Attack: Loop in the function that gsub calls.
return (("x"):gsub("x", function() while true do end end))
