-- Error objects: kinds, fields, traces, try.
local errors = require "errors"
local args = require "args"
local task = require "task"

test("an error object prints as one line and keeps its fields", function(t)
  local err = errors.new{kind = "rate_limited", message = "too many orders", code = "X",
    status = 429, retry_after = 60, retryable = true, op = "newOrder"}
  t:equal(tostring(err), "newOrder: too many orders [rate_limited, X, 429]")
  t:equal({err.kind, err.retry_after, err.retryable}, {"rate_limited", 60, true})
  assert(err.where:find("errors_test.lua", 1, true), err.where)
end)

test("a cause is told after its effect", function(t)
  local cause = errors.new{kind = "dns", message = "no such name"}
  local err = errors.new{kind = "connect", message = "cannot reach the CA", cause = cause}
  t:equal(tostring(err), "cannot reach the CA [connect]; cause: no such name [dns]")
end)

test("an unknown kind is refused", function(t)
  t:raises(function() errors.new{kind = "oops", message = "x"} end, nil, "oops")
end)

test("try returns values or nil and an error object", function(t)
  t:equal({try(function(a) return a, 2 end, 1)}, {1, 2})
  local value, err = try(error, "plain")
  t:equal(value, nil)
  t:equal({err.kind, err.message}, {"internal", "plain"})
  value, err = try(function() local x = nil return x.y end)
  t:equal(value, nil)
  assert(err.message:find("attempt to index a nil value"), err.message)
  assert(err.trace:find("errors_test.lua", 1, true), err.trace)
end)

test("values that are not strings survive as value", function(t)
  local _, err = try(error, {code = 5})
  t:equal(err.value, {code = 5})
end)

test("the trace crosses coroutines and names the spawn site", function()
  local _, err = try(function()
    local g <close> = task.group()
    g:spawn(function()
      coroutine.wrap(function() errors.raise("io", "deep inside") end)()
    end)
  end)
  assert(err.trace:find("resumed by", 1, true), err.trace)
  assert(err.trace:find("spawned at", 1, true), err.trace)
end)

test("the trace is kept on the way up", function(t)
  local _, err = try(function() errors.raise("io", "once") end)
  local trace = err.trace
  local _, again = try(error, err, 0)
  t:equal(rawequal(err, again), true)
  t:equal(again.trace, trace)
end)

local SPEC = {
  {name = "url", type = "string", required = true, nonempty = true, doc = "where to"},
  {name = "limit", type = "integer", positive = true, max = 10},
  {name = "timeout", type = "duration"},
  {name = "mode", type = "enum", choices = "fast|slow"},
  {name = "names", type = "list", choices = "string"},
}

local function refuses(t, options, pattern)
  t:raises(function() args.check("x.get", SPEC, options) end, "usage", pattern)
end

test("argument specs refuse with name, key, expected and given", function(t)
  refuses(t, {}, "x.get: url is missing: where to")
  refuses(t, {url = 1}, "url must be string, got number")
  refuses(t, {url = ""}, "url must be a string that is not empty")
  refuses(t, {url = "u", limit = 1.5}, "limit must be integer, got number")
  refuses(t, {url = "u", limit = 0}, "limit must be greater than 0, got 0")
  refuses(t, {url = "u", limit = 11}, "limit must be at most 10, got 11")
  refuses(t, {url = "u", timeout = "5 minutes"}, "timeout must be seconds or a duration")
  refuses(t, {url = "u", mode = "warp"}, "mode must be fast|slow, got warp")
  refuses(t, {url = "u", names = {"a", 2}}, "names must be a list of strings %(item 2%)")
  refuses(t, {url = "u", tiemout = 1}, "unknown option tiemout; did you mean timeout%?")
  refuses(t, {url = "u", frobnicate = 1}, "it takes: url, limit, timeout, mode, names")
  refuses(t, {"u"}, "options have names, got the position 1")
  refuses(t, "u", "takes one table of options, got string")
end)

test("argument specs accept what they describe", function(t)
  local given = {url = "u", limit = 10, timeout = "5m", mode = "fast", names = {"a"}}
  t:equal(args.check("x.get", SPEC, given), given)
  t:equal(args.duration("1h30m"), 5400)
  t:equal(args.duration(2.5), 2.5)
end)
