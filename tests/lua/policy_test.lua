-- Policies: the shipped ones by their own tests, composition, enforcement.
local cage = require "cage"
local fs = require "fs"
local policy = require "policy"
local shipped = require "shipped"

local REQUEST = {action = "renew", name = "www", names = {"www.example.com"},
  key_type = "p256"}

for _, name in ipairs{"keys", "names"} do
  test("the shipped policy " .. name .. " passes the tests at its foot", function(t)
    local path = shipped.folder("policies") .. "/" .. name .. ".lua"
    local rules <close> = cage.new{text = fs.read(path), name = path, what = "policy"}
    local cases = rules:get("tests")
    assert(#cases >= 4)
    for i, case in ipairs(cases) do
      t:equal(rules:call("check", case.given).verdict, case.expect, name .. " case " .. i)
    end
  end)
end

local function write(t, text)
  local path = t:tmpdir() .. "/rule.lua"
  fs.write(path, text)
  return path
end

test("the most restrictive answer wins and names its line", function(t)
  local path = write(t, 'function check(r)\n  return deny("not %s", r.name)\nend\n')
  local decision = policy.ask({"keys", path, "names"}, REQUEST)
  t:equal({decision.verdict, decision.reason, decision.policy}, {"deny", "not www", path})
  t:equal(decision.rule, path .. ":2")
  local err = t:raises(function() policy.enforce(decision, "www") end, "denied", "POLICY")
  assert(err.message:find(path .. ":2", 1, true), err.message)
end)

test("a policy that does not apply is not asked", function(t)
  local path = write(t, 'applies = {"revoke"}\nfunction check() return deny("no") end\n')
  t:equal(policy.ask({path}, REQUEST).verdict, "allow")
end)

test("need_approval does not pass", function(t)
  local path = write(t, 'function check() return need_approval("two people") end\n')
  t:raises(function() policy.enforce(policy.ask({path}, REQUEST), "www") end, "denied",
    "wants an approval")
end)

test("a policy that forgets to answer, fails or loops allows nothing", function(t)
  t:raises(function() policy.ask({write(t, "function check() end")}, REQUEST) end,
    "usage", "must return allow")
  t:raises(function()
    policy.ask({write(t, "function check(r) return r.x.y end")}, REQUEST)
  end, "usage", "rule.lua:1")
  t:raises(function()
    policy.ask({write(t, "function check() while true do end end")}, REQUEST)
  end, "limit", "longer than")
  t:raises(function() policy.ask({"no_such_policy"}, REQUEST) end, "usage",
    "no_such_policy")
end)

test("a policy cannot change the request for the next one", function(t)
  local first = write(t, 'function check(r) r.key_type = "rsa1024" return allow() end')
  t:equal(policy.ask({first, "keys"}, REQUEST).verdict, "allow")
  t:equal(REQUEST.key_type, "p256")
end)
