-- Attack: Return tables nested without end.
function check()
  local t = {}
  for _ = 1, 10000 do t = { t } end
  return t
end
