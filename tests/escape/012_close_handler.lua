-- Attack: Loop in the handler of a to-be-closed variable.
do
  local guard <close> = setmetatable({}, { __close = function() while true do end end })
  assert(guard)
end
