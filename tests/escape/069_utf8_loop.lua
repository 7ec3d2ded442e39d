-- Attack: Count the characters of a long string for ever.
local s = ("\u{e9}"):rep(100000)
while true do utf8.len(s) end
