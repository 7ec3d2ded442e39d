-- Attack: Lie about a length by a metamethod.
return table.remove(setmetatable({}, { __len = function() return math.maxinteger end }), 1)
