-- Attack: Write to the terminal by print.
print("out")
