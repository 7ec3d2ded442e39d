--- Products: what each certificate of the catalogue is, and what the day allows.
--
--     local products = require "products"
--     local p = products.check{product = "EV SSL", names = {"www.example.com"}, term = 199}
--     p.level, p.channel                            -- "EV", "scm"
--     products.limits(time.now()).order_term        -- days to order today
--
-- Public certificates live ever shorter (CA/B Forum ballot SC-081v3): the table of dates
-- is here, so that a term that the day no longer allows is named before SCM refuses it.

local args = require "args"
local errors = require "errors"
local time = require "time"

local products = {}

---@class products.Product
---@field name string
---@field level "DV"|"OV"|"EV" validation
---@field wildcard "never"|"allowed"|"only"
---@field names "one"|"www"|"base"|"many" one name; with its www; a wildcard with its base
---@field max_names integer? of "many"; resellers and profiles differ
---@field channel "acme"|"scm" by default; an organization may choose

---@type products.Product[]
local CATALOGUE = {
  {name = "PositiveSSL", level = "DV", wildcard = "never", names = "www",
    channel = "acme"},
  {name = "PositiveSSL Wildcard", level = "DV", wildcard = "only", names = "base",
    channel = "acme"},
  {name = "PositiveSSL Multi-Domain", level = "DV", wildcard = "allowed", names = "many",
    max_names = 250, channel = "acme"},
  {name = "InstantSSL", level = "OV", wildcard = "never", names = "one", channel = "scm"},
  {name = "InstantSSL Pro", level = "OV", wildcard = "never", names = "one",
    channel = "scm"},
  {name = "InstantSSL Premium Wildcard", level = "OV", wildcard = "only", names = "base",
    channel = "scm"},
  {name = "EV SSL", level = "EV", wildcard = "never", names = "one", channel = "scm"},
  {name = "EV Multi-Domain", level = "EV", wildcard = "never", names = "many",
    max_names = 250, channel = "scm"},
}

-------------------------------------------------------------------- the schedule

-- From when: the longest life of a certificate, how long a domain's validation and an
-- organization's data may be used again (days), and the term to order, a day less.
local SCHEDULE = {
  {from = 0, max_term = 398, order_term = 397, dcv_reuse = 398, data_reuse = 825},
  {from = "2026-03-15", max_term = 200, order_term = 199, dcv_reuse = 200,
    data_reuse = 398},
  {from = "2027-03-15", max_term = 100, order_term = 99, dcv_reuse = 100,
    data_reuse = 398},
  {from = "2029-03-15", max_term = 47, order_term = 46, dcv_reuse = 10, data_reuse = 398},
}
for _, row in ipairs(SCHEDULE) do
  row.since = row.from == 0 and 0 or time.parse(row.from .. "T00:00:00Z")
end

--- What holds for public certificates issued at an instant.
---@param at number? UTC seconds (now)
---@return {max_term: integer, order_term: integer, dcv_reuse: integer,
---  data_reuse: integer, from: string|integer, since: number}
function products.limits(at)
  at = at or time.now()
  local found
  for _, row in ipairs(SCHEDULE) do
    if at >= row.since then found = row end
  end
  local copy = {}
  for key, value in pairs(found) do copy[key] = value end
  return copy
end

-------------------------------------------------------------------- the catalogue

local function copy_of(product)
  local copy = {}
  for key, value in pairs(product) do copy[key] = value end
  return copy
end

--- The whole catalogue.
---@return products.Product[]
function products.list()
  local all = {}
  for i, product in ipairs(CATALOGUE) do all[i] = copy_of(product) end
  return all
end

--- A product by name, in any case. Raises usage with a suggestion.
---@param name string
---@return products.Product
function products.get(name)
  local names = {}
  name = tostring(name)
  for i, product in ipairs(CATALOGUE) do
    if product.name:lower() == name:lower() then return copy_of(product) end
    names[i] = product.name
  end
  local close = args.suggest(name, names)
  errors.raise("usage", ("product %q is not in the catalogue%s"):format(name, close
    and ("; did you mean %q?"):format(close) or "; it has " .. table.concat(names, ", ")),
    {code = "UNKNOWN_PRODUCT"})
