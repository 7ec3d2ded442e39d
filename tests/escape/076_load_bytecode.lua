-- Attack: Run bytecode, which can corrupt memory.
return load("\27Lua")
