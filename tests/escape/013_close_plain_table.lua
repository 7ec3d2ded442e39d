-- Attack: A to-be-closed variable with a table that cannot be closed.
local guard <close> = {}
return guard
