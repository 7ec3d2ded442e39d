-- Attack: The same inside gmatch.
local s = ("a"):rep(180)
while true do
  for word in s:gmatch("a-a-b") do return word end
end
