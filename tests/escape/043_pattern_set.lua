-- Attack: Make each step slow by a large set.
return ("z"):rep(4000):match("[" .. ("abcdefghij"):rep(24) .. "z]*[^z]*y")
