--- The head of a script: what it says about itself, read without running it.
--
--     description = "Renew every certificate that is due."
--     usage       = "secrun renew [--dry-run] [NAME…]"
--     needs       = { net = {"*.example.com"} }
--     options     = {{name = "dry-run", type = "flag", doc = "say what would be done"}}
--
-- The four are literals at the beginning of a line; anything else is not a head.

local core = require "cli.core"

local head = {}

local MAX = 64 * 1024
local FIELDS = {"description", "usage", "needs", "options"}

--- Only strings, numbers, booleans and tables of them: no call can hide in it.
local function is_literal(text)
  local bare = text:gsub("\\.", ""):gsub('"[^"\n]*"', ""):gsub("'[^'\n]*'", "")
    :gsub("%[%[.-%]%]", ""):gsub("%-%-[^\n]*", "")
  return not bare:find "[():\"'%[]" and not bare:find "%f[%a]function%f[%A]"
end

--- The value of the expression that starts at `from`: as many lines as it takes.
local function literal(text, from)
  local stop = from
  for _ = 1, 60 do
    stop = text:find("\n", stop, true) or #text + 1
    local expression = text:sub(from, stop - 1)
    local chunk = load("return " .. expression, "=head", "t", {})
    if chunk then
      if not is_literal(expression) then return nil end
      local ok, value = pcall(chunk)
      return ok and value or nil
    end
    if stop > #text then return nil end
    stop = stop + 1
  end
end

--- Read the head of a text.
---@param text string
---@return {description: string?, usage: string?, needs: table?, options: table?,
---  main: boolean}
function head.parse(text)
  local found = {}
  text = "\n" .. text
  for _, field in ipairs(FIELDS) do
    local _, last = text:find("\n" .. field .. "%s*=%s*")
    if last then found[field] = literal(text, last + 1) end
  end
  found.main = text:find "\nfunction%s+main%s*%(" ~= nil or text:find "\nmain%s*=" ~= nil
  if type(found.description) ~= "string" then found.description = nil end
  if type(found.usage) ~= "string" then found.usage = nil end
  if type(found.needs) ~= "table" then found.needs = nil end
  if type(found.options) ~= "table" then found.options = nil end
  return found
end

--- Read the head of a file; nil when it cannot be read.
---@param path string
function head.read(path)
  local text = core.read(path, MAX)
  return text and head.parse(text)
end

return head
