-- Lists of any length are complete, in order, each entry once, in both styles of paging.
local fake = require "scm_fake"
local json = require "json"

--- Entries 1 to n as SCM gives them.
local function entries(n)
  local all = {}
  for i = 1, n do all[i] = {sslId = i} end
  return all
end

local function slice(all, from, size)
  local part = {}
  for i = from + 1, math.min(from + size, #all) do part[#part + 1] = all[i] end
  return part
end

--- A list server. options: all, cap (the most per page), silent (no X-Total-Count),
--- before(n): called before page n.
local function serve(t, options)
  local function answer(request, n)
    if options.before then options.before(n) end
    local size = math.min(tonumber(request.query.size), options.cap or 200)
    local from = tonumber(request.query.position or request.query.page * size)
    local part = slice(options.all, from, size)
    if options.wrap then
      return fake.json{total = #options.all, data = json.array(part)}
    end
    return options.silent and fake.json(json.array(part)) or fake.list(part, #options.all)
  end
  local server = fake.start(t, {["GET /api/ssl/v1"] = answer,
    ["GET /api/profile/v1"] = answer,
    ["GET /api/discovery/v1/{type}/{id}/operation"] = answer})
  return server, server:connect()
end

local function ids(list)
  local seen = {}
  for entry in list do seen[#seen + 1] = entry.sslId end
  return seen
end

local function count_to(n)
  local all = {}
  for i = 1, n do all[i] = i end
  return all
end

test("every length around the page's edge, with a total and without", function(t)
  for _, silent in ipairs{false, true} do
    for n = 0, 7 do
      local server, c = serve(t, {all = entries(n), silent = silent})
      t:equal(ids(c:list("ssl.list", {size = 3})), count_to(n))
      local pages = silent and n // 3 + 1 or math.max(1, -(-n // 3))
      t:equal(#server.asked, pages, ("%d entries, silent %s"):format(n, silent))
    end
  end
end)

test("pages are asked for by position, with the filter and the largest size", function(t)
  local server, c = serve(t, {all = entries(450)})
  local list = c.ssl:list{status = "Issued", order = nil}
  t:equal(#ids(list), 450)
  t:equal(list.total, 450)
  t:equal(tostring(list), "scm.list ssl.list: 450 read of 450")
  for i, position in ipairs{"0", "200", "400"} do
    t:equal(server.asked[i].query.position, position)
    t:equal(server.asked[i].query.size, "200")
    t:equal(server.asked[i].query.status, "Issued")
  end
end)

test("a server that gives less than was asked for loses nothing", function(t)
  local _, c = serve(t, {all = entries(23), cap = 5})
  t:equal(ids(c:list "ssl.list"), count_to(23))
end)

test("the new style counts pages, also where they are smaller", function(t)
  for n = 0, 9 do
    local server, c = serve(t, {all = entries(n), cap = 4})
    t:equal(ids(c:list("profile.list", {size = 3})), count_to(n))
    if n > 0 then t:equal(server.asked[1].query.page, "0") end
    t:equal(ids(c:list("profile.list", {size = 10})), count_to(n))
  end
end)

test("an object with the list in it, and lists that are not paged", function(t)
  local _, c = serve(t, {all = entries(7), wrap = true})
  t:equal(ids(c.discovery:list_operations{type = "net_task", taskId = 3, size = 3}),
    count_to(7))
  local server = fake.start(t, {["GET /api/organization/v1"] = function()
    return json.array(entries(500))
  end})
  t:equal(#server:connect().organization:list():all(), 500)
  t:equal(server.asked[1].query.size, nil)
end)

test("entries that vanish in front do not hide those behind", function(t)
  local options = {all = entries(10)}
  function options.before(n)
    if n == 3 then
      table.remove(options.all, 1)
      table.remove(options.all, 1)
    end
  end
  local _, c = serve(t, options)
  t:equal(ids(c:list("ssl.list", {size = 3})), count_to(10))
end)

test("entries that appear in front are not given twice at an edge", function(t)
  local options = {all = entries(9)}
  function options.before(n)
    if n == 2 then table.insert(options.all, 1, {sslId = 100}) end
  end
  local _, c = serve(t, options)
  t:equal(ids(c:list("ssl.list", {size = 3})), count_to(9))
end)

test("a list ends early, begins late, goes on after an error", function(t)
  local options = {all = entries(10)}
  local server, c = serve(t, options)
  t:equal(ids(c:list("ssl.list", {limit = 4})), count_to(4))
  t:equal(server.asked[1].query.size, "4")
  t:equal(ids(c:list("ssl.list", {position = 8, size = 3})), {9, 10})
  local list = c:list("ssl.list", {size = 5}, {retries = 0})
  for i = 1, 5 do t:equal(list().sslId, i) end
  function options.before() error("down", 0) end
  t:raises(list.next and function() list:next() end, "http", "500")
  options.before = nil
  t:equal(list().sslId, 6)
end)

test("a server that does not page is noticed", function(t)
  local server = fake.start(t, {["GET /api/ssl/v1"] = function(request)
    return json.array(entries(request.query.status and 3 or 7))
  end})
  local c = server:connect()
  t:equal(#c:list("ssl.list", {size = 3}):all(), 7)
  t:raises(function() c:list("ssl.list", {size = 3, status = "Issued"}):all() end,
    "protocol", "once more")
end)

test("sizes and names that cannot be are refused at once", function(t)
  local server, c = serve(t, {all = {}})
  local function refuses(pattern, name, parameters)
    t:raises(function() c:list(name, parameters) end, "usage", pattern)
  end
  refuses("from 1 to 200", "ssl.list", {size = 201})
  refuses("from 1 to", "ssl.list", {size = 0})
  refuses("position: expected", "ssl.list", {position = -1})
  refuses("not paged", "organization.list", {position = 5})
  refuses("commonName", "ssl.list", {comonName = "x"})
  t:equal(#server.asked, 0)
end)
