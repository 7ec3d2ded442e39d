-- Attack: A pattern that backtracks for hours.
return ("a"):rep(400):find(("a-"):rep(4) .. "b")
