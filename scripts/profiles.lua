description = "List the certificate profiles that an organization may order."
usage = "secrun profiles [--config FILE] [--org NAME] [--json]"
needs = {}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
  {name = "org", type = "string", value = "NAME", doc = "an organization of the estate"},
  {name = "json", type = "flag", doc = "as JSON"},
}

local cli = require "cli"
local estate = require "estate"
local sheet = require "sheet"

--- {RSA = {2048}, EC = {…}} as "EC 256, RSA 2048".
local function key_types(given)
  local list = {}
  for family, sizes in pairs(type(given) == "table" and given or {}) do
    for _, size in ipairs(sizes) do list[#list + 1] = ("%s %s"):format(family, size) end
  end
  table.sort(list)
  return table.concat(list, ", ")
end

function main(words)
  local opts, rest = require("options").parse(words, options)
  if rest[1] then cli.usage_error(("profiles takes no names, got %q"):format(rest[1])) end
  local e, rows = estate.load(estate.find(opts.config)), {}
  for _, login in ipairs(estate.scm_logins(e)) do
    if not opts.org or login.org == opts.org then
      local connection = estate.scm(e, login.org ~= "(all)" and login.org or nil)
      for _, profile in ipairs(connection.ssl:profiles{org = login.settings.org}) do
        rows[#rows + 1] = {login = login.org, id = profile.id, profile = profile.name,
          terms = table.concat(profile.terms or {}, " "),
          keys = key_types(profile.keyTypes)}
      end
    end
  end
  if opts.org then estate.scm(e, opts.org) end -- raises for one that there is not
  print(sheet.format(rows, {"login", "id", "profile", "terms", "keys"},
    {json = opts.json}))
end
