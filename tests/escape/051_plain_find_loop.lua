-- Attack: Plain searches just within the limit, in a loop.
local s, w = ("a"):rep(200000), ("a"):rep(450) .. "b"
while true do s:find(w, 1, true) end
