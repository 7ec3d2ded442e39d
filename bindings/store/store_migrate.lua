--- Brings a store to the schema of this program, each version in one transaction.
--
--     migrate.run(db)
--
-- Which versions a store has stands in its table `migration`. Running it twice, or in two
-- processes at once, does nothing the second time. A store that has a version which this
-- program does not know is refused: an older program would not keep the newer one's rules.

local core = require "store.core"
local dialect = require "store_dialect"
local errors = require "errors"
local keep = require "store_keep"
local log = require "log"
local schema = require "store_schema"
local time = require "time"

local migrate = {}

local TABLE = "CREATE TABLE IF NOT EXISTS migration (version BIGINT PRIMARY KEY, "
  .. "name TEXT NOT NULL, applied_at BIGINT NOT NULL)"

local function applied(db)
  if not db:row(dialect.has_table.sqlite, {name = "migration"}) then return {}, 0 end
  local names, newest = {}, 0
  for _, row in ipairs(db:rows("SELECT version, name FROM migration")) do
    names[row.version] = row.name
    newest = math.max(newest, row.version)
  end
  return names, newest
end

local function known(list)
  local names, newest = {}, 0
  for _, entry in ipairs(list) do
    names[entry.version] = entry.name
    newest = math.max(newest, entry.version)
  end
  return names, newest
end

local function refuse_newer(place, list, has, newest)
  local names, ours = known(list)
  for version, name in pairs(has) do
    if not names[version] then
      errors.raise("store", ("%s has schema %d, this program knows up to %d: it was used "
        .. "by a newer secrun; run that one, or restore a backup from before")
        :format(place, newest, ours), {code = "SCHEMA_NEWER"})
    elseif names[version] ~= name then
      errors.raise("store", ("%s has %q as schema %d, this program %q: it was made by "
        .. "another build; name a store of its own for this one")
        :format(place, name, version, names[version]), {code = "SCHEMA_OTHER"})
    end
  end
end

local function apply(db, entry)
  db:transaction(function(t)
    local version = {v = entry.version}
    if t:row("SELECT 1 AS yes FROM migration WHERE version = $v", version) then
      return -- another process was faster
    end
    for _, statement in ipairs(core.statements(entry.sql)) do
      t:exec(dialect.ddl.sqlite(statement))
    end
    t:exec("INSERT INTO migration (version, name, applied_at) VALUES ($v, $name, $at)",
      {v = entry.version, name = entry.name, at = math.floor(time.now() * 1000)})
  end)
end

--- Copy a store as it is before its schema changes. A process beside us that does the same in
--- the same second has made the copy.
local function save(db, version)
  local path, err = try(keep.backup, db.place, nil, "before-schema-" .. version)
  if err and err.kind ~= "conflict" then error(err, 0) end
  if path then
    log.info(("%s is brought to schema %d; as it was, it is in %s"):format(db.place,
      version, path))
  end
end

--- What a store has and lacks.
---@param db store.Db
---@param list table[]? store_schema by default
---@return integer has the newest version
---@return table[] missing entries
function migrate.state(db, list)
  list = list or schema
  local has, newest = applied(db)
  refuse_newer(db.place, list, has, newest)
  local missing = {}
  for _, entry in ipairs(list) do
    if not has[entry.version] then missing[#missing + 1] = entry end
  end
  return newest, missing
end

--- Apply what is missing. A store that is read only must not lack anything.
---@param db store.Db
---@param list table[]? store_schema by default
function migrate.run(db, list)
  local has, missing = migrate.state(db, list)
  if #missing == 0 then return end
  if db.read_only then
    errors.raise("store", ("%s has schema %d, this program needs %d: open it once for "
      .. "writing, for example with `secrun store check`"):format(db.place, has,
      missing[#missing].version), {code = "SCHEMA_OLDER"})
  end
  if has > 0 then save(db, missing[#missing].version) end
  db:exec(dialect.ddl.sqlite(TABLE))
  for _, entry in ipairs(missing) do apply(db, entry) end
end

return migrate
