-- Every single answer of a renewal lost once: one order, one certificate.
local acme_proxy = require "acme_proxy"
local deploy = require "deploy"
local estate_home = require "estate_home"
local pebble = require "pebble"

--- One renewal whose answer number `lose` is lost; what that answer was to, or nil.
local function renew_losing(t, proxy, front, lose)
  local name = ("lost%d.a.test"):format(lose)
  local home = estate_home.new(t, front,
    ('{name = "www", domains = {%q}, install = {dir = "HOME/www"}}'):format(name))
  local lost = #proxy.lost
  proxy.replies, proxy.lose = 0, lose
  local result = estate_home.renew(home)
  if result.status ~= 0 and #proxy.lost > lost then result = estate_home.renew(home) end
  local what = proxy.lost[lost + 1]
  estate_home.expect(result, 0, "www +renewed")
  t:equal(proxy:ordered(name), 1, what)
  t:equal(proxy:finalized(name), 1, what)
  t:equal(deploy.current(home .. "/www").matches, true, what)
  return what
end

test("any answer may be lost: one order, one certificate",
  {timeout = "120s", leaks = true}, function(t)
    local ca = pebble.start(t, {nonce_reject = 0, authz_reuse = 0})
    local proxy, front = acme_proxy.start(t, ca)
    local points = 0
    while renew_losing(t, proxy, front, points + 1) do points = points + 1 end
    assert(points >= 9, points .. " answers only")
    print(("answers lost, one by one: %d, violations 0"):format(points))
  end)
