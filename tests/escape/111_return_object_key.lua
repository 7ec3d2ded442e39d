-- Attack: Return a table with a table as key.
function check() return { [{}] = 1 } end
