-- Attack: Learn an address by tostring or %s.
local text = tostring({}) .. tostring(tostring) .. string.format("%s %s", {}, tostring)
if text:find("0x", 1, true) or text:find("%x%x%x%x%x%x") then return text end
error("no address: " .. text)