end

--- The name of a product's SCM profile: what the organization maps it to, else its own.
---@param product string
---@param map table<string, string>? product → profile
---@return string
function products.profile(product, map)
  local known = products.get(product)
  return map and (map[known.name] or map[product]) or known.name
end

-------------------------------------------------------------------- checking

local function refuse(code, text, ...)
  errors.raise("usage", text:format(...), {code = code})
end

local function is_address(name)
  return name:find(":", 1, true) ~= nil or name:find "^%d+%.%d+%.%d+%.%d+$" ~= nil
end

--- Whether the others are the one name's company: its www, a wildcard's base.
local function company(product, names)
  if #names ~= 2 then return false end
  local a, b = names[1], names[2]
  if product.names == "www" then return a == "www." .. b or b == "www." .. a end
  return product.names == "base" and (a == "*." .. b or b == "*." .. a)
end

local WANTED = {
  one = "one name", www = "one name, and www. before it",
  base = "one wildcard, and the domain below it",
}

local function check_count(product, names, max)
  if #names == 0 then refuse("NO_NAMES", "%s: no names", product.name) end
  if product.names == "many" then
    local most = max or product.max_names
    if #names > most then
      refuse("TOO_MANY_NAMES", "%s: %d names; it holds %d", product.name, #names, most)
    end
  elseif #names > 1 and not company(product, names) then
    refuse("TOO_MANY_NAMES", "%s holds %s, not %d (%s); take the multi-domain product or "
      .. "order several", product.name, WANTED[product.names], #names,
      table.concat(names, ", ", 1, math.min(#names, 4)))
  end
end

local function check_kinds(product, names)
  local wild, wild_only = nil, product.wildcard == "only"
  for _, name in ipairs(names) do
    local star = name:find "^%*%."
    wild = wild or star
    if star and product.wildcard == "never" then
      refuse("NO_WILDCARD", product.level == "EV"
        and "%s: %s: an EV certificate never has a wildcard; take an OV or DV product"
        or "%s: %s: the product has no wildcards; take a wildcard product", product.name,
        name)
    elseif name:find("*", 1, true) and not name:find "^%*%.[^*]+$" then
      refuse("BAD_NAME", "%s: %s: a wildcard is a whole first label, *.example.com",
        product.name, name)
    elseif is_address(name) and (product.level == "EV" or wild_only) then
      refuse("BAD_NAME", "%s: %s: the product holds no addresses", product.name, name)
    end
  end
  if wild_only and not wild then
    refuse("NO_WILDCARD", "%s is for a wildcard, *.%s; %s is none", product.name,
      names[1], names[1])
  end
end

local function check_term(product, term, at)
  local limits = products.limits(at)
  if term <= limits.max_term then return end
  refuse("TERM_TOO_LONG", "%s: a term of %d days; since %s public certificates last %d "
    .. "days at most, order %d", product.name, term,
    limits.from == 0 and "2020-09-01" or limits.from, limits.max_term, limits.order_term)
end

local CHECK = {
  {name = "product", type = "string", required = true, nonempty = true},
  {name = "names", type = "list", choices = "string", doc = "of the certificate"},
  {name = "term", type = "integer", positive = true, doc = "days"},
  {name = "at", type = "number", doc = "when it is issued, UTC seconds (now)"},
  {name = "max_names", type = "integer", positive = true, doc = "of the profile"},
}

--- Check names and term against the product and the day; the product. Raises usage with
--- the mend: too many names, wildcards where none may be, a term the day does not allow.
---@param options {product: string, names: string[]?, term: integer?, at: number?,
---  max_names: integer?}
---@return products.Product
function products.check(options)
  options = args.check("products.check", CHECK, options)
  local product = products.get(options.product)
  if options.names then
    local names = {}
    for i, name in ipairs(options.names) do names[i] = name:lower() end
    check_kinds(product, names)
    check_count(product, names, options.max_names)
  end
  if options.term then check_term(product, options.term, options.at) end
  return product
end

return products
