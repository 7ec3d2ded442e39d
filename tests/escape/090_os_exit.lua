-- Attack: End the process.
os.exit(0)
