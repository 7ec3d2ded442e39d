-- Attack: Live just below the memory limit, so that every step collects everything.
local keep, n = {}, 0
for i = 1, 62000 do keep[i] = { i } end
while true do n = n + #(("x"):rep(60000 + n % 2)) end
