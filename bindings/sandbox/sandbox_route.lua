--- Which handler serves a path: a tree of path segments.
--
--     local routes = sandbox_route.new()
--     routes:add("GET", "/api/ssl/v1,v2/{id}/location", handler)
--     local handler, params = routes:find("GET", "/api/ssl/v2/7/location")
--
-- "v1,v2" stands for either word (so does the last part of what a version alias names);
-- {name} matches any segment, and comes percent-decoded. Words win over {name}.

local encoding = require "encoding"

local sandbox_route = {}
local Routes = {}
Routes.__index = Routes

---@return table routes
function sandbox_route.new()
  return setmetatable({root = {words = {}}, count = 0}, Routes)
end

local function child(node, word)
  if word:find "^{" then
    node.any = node.any or {words = {}}
    return node.any, word:sub(2, -2)
  end
  node.words[word] = node.words[word] or {words = {}}
  return node.words[word]
end

local function add(node, rest, names, method, handler)
  local segment, tail = rest:match "^/([^/]+)(.*)$"
  if not segment then
    node.methods = node.methods or {}
    assert(not node.methods[method], "two handlers for " .. method)
    node.methods[method] = {handler = handler, names = names}
    return
  end
  for word in segment:gmatch "[^,]+" do
    local next_node, name = child(node, word)
    local more = table.move(names, 1, #names, 1, {})
    more[#more + 1] = name
    add(next_node, tail, more, method, handler)
  end
end

--- Add a handler. Two for the same method and path are a mistake, and raise.
---@param method string
---@param pattern string
---@param handler function
function Routes:add(method, pattern, handler)
  self.count = self.count + 1
  add(self.root, pattern, {}, method, handler)
end

local function walk(node, segments, i, values)
  if i > #segments then return node.methods and node end
  local by_word = node.words[segments[i]]
  local found = by_word and walk(by_word, segments, i + 1, values)
  if found then return found end
  if not node.any then return nil end
  values[#values + 1] = segments[i]
  found = walk(node.any, segments, i + 1, values)
  if not found then values[#values] = nil end
  return found
end

--- The handler and what its {name}s matched; nil and the methods that the path has (nil when
--- there is no such path).
---@param method string
---@param path string as sent, without query
---@return function?
---@return table<string, string>|string[]|nil
function Routes:find(method, path)
  local segments, values = {}, {}
  for segment in path:gmatch "[^/]+" do segments[#segments + 1] = segment end
  local node = walk(self.root, segments, 1, values)
  if not node then return nil, nil end
  local route = node.methods[method]
  if not route then
    local methods = {}
    for name in pairs(node.methods) do methods[#methods + 1] = name end
    table.sort(methods)
    return nil, methods
  end
  local params = {}
  for i, name in ipairs(route.names) do
    params[name] = try(encoding.percent_decode, values[i]) or values[i]
  end
  return route.handler, params
end

return sandbox_route
