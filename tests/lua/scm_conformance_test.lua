-- Every operation of the vendor's documents is in our table, with its parameters; and the
-- table has nothing else. The documents are here as a list of our own, scm_operations.txt.
-- Where the vendor's OpenAPI file is at hand, SECRUN_SCM_OPENAPI names it, and the list is
-- compared with it as well.
local core = require "scm.core"
local fs = require "fs"
local json = require "json"
local scm = require "scm"

local LIST = "tests/lua/scm_operations.txt"
-- Ours beyond those documents: legacy fields of the classic face, profiles of 26.7.
local BEYOND = {numberServers = true, serverType = true}
local NEWER = {["profile.list"] = true, ["profile.get"] = true}

local function read_list()
  local rows = {}
  for line in fs.read(LIST):gmatch "[^\n]+" do
    local face, method, path, names = line:match "^(%l+) (%u+) (%S+) ?(.*)$"
    if face then
      local row = {face = face, method = method, path = path, names = {}, line = line}
      for name in names:gmatch "%S+" do row.names[name] = true end
      rows[#rows + 1] = row
    end
  end
  return rows
end

local function has(list, value)
  for _, one in ipairs(list) do
    if one == value then return true end
  end
  return false
end

--- The operations of the table that make this request on this face.
local function serving(row)
  local version = math.tointeger(row.path:match "/v(%d)")
  local pattern = row.path:gsub("/v%d", "/v*", 1)
  local found = {}
  for _, op in ipairs(scm.operations()) do
    if op.method == row.method and op.path == pattern and has(op[row.face], version) then
      found[#found + 1] = op
    end
  end
  return found
end

local function parameter_names(op)
  local names = {}
  for _, parameter in ipairs(op.parameters) do names[parameter.name] = true end
  return names
end

test("every documented operation is in the table, with its parameters", function(t)
  local rows, missing = read_list(), {}
  assert(#rows > 550, #rows)
  for _, row in ipairs(rows) do
    local found = serving(row)
    if #found == 0 then missing[#missing + 1] = row.line end
    local names = {}
    for _, op in ipairs(found) do
      for name in pairs(parameter_names(op)) do names[name] = true end
    end
    for name in pairs(#found > 0 and row.names or {}) do
      if not names[name] then missing[#missing + 1] = row.line .. ": " .. name end
    end
  end
  t:equal(missing, {})
end)

test("the table has no operation and no parameter that is not documented", function(t)
  local documented, extra = {}, {}
  for _, row in ipairs(read_list()) do
    for _, op in ipairs(serving(row)) do
      documented[op] = documented[op] or {}
      for name in pairs(row.names) do documented[op][name] = true end
    end
  end
  for _, op in ipairs(scm.operations()) do
    local known = documented[op] or NEWER[op.name] and parameter_names(op)
    if not known then extra[#extra + 1] = op.name .. " " .. op.path end
    for name in pairs(known and parameter_names(op) or {}) do
      if not known[name] and not BEYOND[name] then
        extra[#extra + 1] = op.name .. ": " .. name
      end
    end
  end
  t:equal(extra, {})
end)

local DUMMY = {string = "x", number = 1, boolean = true, list = {}, object = {},
  secret = "x", any = "x", ["names with commas"] = "a.test", ["list of names"] = "a.test"}

local function parameters_for(op)
  local parameters, element, list = {}, {}, false
  for _, parameter in ipairs(op.parameters) do
    if parameter.required then
      local to = parameter.place == "body" and element or parameters
      to[parameter.name] = DUMMY[parameter.type]
    end
  end
  for name, value in pairs(element) do parameters[name] = value end
  if not pcall(core.prepare, op.name, op.classic[1] and "classic" or "admin",
    op.classic[1] or op.admin[1], parameters) then
    list = true
  end
  if list then
    for name in pairs(element) do parameters[name] = nil end
    parameters[1] = element
  end
  return parameters
end

test("every operation can be called by its name and by the vendor's", function(t)
  local count = 0
  for _, op in ipairs(scm.operations()) do
    local parameters = parameters_for(op)
    for _, face in ipairs{"classic", "admin"} do
      for _, version in ipairs(op[face]) do
        local call = core.prepare(op.name, face, version, parameters)
        t:equal(call.method, op.method)
        assert(not call.path:find "[{*]", call.path)
        assert(call.path:find("/v" .. version, 1, true), call.path)
        count = count + 1
      end
    end
    for id in op.ids:gmatch "%S+" do
      local pinned, name = id:match "^v(%d):(.+)$"
      local call = core.prepare(name or id, "admin", 0, parameters)
      t:equal(call.name, op.name)
      if pinned then t:equal(call.version, tonumber(pinned)) end
    end
  end
  assert(count >= 500, count)
end)

test("names are resource.verb, none twice for one face and version", function(t)
  local seen = {}
  for _, op in ipairs(scm.operations()) do
    assert(op.name:find "^[%l_]+%.[%l_]+$", op.name)
    for _, face in ipairs{"classic", "admin"} do
      for _, version in ipairs(op[face]) do
        local key = ("%s %s %d"):format(op.name, face, version)
        assert(not seen[key], key)
        seen[key] = true
      end
    end
  end
  t:equal(#scm.operations "ssl.enroll_", 1)
end)

-------------------------------------------------------------------- the vendor's file

local function resolve(api, schema)
  while schema and schema["$ref"] do
    schema = api.components.schemas[schema["$ref"]:match "[^/]+$"]
  end
  return schema or {}
end

local function properties(api, schema, names)
  schema = resolve(api, schema)
  for name in pairs(schema.properties or {}) do names[name] = true end
  for _, key in ipairs{"allOf", "oneOf", "anyOf"} do
    for _, part in ipairs(schema[key] or {}) do properties(api, part, names) end
  end
  if schema.type == "array" then properties(api, schema.items, names) end
end

local function add_body(api, operation, names)
  local content = (operation.requestBody or {}).content
  if not content then return end
  local media = content["application/json"] or content["multipart/form-data"]
  if not media then
    for _, one in pairs(content) do media = one end
  end
  properties(api, media.schema, names)
end

--- The lines that the list must have, from the file.
local function lines_of(api)
  local lines = {}
  for path, methods in pairs(api.paths) do
    for method, operation in pairs(methods) do
      local names, sorted = {}, {}
      for name in path:gmatch "{([^}]+)}" do names[name] = true end
      for _, parameter in ipairs(operation.parameters or {}) do
        if parameter["in"] ~= "path" then names[parameter.name:match "^[^.[]+"] = true end
      end
      add_body(api, operation, names)
      for name in pairs(names) do sorted[#sorted + 1] = name end
      table.sort(sorted)
      local line = ("admin %s %s %s"):format(method:upper(), path,
        table.concat(sorted, " "))
      lines[line:gsub(" $", "")] = true
    end
  end
  return lines
end

test("the list is that of the vendor's file, where there is one", function(t)
  local listed, count = {}, 0
  for _, row in ipairs(read_list()) do
    if row.face == "admin" then
      listed[row.line] = true
      count = count + 1
    end
  end
  t:equal(count, 283)
  local path = os.getenv "SECRUN_SCM_OPENAPI"
  if not path then return end
  local lines = lines_of(json.decode(fs.read(path, {max = 16 << 20})))
  for line in pairs(lines) do assert(listed[line], "not in the list: " .. line) end
  for line in pairs(listed) do assert(lines[line], "not in the file: " .. line) end
end)
