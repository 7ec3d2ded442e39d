-- Attack: Compile text at run time.
return load("return 1")()
