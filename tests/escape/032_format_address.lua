-- Attack: Learn an address by %p.
return string.format("%p", {})
