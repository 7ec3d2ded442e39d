-- Attack: A subject longer than patterns may search.
return ("a"):rep(5000):find("%d")
