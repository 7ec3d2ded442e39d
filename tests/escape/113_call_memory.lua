-- Attack: Behave at load, eat memory when called.
function check()
  local t = {}
  while true do t[#t + 1] = tostring(#t) end
end
