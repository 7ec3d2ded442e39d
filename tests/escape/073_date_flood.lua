-- Attack: A date format as long as memory.
return os.date(("%c"):rep(100000))
