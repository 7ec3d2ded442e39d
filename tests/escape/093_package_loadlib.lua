-- Attack: Load a C library.
return package.loadlib("libc.so.6", "*")
