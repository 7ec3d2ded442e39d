-- Attack: Nested greedy runs.
return ("a"):rep(4000):match(("a*"):rep(60) .. "b")
