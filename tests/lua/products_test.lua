-- The catalogue: what a product holds, and what the day still allows.
local products = require "products"
local time = require "time"

local function refuses(t, pattern, options, code)
  local err = t:raises(function() products.check(options) end, "usage", pattern)
  if code then t:equal(err.code, code) end
end

test("the seed's catalogue, with level, wildcard and channel", function(t)
  local levels = {}
  for _, p in ipairs(products.list()) do
    levels[p.name] = ("%s %s %s"):format(p.level, p.wildcard, p.channel)
  end
  t:equal(levels, {
    ["PositiveSSL"] = "DV never acme", ["PositiveSSL Wildcard"] = "DV only acme",
    ["PositiveSSL Multi-Domain"] = "DV allowed acme", ["InstantSSL"] = "OV never scm",
    ["InstantSSL Pro"] = "OV never scm", ["InstantSSL Premium Wildcard"] = "OV only scm",
    ["EV SSL"] = "EV never scm", ["EV Multi-Domain"] = "EV never scm"})
  t:equal(products.get("ev ssl").name, "EV SSL")
  t:raises(function() products.get "PositivSSL" end, "usage",
    'did you mean "PositiveSSL"')
  products.get("EV SSL").level = "DV"
  t:equal(products.get("EV SSL").level, "EV")
end)

test("names that a product can hold, and those it cannot", function(t)
  local function holds(product, ...)
    products.check{product = product, names = {...}}
  end
  holds("PositiveSSL", "a.test")
  holds("PositiveSSL", "a.test", "www.a.test")
  holds("PositiveSSL Wildcard", "*.a.test", "a.test")
  holds("PositiveSSL Multi-Domain", "*.a.test", "b.test", "192.0.2.1")
  holds("EV Multi-Domain", "a.test", "b.test")
  refuses(t, "holds one name, and www. before it, not 2",
    {product = "PositiveSSL", names = {"a.test", "b.test"}}, "TOO_MANY_NAMES")
  refuses(t, "order several", {product = "InstantSSL", names = {"a.test", "www.a.test"}})
  refuses(t, "never has a wildcard", {product = "EV SSL", names = {"*.a.test"}},
    "NO_WILDCARD")
  refuses(t, "never has a wildcard",
    {product = "EV Multi-Domain", names = {"a.test", "*.b.test"}})
  refuses(t, "take a wildcard product",
    {product = "InstantSSL Pro", names = {"*.a.test"}})
  refuses(t, "is for a wildcard", {product = "PositiveSSL Wildcard", names = {"a.test"}})
  refuses(t, "not 3", {product = "InstantSSL Premium Wildcard",
    names = {"*.a.test", "a.test", "b.test"}})
  refuses(t, "whole first label", {product = "PositiveSSL Multi-Domain",
    names = {"a*.test"}})
  refuses(t, "no addresses", {product = "EV SSL", names = {"2001:db8::1"}})
  refuses(t, "no names", {product = "EV SSL", names = {}})
  local many = {}
  for i = 1, 251 do many[i] = ("n%d.test"):format(i) end
  refuses(t, "251 names; it holds 250", {product = "EV Multi-Domain", names = many})
  refuses(t, "it holds 100", {product = "EV Multi-Domain", names = many, max_names = 100})
  products.check{product = "EV Multi-Domain", names = many, max_names = 300}
end)

test("a term that the day no longer allows is named, with the one to order", function(t)
  local function term(days, day)
    return {product = "EV SSL", term = days, at = time.parse(day)}
  end
  products.check(term(398, "2026-03-14T23:59:59Z"))
  refuses(t, "since 2026%-03%-15 .* 200 days at most, order 199",
    term(398, "2026-03-15T00:00:00Z"), "TERM_TOO_LONG")
  products.check(term(200, "2027-03-14T23:59:59Z"))
  refuses(t, "100 days at most, order 99", term(199, "2027-03-15T00:00:00Z"))
  refuses(t, "47 days at most, order 46", term(99, "2029-03-15T00:00:00Z"))
  refuses(t, "398 days at most, order 397", term(825, "2025-01-01T00:00:00Z"))
end)

test("today's limits come from the clock", {clock = "virtual"}, function(t)
  time.advance(time.parse "2029-06-01T00:00:00Z" - time.now())
  t:equal(products.limits().dcv_reuse, 10)
  refuses(t, "order 46", {product = "PositiveSSL", term = 199})
end)

test("an organization may map a product to a profile of its own", function(t)
  t:equal(products.profile "EV SSL", "EV SSL")
  t:equal(products.profile("ev ssl", {["EV SSL"] = "Example EV Anchor"}),
    "Example EV Anchor")
  t:raises(function() products.profile("EV SSSL", {}) end, "usage", "did you mean")
end)
