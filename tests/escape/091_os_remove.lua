-- Attack: Remove a file.
return os.remove("/tmp/x")
