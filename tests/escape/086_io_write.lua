-- Attack: Write to the terminal.
io.stdout:write("out")
