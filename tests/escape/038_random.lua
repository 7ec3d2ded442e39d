-- Attack: Be different each time.
return math.random()
