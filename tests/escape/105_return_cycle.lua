-- Attack: Return a table that contains itself.
function check()
  local t = {}
  t.t = t
  return t
end
