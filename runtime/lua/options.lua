--- Options of a script, as people type them.
--
--     local options, words = options.parse(args, {
--       {name = "dry-run", type = "flag", doc = "say what would be done"},
--       {name = "config", type = "string", value = "FILE", doc = "estate file"},
--     })

local args = require "args"
local errors = require "errors"

local options = {}

--- A wrong command line: exit status 2, no trace.
local function refuse(format, ...)
  errors.raise("usage", format:format(...), {code = "COMMAND_LINE"})
end

local function names_of(spec)
  local names = {}
  for i, option in ipairs(spec) do names[i] = "--" .. option.name end
  return names
end

local function find(spec, name)
  for _, option in ipairs(spec) do
    if option.name == name then return option end
  end
  local close = args.suggest("--" .. name, names_of(spec))
  if close then refuse("unknown option --%s; did you mean %s?", name, close) end
  local known = #spec > 0 and "it takes: " .. table.concat(names_of(spec), ", ")
    or "it takes none"
  refuse("unknown option --%s; %s", name, known)
end

local convert = {}

function convert.string(_, text) return text end

function convert.integer(option, text)
  local n = math.tointeger(tonumber(text))
  if not n or option.positive and n < 1 then
    refuse("--%s needs a whole number%s, got %q", option.name,
      option.positive and ", at least 1" or "", text)
  end
  return n
end

function convert.duration(option, text)
  local ok, seconds = pcall(args.duration, tonumber(text) or text)
  if not ok then
    refuse("--%s needs a duration such as 90s, 10m or 30d, got %q", option.name, text)
  end
  return seconds
end

--- Split words into options and the rest. "--name=value" and "--name value" are the same;
--- "--" ends the options. Keys of the result have "_" for "-".
---@param words string[]
---@param spec {name: string, type: "flag"|"string"|"integer"|"duration", doc: string,
---  value: string?, positive: boolean?}[]
---@return table<string, any> options
---@return string[] rest
function options.parse(words, spec)
  local found, rest = {}, {}
  local i = 1
  while words[i] do
    local word = words[i]
    local name, value = word:match("^%-%-([%w-]+)=?(.*)$")
    if word == "--" then
      table.move(words, i + 1, #words, #rest + 1, rest)
      break
    elseif name then
      local option = find(spec, name)
      local key, has_value = name:gsub("-", "_"), word:find("=", 1, true)
      if option.type == "flag" then
        if has_value then refuse("--%s takes no value", name) end
        found[key] = true
      else
        if not has_value then
          i = i + 1
          value = words[i]
        end
        if not value or value == "" then refuse("--%s needs a value", name) end
        found[key] = convert[option.type](option, value)
      end
    elseif word:find("^%-.") then
      refuse("unknown option %s; options are written --name", word)
    else
      rest[#rest + 1] = word
    end
    i = i + 1
  end
  return found, rest
end

--- One line an option, for --help.
function options.help(spec)
  local lines = {}
  for i, option in ipairs(spec) do
    local shown = "--" .. tostring(option.name)
    if option.type ~= "flag" then shown = shown .. " " .. (option.value or "VALUE") end
    lines[i] = ("  %-22s %s"):format(shown, option.doc or "")
  end
  return table.concat(lines, "\n")
end

return options
