--- Which names may stand in a certificate.
--- Source: CA/Browser Forum Baseline Requirements 7.1.4.2 (no internal names), RFC 6761.

description = "Names that a public certificate may carry, and how many."
applies = {"enroll", "renew"}

local MOST_NAMES = 100
local INTERNAL = {"localhost", "local", "internal", "lan", "home.arpa", "test", "invalid",
  "example", "corp", "intranet"}

-- A test estate may name a suffix of its own with allow_internal = {"test"}.
local function excepted(r, domain)
  for _, one in ipairs(r.allow_internal or {}) do
    if one == domain then return true end
  end
  return false
end

function check(r)
  if #r.names == 0 then return deny("there is no name") end
  if #r.names > MOST_NAMES then
    return deny("%d names; at most %d go into one certificate", #r.names, MOST_NAMES)
  end
  for _, name in ipairs(r.names) do
    local base = name:gsub("^%*%.", "")
    if not base:find(".", 1, true) then return deny("%s is not a full name", name) end
    for _, domain in ipairs(INTERNAL) do
      if suffix(domain, base) and not excepted(r, domain) then
        return deny("%s is an internal name (.%s), which no public CA certifies",
          name, domain)
      end
    end
    if glob("*.*.*.*.*.*.*.*.*.*.*", name) then
      return deny("%s is more than ten labels deep", name)
    end
  end
  return allow()
end

tests = {
  {given = {names = {"www.example.com", "example.com"}}, expect = "allow"},
  {given = {names = {"*.example.com"}}, expect = "allow"},
  {given = {names = {"db.internal"}}, expect = "deny"},
  {given = {names = {"www.demo.test"}, allow_internal = {"test"}}, expect = "allow"},
  {given = {names = {}}, expect = "deny"},
}
