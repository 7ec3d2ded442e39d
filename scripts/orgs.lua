description = "List SCM's organizations and departments, per login of the estate."
usage = "secrun orgs [--config FILE] [--json]"
needs = {}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
  {name = "json", type = "flag", doc = "as JSON"},
}

local cli = require "cli"
local estate = require "estate"
local sheet = require "sheet"

--- One row an organization, and one each of its departments.
local function add(rows, login, org)
  rows[#rows + 1] = {login = login, id = org.id, organization = org.name,
    types = table.concat(org.certTypes or {}, " ")}
  for _, department in ipairs(org.departments or {}) do
    rows[#rows + 1] = {login = login, id = department.id,
      organization = org.name .. "/" .. department.name,
      types = table.concat(department.certTypes or {}, " ")}
  end
end

function main(words)
  local opts, rest = require("options").parse(words, options)
  if rest[1] then cli.usage_error(("orgs takes no names, got %q"):format(rest[1])) end
  local e, rows = estate.load(estate.find(opts.config)), {}
  for _, login in ipairs(estate.scm_logins(e)) do
    local connection = estate.scm(e, login.org ~= "(all)" and login.org or nil)
    for org in connection.organization:list() do add(rows, login.org, org) end
  end
  print(sheet.format(rows, {"login", "id", "organization", "types"}, {json = opts.json}))
end
