-- SCM in the estate file: each mistake with its place, secrets as references only, the face
-- told by `secrun check`, a login of its own for approvals.
local estate = require "estate"
local fake = require "scm_fake"
local fs = require "fs"
local json = require "json"
local program = require "program"

local HEAD = [[
acme = {directory = "https://ca.example/dir"}
challenge = {webroot = "/"}
certificates = {{name = "www", domains = {"www.example.com"}, org = "corp"}}
]]

local function written(t, text)
  local home = t:tmpdir()
  fs.write(home .. "/estate.lua", HEAD .. ('state = "%s"\n'):format(home)
    .. text:gsub("HOME", home))
  return home .. "/estate.lua"
end

local function mistakes(t, text, ...)
  local path = written(t, text)
  local err = t:raises(function() estate.load(path) end, "usage", "ESTATE")
  local all = table.concat(err.details or {err.message}, "\n")
  for _, pattern in ipairs{...} do assert(all:find(pattern), all) end
end

test("a login may be wrong in many ways, each with place and mend", function(t)
  mistakes(t, [[orgs = {corp = {scm = {login = "a", password = "plain"}}}]],
    "orgs%.corp%.scm: password is secret", "orgs%.corp%.scm: customer_uri is missing")
  mistakes(t, [[orgs = {corp = {scm = {customer_uri = "x", login = "a",
    password = secret "env:A", url = "http://scm.example"}}}]], "https is needed")
  mistakes(t, [[scm = {oauth = {client_id = "c", client_secret = "s"}}]],
    "oauth%.client_secret is secret")
  mistakes(t, [[scm = {customer_uri = "x", login = "a", password = secret "env:A",
    products = {["EV SSSL"] = "x"}}
    orgs = {corp = {}}]], 'scm: products: product "EV SSSL".*did you mean "EV SSL"')
  mistakes(t, [[orgs = {corp = {scm = {customer_url = "x"}}}]],
    "orgs%.corp%.scm: unknown option customer_url; did you mean customer_uri")
  mistakes(t, [[orgs = {corp = {scm = {customer_uri = "x", login = "a",
    password = secret "env:A", approver = {login = "b", password = "p"}}}}]],
    "orgs%.corp%.scm%.approver: password is secret")
end)

test("check says which face each organization uses, and what is missing", function(t)
  local path = written(t, [[
scm = {oauth = {client_id = "abc", client_secret = secret "file:HOME/none"}}
orgs = {corp = {scm = {customer_uri = "example", login = "enroller",
  cert = "HOME/c.pem", key = "HOME/k.pem", approver = {login = "boss",
  password = secret "file:HOME/boss"}}}}]])
  local result = program.run{"check", "--config", path}
  local text = result.stdout .. result.stderr
  for _, wanted in ipairs{
    "admin face (oauth), client abc at https://admin.enterprise.sectigo.com",
    "classic face (certificate), login enroller at https://cert-manager.com", "boss",
    "missing here: scm.oauth.client_secret", "missing here: orgs.corp.scm.cert",
    "missing here: orgs.corp.scm.approver.password"} do
    assert(text:find(wanted, 1, true), text)
  end
  t:equal(result.status, 1)
end)

test("connections are made with the organization's login, approvals with the second",
  function(t)
    local server = fake.start(t, {["GET /api/organization/v1"] = function()
      return json.array{}
    end})
    local path = written(t, ([[
scm = {url = "%s", customer_uri = "all", login = "common",
  password = secret "file:HOME/p"}
orgs = {corp = {scm = {url = "%s", customer_uri = "example", login = "enroller",
  password = secret "file:HOME/p", approver = {login = "boss",
  password = secret "file:HOME/q"}}}, other = {}}]]):format(server.url, server.url))
    local folder = path:match "^(.*)/"
    fs.write(folder .. "/p", "canary-one", {mode = "0600"})
    fs.write(folder .. "/q", "canary-two", {mode = "0600"})
    local e = estate.load(path)
    local function who(org, as)
      estate.scm(e, org, as):call("organization.list")
      local asked = server.asked[#server.asked]
      return asked.headers["login"] .. " " .. asked.headers["password"]
    end
    t:equal(who("corp"), "enroller canary-one")
    t:equal(who("corp", "approver"), "boss canary-two")
    t:equal(who("other"), "common canary-one")
    t:raises(function() who("other", "approver") end, "usage", "no approver")
    e.scm = nil
    t:raises(function() who("other") end, "usage", "no scm for orgs.other")
  end)
