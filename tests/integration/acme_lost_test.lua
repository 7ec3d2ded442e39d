-- Every single answer of an issuance lost once: one order, one certificate.
local acme = require "acme"
local acme_proxy = require "acme_proxy"
local pebble = require "pebble"
local x509 = require "x509"

--- One issuance whose answer number `lose` is lost; whether there was such an answer.
local function issue_losing(t, proxy, front, lose)
  local name = ("lost%d.a.test"):format(lose)
  proxy.replies, proxy.lose = 0, lose
  local key, state = x509.key{}, t:tmpdir()
  local lost = #proxy.lost
  local function attempt()
    local account = acme.account{directory = front.directory, ca = front.ca, key = key,
      terms_agreed = true}
    return account:issue{names = {name}, state_dir = state, timeout = "30s",
      solver = acme.http01{listen = front.http01}}
  end
  local result, err = try(attempt)
  if not result and proxy.lose then
    t:equal(#proxy.lost, lost + 1, tostring(err))
    result = attempt()
  end
  local what = proxy.lost[lost + 1] or "nothing"
  t:equal(proxy:ordered(name), 1, what)
  t:equal(proxy:finalized(name), 1, what)
  assert(result.key:matches(result.chain[1]))
  return #proxy.lost > lost
end

test("any answer may be lost: one order, one certificate",
  {timeout = "120s", leaks = true}, function(t)
    local ca = pebble.start(t, {nonce_reject = 0, authz_reuse = 0})
    local proxy, front = acme_proxy.start(t, ca)
    local points = 0
    while issue_losing(t, proxy, front, points + 1) do points = points + 1 end
    assert(points >= 9, points .. " answers only")
    print(("%d answers lost, one by one; violations 0"):format(points))
  end)
