-- `secrun flow` as a person types it, with a server and without.
local fs = require "fs"
local home_of = require "serve_home"

local eventually = home_of.eventually

local LONG = {timeout = "90s"}
local GATE = [[
  {name = "gate", at = "@yearly", flow = "gate", input = {file = "HOME/marks"}},
  {name = "broken", at = "@yearly", flow = "broken"}]]

local function has(text, ...)
  for _, part in ipairs{...} do
    if not text:find(part, 1, true) then error(("no %q in\n%s"):format(part, text), 2) end
  end
end

--- The flow of that name, once it is in that state.
local function flow_of(home, name, state)
  return eventually(function()
    local one = home:json("flow", "list", "--name", name, "--json")[1]
    return one and one.state == state and one
  end)
end

local function fired(home, name, state)
  home:expect(0, "serve", "fire", name)
  return flow_of(home, name, state)
end

test("why says what a flow waits for, since when, until when, and what wakes it", LONG,
  function(t)
    local home = home_of.new(t, {schedules = GATE})
    local server = home:serve()
    local id = fired(home, "gate", "waiting").id
    has(home:expect(0, "flow", "list"), id, "gate", "waiting", "for open, until ")
    local why = home:expect(0, "flow", "why", id)
    has(why, "waits for  the message open", "secrun flow signal " .. id .. " open")
    assert(why:find "since +%d%d%d%d%-%S+Z %(%S+ ago%)" or why:find "%(now%)", why)
    assert(why:find "until +%d%d%d%d%-%S+Z %(in 29d 23h%)", why)
    local json = home:json("flow", "why", id, "--json")
    t:equal({json.id, json.state, json.waits_for}, {id, "waiting", "the message open"})
    assert(json["until"]:find "^%d%d%d%d%-%d%d%-%d%dT", json["until"])
    has(home:expect(0, "flow", "show", id), "begin", '{"at":"the gate"}', "cron/gate/")
    server:kill "TERM"
    server:wait "30s"
    has(home:expect(0, "flow", "why", id), "the message open") -- without a server, too
  end)

test("a message is sent without a server, and read when there is one", LONG, function(t)
  local home = home_of.new(t, {schedules = GATE})
  local server = home:serve()
  local id = fired(home, "gate", "waiting").id
  server:kill "TERM"
  server:wait "30s"
  has(home:expect(0, "flow", "signal", id, "opne", "1"),
    "kept until the flow waits for it", "now it waits for open")
  has(home:expect(0, "flow", "signal", id, "open", '"sesame"', "--key", "k"),
    "has the message open")
  has(home:expect(0, "flow", "signal", id, "open", '"again"', "--key", "k"),
    "had this message already")
  home:serve()
  t:equal(home:marks(1), {"sesame"})
  t:equal(flow_of(home, "gate", "ok").id, id)
  has(home:expect(1, "flow", "signal", id, "open"), "has ended")
end)

test("what failed is retried, forked and cancelled", LONG, function(t)
  local home = home_of.new(t, {schedules = GATE})
  home:serve()
  local id = fired(home, "broken", "failed").id
  has(home:expect(0, "flow", "why", id), "no such luck", "secrun flow retry " .. id)
  has(home:expect(0, "flow", "retry", id), "goes on where it stopped")
  flow_of(home, "broken", "failed")
  has(home:expect(1, "flow", "fork", id, "--from", "secnd"), "did you mean second?")
  has(home:expect(0, "flow", "fork", id, "--from", "second", "--id", "more"), "flow more")
  has(home:expect(2, "flow", "fork", id), "fork needs --from")
  local gate = fired(home, "gate", "waiting").id
  has(home:expect(0, "flow", "cancel", gate, "--reason", "not wanted"), "cancelled")
  has(home:expect(0, "flow", "show", flow_of(home, "gate", "cancelled").id), "not wanted")
  has(home:expect(1, "flow", "cancel", gate), "cancelled")
  t:equal(#home:json("flow", "list", "--state", "cancelled", "--json"), 1)
end)

test("a flow goes on with newer source if its history fits", LONG, function(t)
  local home = home_of.new(t, {schedules = GATE})
  local server = home:serve()
  local id = fired(home, "gate", "waiting").id
  server:kill "TERM"
  server:wait "30s"
  local path = home.dir .. "/flows/gate.lua"
  local text = fs.read(path)
  fs.write(path, (text:gsub('"begin"', '"start"')))
  has(home:expect(1, "flow", "migrate", id, "--check"), '"begin"', '"start"')
  fs.write(path, (text:gsub("tostring%(word%)", '"newer " .. %0')))
  has(home:expect(0, "flow", "migrate", id, "--check"), "can go on with the new source")
  has(home:expect(0, "flow", "migrate", id), "goes on with the new source")
  home:expect(0, "flow", "signal", id, "open", '"word"')
  home:serve()
  t:equal(home:marks(1), {"newer word"})
end)

test("mistakes are one line, with what was meant", LONG, function(t)
  local home = home_of.new(t)
  local text = home:expect(1, "flow", "list")
  has(text, "there is no store at", "secrun serve")
  assert(not text:find "traceback", text)
  fs.mkdir(home.dir .. "/state", {mode = "0700"})
  local server = home:serve()
  has(home:expect(0, "flow", "list"), "there is no such flow")
  t:equal(home:json("flow", "list", "--json"), {})
  has(home:expect(1, "flow", "why", "nothing/1"), "there is no flow nothing/1")
  has(home:expect(2, "flow"), "secrun flow needs a command", "show")
  has(home:expect(2, "flow", "shwo", "x"), "did you mean show?")
  has(home:expect(2, "flow", "show"), "takes ID, got 0 words")
  has(home:expect(2, "flow", "list", "--state", "faild"), "did you mean failed?")
  has(home:expect(2, "flow", "signal", "x", "y", "{bad"), "the payload is JSON")
  has(home:expect(2, "flow", "list", "--jsno"), "--json")
  server:kill "TERM"
  server:wait "30s"
end)
