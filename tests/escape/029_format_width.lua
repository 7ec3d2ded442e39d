-- Attack: A field as wide as memory.
return string.format("%99999999d", 1)
