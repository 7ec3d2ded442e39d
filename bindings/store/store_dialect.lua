--- What SQLite and PostgreSQL do not read alike, side by side. Everything else in this program
--- is one text for both.

local dialect = {}

------------------------------------------------------------------ is there a table?

dialect.has_table = {
  sqlite = "SELECT 1 AS yes FROM sqlite_master WHERE type = 'table' AND name = $name",
  postgresql = "SELECT 1 AS yes FROM information_schema.tables "
    .. "WHERE table_schema = current_schema() AND table_name = $name",
}

------------------------------------------------------------------ CREATE TABLE

--- SQLite's STRICT tables refuse text in a number's column, as PostgreSQL does; they know
--- fewer names of types.
local TYPES = {BIGINT = "INTEGER", ["DOUBLE PRECISION"] = "REAL"}

---@param statement string of a migration
---@return string
local function strict(statement)
  if not statement:upper():find("^%s*CREATE%s+TABLE%f[%s]") then return statement end
  for name, ours in pairs(TYPES) do
    statement = statement:gsub("%f[%w_]" .. name:gsub(" ", "%%s+") .. "%f[^%w_]", ours)
  end
  return statement .. " STRICT"
end

dialect.ddl = {
  sqlite = strict,
  postgresql = function(statement) return statement end,
}

return dialect
