-- Attack: As many values as bytes.
return select("#", ("x"):rep(200000):byte(1, -1))
