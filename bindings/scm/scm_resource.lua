--- c.ssl, c.person …: the operations of one resource as methods.
--
--     c.person:list{organization_id = 5}       -- person.list, all pages
--     c.ssl:get(7)                             -- a single parameter of the path
--     c.organization:create{name = "Example", …}
--
-- Parameters may be written in SCM's way (organizationId) or in ours (organization_id).
-- What the table cannot do has a file of its own, scm_ssl.lua …, whose functions come
-- before those made here.

local core = require "scm.core"
local errors = require "errors"
local scm_call = require "scm_call"
local scm_list = require "scm_list"

local scm_resource = {}

-- Resources with functions of their own, by module.
local OWN = {ssl = "scm_ssl", smime = "scm_smime", device = "scm_device", dcv = "scm_dcv",
  organization = "scm_organization"}

local by_resource -- resource → verb → operation

local function operations()
  if by_resource then return by_resource end
  by_resource = {}
  for _, op in ipairs(core.operations()) do
    local resource, verb = op.name:match "^([^.]+)%.(.+)$"
    by_resource[resource] = by_resource[resource] or {}
    by_resource[resource][verb] = by_resource[resource][verb] or op
  end
  return by_resource
end

local function names_of(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function unknown(what, name, names)
  local close = require "args".suggest(name, names)
  errors.raise("usage", ("%s%s"):format(what, close
    and ("; did you mean %q?"):format(close) or "; it has: " .. table.concat(names, " ")),
    {code = "UNKNOWN_OPERATION"})
end

--- "organization_id" → "organizationId"; names that SCM writes with "_" stay.
local function camel(name)
  if type(name) ~= "string" or name == "output_type" then return name end
  return (name:gsub("_(%l)", string.upper))
end

--- Parameters in SCM's spelling; a scalar is the operation's only parameter of the path.
local function parameters_of(op, given)
  if given == nil then return {} end
  if type(given) == "table" then
    local parameters = {}
    for name, value in pairs(given) do parameters[camel(name)] = value end
    return parameters
  end
  local only
  for _, parameter in ipairs(op.parameters) do
    if parameter.place == "path" then
      if only then
        errors.raise("usage", ("%s needs %s and %s; give a table"):format(op.name, only,
          parameter.name), {code = "BAD_ARGUMENT"})
      end
      only = parameter.name
    end
  end
  if not only then
    errors.raise("usage", ("%s: expected a table of parameters, got %s"):format(op.name,
      type(given)), {code = "BAD_ARGUMENT"})
  end
  return {[only] = given}
end

--- The function as a method: "c.ssl.list{}" says what is wrong with it.
local function guarded(name, fn)
  return function(self, ...)
    local meta = getmetatable(self)
    if type(meta) ~= "table" or meta.__name ~= "scm.resource" then
      errors.raise("usage", ("%s is a method; write c.%s with a colon"):format(name,
        name:gsub("%.", ":")), {code = "BAD_ARGUMENT"})
    end
    return fn(self, ...)
  end
end

--- The function for an operation.
local function call_of(op)
  local lists = op.result == "list" and op.method == "GET"
  return function(self, given, options)
    local parameters = parameters_of(op, given)
    if lists then return scm_list.open(self.conn, op.name, parameters, options) end
    return scm_call.run(self.conn, op.name, parameters, options or {})
  end
end

---@class scm.Resource
---@field conn scm.Connection
---@field name string

--- The class of a resource: own functions first, then the table's.
local function class_of(name)
  local verbs = operations()[name]
  local own = OWN[name] and require(OWN[name]) or {}
  local methods = {}
  return {
    __name = "scm.resource",
    __index = function(_, verb)
      if methods[verb] then return methods[verb] end
      if type(verb) ~= "string" then return nil end
      local op = verbs[verb]
      if not op and not own[verb] then
        local names = names_of(verbs)
        for more in pairs(own) do names[#names + 1] = more end
        unknown(("c.%s has no %s"):format(name, verb), verb, names)
      end
      methods[verb] = guarded(name .. "." .. verb, own[verb] or call_of(op))
      return methods[verb]
    end,
    __tostring = function() return "scm.resource " .. name end,
  }
end

local classes = {}

--- The resource of a connection. Raises usage for an unknown one.
---@param conn scm.Connection
---@param name string
---@return scm.Resource
function scm_resource.of(conn, name)
  if not operations()[name] then
    unknown(("a connection to SCM has no %s"):format(name), name, names_of(operations()))
  end
  classes[name] = classes[name] or class_of(name)
  return setmetatable({conn = conn, name = name}, classes[name])
end

return scm_resource
