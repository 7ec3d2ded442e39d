-- Attack: Return a table whose length lies.
function check()
  local t = {}
  for i = 0, 62 do t[1 << i] = tostring end
  return t
end
