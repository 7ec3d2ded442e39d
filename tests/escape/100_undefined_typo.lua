-- Attack: A misspelt name does not pass as nil.
if rsa_bits == nil then return allow() end
