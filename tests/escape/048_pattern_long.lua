-- Attack: A pattern longer than any person writes.
return ("a"):find(("a"):rep(100000) .. "%d")
