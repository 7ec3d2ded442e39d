--- c.organization: organizations and departments, by name.
--
--     local id = c.organization:id "Example Corp/IT"
--     for _, org in ipairs(c.organization:list():all()) do print(org.id, org.name) end

local scm_names = require "scm_names"

local organization = {}

--- The id of an organization or department: "Example Corp", "Example Corp/IT", "IT" where
--- no other has that name. Raises not_found with a suggestion, usage when several have it.
---@param name string|integer
---@return integer id
---@return string? path
function organization:id(name) return scm_names.organization(self.conn, name) end

return organization
