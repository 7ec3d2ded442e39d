-- Attack: Hide a function deep in the result.
function check() return { a = { b = { c = tostring } } } end
