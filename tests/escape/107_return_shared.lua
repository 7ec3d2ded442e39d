-- Attack: Return a small graph that unfolds to 2^60 tables.
function check()
  local t = { 1 }
  for _ = 1, 60 do t = { t, t } end
  return t
end
