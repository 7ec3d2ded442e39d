-- Attack: Measure time.
return os.clock()
