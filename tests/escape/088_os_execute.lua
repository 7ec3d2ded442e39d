-- Attack: Start a program.
return os.execute("id")
