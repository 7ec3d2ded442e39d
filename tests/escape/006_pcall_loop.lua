-- Attack: Swallow the time limit's error with pcall, again and again.
while true do
  pcall(function() while true do end end)
end
