-- Attack: Back references compare far.
local s = ("a"):rep(2000)
return s:find("(a*)(a*)(a*)%1%2%3b")
