-- Attack: An error message as long as memory allows.
error(("x"):rep(250000))
