-- Edge cases of alternate chains, against the CA of acme_ca.lua.

local fake = require "acme_ca"
local x509 = require "x509"

--- A CA that offers its leaf under "Test Root", and by alternates under others: an
--- intermediate of the same key that `Root A` has signed, and one that `Root B` has.
local function start(t, hooks)
  local ca = fake.start(t, hooks)
  local alternates = {}
  for _, name in ipairs{"Root A", "Root B"} do
    local key = x509.key{}
    local root = x509.sign{key = key, subject = {CN = name}, is_ca = true, days = 3650}
    alternates[#alternates + 1] = {name = name, root = root,
      cross = x509.sign{issuer = root, issuer_key = key, public_key = ca.root_key,
        subject = {CN = "Test Root"}, is_ca = true, days = 3650}}
  end
  ca.alternates = alternates
  ca.hooks.certificate = function(act, _, request)
    local id, which = request.params.id:match("^(%d+)%-?(%d*)$")
    request.params.id = id
    local reply = act()
    local other = alternates[tonumber(which)]
    if other then
      local leaf = x509.read(reply.body):pem()
      reply.body = leaf .. other.cross:pem() .. other.root:pem()
    else
      local base = ca.url .. "/certificate/" .. id
      reply.headers["Link"] = ("<%s-1>;rel=\"alternate\", <%s-2>; rel=alternate"):format(
        base, base)
    end
    return reply
  end
  return ca
end

local function issue(t, ca, prefer)
  local result = ca:account():issue{names = {"a.test"}, solver = fake.solver(),
    state_dir = t:tmpdir(), prefer_chain = prefer}
  return result.chain[#result.chain].subject.CN
end

test("without a wish the CA's own chain is taken and no alternate fetched", function(t)
  local ca = start(t)
  t:equal({issue(t, ca), ca.calls.certificate}, {"Test Root", 1})
end)

test("a chain by the common name of its topmost issuer", function(t)
  local ca = start(t)
  t:equal(issue(t, ca, {issuer = "Root A"}), "Root A")
  t:equal(ca.calls.certificate, 2, "the second alternate is not needed")
  t:equal(issue(t, ca, {issuer = "Root B"}), "Root B")
  t:equal(issue(t, ca, {issuer = "Test Root"}), "Test Root")
end)

test("a chain by the fingerprint of a CA certificate in it", function(t)
  local ca = start(t)
  local sha256 = ca.alternates[2].root.sha256
  t:equal(issue(t, ca, {fingerprint = sha256:upper():gsub("(..)", "%1:", 31)}), "Root B")
end)

test("a chain by the authority key identifier of one of its certificates", function(t)
  local ca = start(t)
  local aki = ca.alternates[2].cross.aki
  t:equal(issue(t, ca, {aki = aki:upper()}), "Root B")
end)

test("when no chain fits the CA's own is taken", function(t)
  local ca = start(t)
  t:equal(issue(t, ca, {issuer = "Root C"}), "Test Root")
  t:equal(ca.calls.certificate, 3)
end)

test("a wish that is none is refused before anything is ordered", function(t)
  local ca = start(t)
  local a = ca:account()
  local function refused(prefer, pattern)
    t:raises(function()
      a:issue{names = {"a.test"}, solver = fake.solver(), state_dir = t:tmpdir(),
        prefer_chain = prefer}
    end, "usage", pattern)
  end
  refused({}, "give one of")
  refused({issuer = "a", aki = "b"}, "give one of")
  refused({isuer = "a"}, "issuer")
  t:equal(ca.calls.order, nil)
end)
