-- Attack: Read the environment.
return os.getenv("PATH")
