-- Attack: Return one long string a million times.
function check()
  local s, t = ("x"):rep(200000), {}
  for i = 1, 100000 do t[i] = s end
  return t
end
