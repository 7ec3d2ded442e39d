description = "Enrol a certificate that does not stand in the estate file."
usage = [[
secrun enroll --product NAME [--org NAME] [--name NAME] [--term DAYS] [--key-type TYPE]
       [--dir FOLDER] [--wait D] DOMAIN…
       The names of products: secrun enroll --products]]
needs = {}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
  {name = "product", type = "string", value = "NAME", doc = '"EV SSL"'},
  {name = "products", type = "flag", doc = "list the products"},
  {name = "org", type = "string", value = "NAME", doc = "an organization of the estate"},
  {name = "name", type = "string", value = "NAME", doc = "what to call it; the domain"},
  {name = "term", type = "integer", value = "DAYS", positive = true, doc = "by SCM"},
  {name = "key-type", type = "string", value = "TYPE", doc = "p256 by default"},
  {name = "dir", type = "string", value = "FOLDER", doc = "where it is installed"},
  {name = "channel", type = "string", value = "acme|scm", doc = "by the product"},
  {name = "wait", type = "duration", value = "D", doc = "10m by default"},
}

local cli = require "cli"
local estate = require "estate"
local fs = require "fs"
local products = require "products"
local renewal_run = require "renewal_run"
local textable = require "textable"

local function show_products()
  local rows = {}
  for i, product in ipairs(products.list()) do
    rows[i] = {product.name, product.level, product.channel, product.wildcard,
      product.names}
  end
  print(textable.format({"product", "level", "channel", "wildcards", "names"}, rows))
end

--- The only organization, when there is one.
local function only_org(e)
  local name = next(e.orgs or {})
  return name and next(e.orgs, name) == nil and name or nil
end

function main(words)
  local opts, domains = require("options").parse(words, options)
  if opts.products then return show_products() end
  if #domains == 0 then cli.usage_error "give the domains, such as www.example.com" end
  if not opts.product then
    cli.usage_error "give --product; secrun enroll --products lists them"
  end
  local e = estate.load(estate.find(opts.config))
  local dir = opts.dir and (opts.dir:find("^/") and opts.dir
    or fs.realpath(".") .. "/" .. opts.dir)
  local certificate = estate.add(e, {name = opts.name or domains[1]:gsub("^%*%.", ""),
    domains = domains, product = opts.product, org = opts.org or only_org(e),
    term = opts.term, key_type = opts.key_type, channel = opts.channel,
    install = dir and {dir = dir}})
  local rows, status = renewal_run.go(e, {certificate}, {wait = opts.wait})
  print(renewal_run.table(rows))
  if status == 0 then print("installed to " .. certificate.install.dir) end
  return status
end
