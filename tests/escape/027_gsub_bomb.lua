-- Attack: Replace every byte by a long string.
return (("x"):rep(4096):gsub("x", ("y"):rep(100000)))
