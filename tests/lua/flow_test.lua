-- Durable flows: steps once, parking, replay, what ends them. The store is real, the clock
-- is virtual; killed processes are in integration/flow_chaos_test.lua.
local errors = require "errors"
local flow = require "flow"
local flow_lab = require "flow_lab"
local fs = require "fs"
local task = require "task"
local time = require "time"

local V = {clock = "virtual"}

local function read_lines(path)
  local list = {}
  for line in (fs.exists(path) and fs.read(path) or ""):gmatch "[^\n]+" do
    list[#list + 1] = line
  end
  return list
end

--- Bodies append lines to a file when a step really runs.
local NOTE = [[
local function note(input, text)
  require("fs").append(input.log, text .. "\n", {fsync = false})
end
]]

test("a flow runs its steps once and keeps its output", V, function(t)
  local lab = flow_lab.new(t, {hello = NOTE .. [[
    function run(f, input)
      local one = f:step("one", function(key)
        note(input, key)
        return {n = input.n, list = {1, 2}}
      end)
      f:sleep("1h")
      return {sum = one.n + #one.list, id = f.id, org = f.org, attempt = f.attempt}
    end]]})
  local log = lab.dir .. "/log"
  local input = {n = 4, log = log}
  t:equal(lab:start("hello", input, {id = "h", org = "Acme"}), {id = "h", created = true,
    state = "ready"})
  t:equal(lab:start("hello", input, {id = "h"}).created, false)
  local began = time.now()
  local found = lab:finish "h"
  t:equal(found.state, "ok")
  t:equal(found.output, {sum = 6, id = "h", org = "Acme", attempt = 1})
  t:equal(time.now() - began >= 3600, true)
  t:equal(read_lines(log), {"h/1"})
  t:equal(lab:steps "h", {"1 step one ok 1", "2 sleep sleep ok 1"})
  t:equal(lab:start("hello", input, {id = "h"}).state, "ok")
end)

test("bad input of start raises one clear error and writes nothing", V, function(t)
  local lab = flow_lab.new(t, {renew = "function run() end", syntax = "function run( end",
    norun = "local x = 1"})
  local start = function(...)
    local words = table.pack(...)
    return function() lab:start(table.unpack(words, 1, words.n)) end
  end
  t:raises(start "nothing", "not_found", "no flow")
  t:raises(start "renw", "not_found", "did you mean renew")
  t:raises(start "../renew", "usage", "letters")
  t:raises(start "syntax", "usage", "syntax.lua")
  t:raises(start "norun", "usage", "function run")
  t:raises(start("renew", {f = print}), "usage", "input cannot be stored")
  t:raises(start("renew", {a = {key = "-----BEGIN PRIVATE KEY-----\nx"}}), "usage",
    "%.a%.key cannot be stored: it is a private key")
  t:raises(start("renew", 1, {ID = 3}), "usage", "did you mean")
  t:raises(start("renew", 1, {id = "a b"}), "usage", "letters")
  t:equal(#flow.list(lab.db), 0)
  lab:start("renew", {n = 1}, {id = "x"})
  t:raises(start("renew", {n = 2}, {id = "x"}), "conflict", "another input")
  t:equal(select(2, try(start("renew", {n = 2}, {id = "x"}))).code, "FLOW_INPUT")
  t:equal(#flow.list(lab.db), 1)
end)

test("a second start with the dedup key of an unfinished flow joins it", V, function(t)
  local lab = flow_lab.new(t, {one = "function run() return 1 end"})
  local a = lab:start("one", nil, {dedup = "www"})
  local b = lab:start("one", nil, {dedup = "www"})
  t:equal({b.id, b.created}, {a.id, false})
  lab:run()
  t:equal(lab:start("one", nil, {dedup = "www"}).created, true)
end)

test("a step that began and was cut short is reconciled before it runs again", V,
  function(t)
    local lab = flow_lab.new(t, {order = NOTE .. [[
      function run(f, input)
        return f:step("order", function(key)
          note(input, "effect " .. key)
          return "new"
        end, {args = {name = "www"}, reconcile = function(key, args, intent)
          note(input, ("asked %s %s %d"):format(key, args.name, intent.attempts))
          if input.found == "yes" then return true, "found" end
          if input.found == "no" then return false end
        end, on_unknown = input.way})
      end]]})
    local log = lab.dir .. "/log"
    --- The intent is written, then the process is gone.
    local function cut(id, input)
      input.log = log
      fs.remove(log, {missing_ok = true})
      lab:start("order", input, {id = id})
      lab:run()
      lab.db:exec("UPDATE step SET status = 'intent', result = NULL, ended_at = NULL "
        .. "WHERE flow = $id", {id = id})
      lab.db:exec("UPDATE flow SET finished_at = NULL, output = NULL WHERE id = $id",
        {id = id})
      lab:forget(id)
      fs.remove(log)
      lab:run()
      return lab:get(id), read_lines(log)
    end
    local found, lines = cut("a", {found = "yes"})
    t:equal({found.state, found.output}, {"ok", "found"})
    t:equal(lines, {"asked a/1 www 1"})
    found, lines = cut("b", {found = "no"})
    t:equal({found.state, found.output}, {"ok", "new"})
    t:equal(lines, {"asked b/1 www 1", "effect b/1"})
    t:equal(lab:steps "b", {"1 step order ok 2"})
    found, lines = cut("c", {found = "?", way = "retry"})
    t:equal(found.output, "new")
    t:equal(#lines, 2)
    found = cut("d", {found = "?", way = "fail"})
    t:equal({found.state, found.error.code}, {"failed", "FLOW_UNKNOWN_OUTCOME"})
    found = cut("e", {found = "?"})
    t:equal({found.state, found.topic}, {"waiting", "ask:1"})
    t:equal(lab:why("e").wakes[1]:find("secrun flow signal e ask:1", 1, true), 1)
    flow.signal(lab.db, "e", "ask:1", {happened = true, result = "told"})
    lab:run()
    t:equal(lab:get("e").output, "told")
  end)

test("a message wakes a flow, one sent early is kept, a time-out is a result", V,
  function(t)
    local lab = flow_lab.new(t, {ask = [[
      function run(f)
        local a = f:wait("approved")
        local b, why = f:wait("approved", {timeout = "2d"})
        local c = {f:wait("more", {timeout = "1h"})}
        return {a = a, b = b, why = why, c = c[2]}
      end]]})
    lab:start("ask", nil, {id = "q"})
    lab:run()
    local why = lab:why "q"
    t:equal({why.state, why.waits_for}, {"waiting", "the message approved"})
    flow.signal(lab.db, "q", "approved", {by = "ann"}, {key = "k1"})
    t:equal(flow.signal(lab.db, "q", "approved", {by = "ann"}, {key = "k1"}), false)
    lab:run()
    t:equal(lab:get("q").messages[1].step, "1")
    t:equal(math.floor(lab:why("q")["until"] - time.now() + 0.5), 172800)
    flow.signal(lab.db, "q", "approved", {by = "bob"})
    local found = lab:finish "q"
    t:equal(found.output, {a = {by = "ann"}, b = {by = "bob"}, c = "timeout"})
    t:raises(function() flow.signal(lab.db, "q", "approved") end, "conflict", "ended")
    t:raises(function() flow.signal(lab.db, "r", "approved") end, "not_found", "did you")
  end)

test("a deadline of a wait is stored once: a restart does not move it", V, function(t)
  local lab = flow_lab.new(t, {nap = [[
    function run(f) f:sleep("10h") return f:now() end]]})
  lab:start("nap", nil, {id = "n"})
  local began = time.now()
  lab:run()
  time.advance "4h"
  lab.db:exec("UPDATE flow SET available_at = 0 WHERE id = 'n'")
  lab:run()
  t:equal(lab:get("n").state, "waiting")
  local found = lab:finish "n"
  t:equal(math.floor(found.output - began + 0.5), 36000)
end)

test("retryable errors are tried again with growing pauses, pending ones for days", V,
  function(t)
    local lab = flow_lab.new(t, {try = NOTE .. [[
      local errors = require "errors"
      function run(f, input)
        local n = f:step("flaky", function()
          note(input, "x")
          if input.fail then
            errors.raise("connect", "no route", {retryable = true, code = "ENET"})
          end
          return 1
        end, {retry = {max = 3, delay = "10s", factor = 2, cap = "1m"}})
        return n
      end]], collect = [[
      local errors = require "errors"
      function run(f, input)
        return f:step("collect", function(key)
          local now = require("json").decode(require("fs").read(input.clock))
          if now < 3 then
            require("fs").write(input.clock, tostring(now + 1))
            errors.raise("pending", "the CA is at it", {retry_after = 86400})
          end
          return "certificate"
        end)
      end]]})
    local began = time.now()
    lab:start("try", {log = lab.dir .. "/log", fail = true}, {id = "t"})
    local found = lab:finish "t"
    t:equal({found.state, found.error.code, found.error.step}, {"failed", "ENET", "1"})
    t:equal(#read_lines(lab.dir .. "/log"), 3)
    t:equal(lab:steps "t", {"1 step flaky err 3"})
    local took = time.now() - began
    t:equal(took > 22 and took < 38, true, ("took %g"):format(took))
    fs.write(lab.dir .. "/clock", "0")
    lab:start("collect", {clock = lab.dir .. "/clock"}, {id = "c"})
    lab:run()
    t:equal(lab:why("c").waits_for, 'step "collect", which is not ready yet')
    began = time.now()
    t:equal(lab:finish("c").output, "certificate")
    t:equal(time.now() - began >= 3 * 86400, true)
    t:equal(lab:steps "c", {"1 step collect ok 1"})
  end)

test("an error of a step is recorded without secrets and raised into the flow", V,
  function(t)
    local lab = flow_lab.new(t, {deny = [[
      function run(f, input)
        local ok, err = pcall(f.step, f, "deny", function()
          require("errors").raise("denied", "no: " .. input.word, {code = "POLICY",
            status = 403, details = {rule = "keys.lua:3"}})
        end)
        f:step("after", function() return 1 end)
        error(err, 0)
      end]]})
    local secret_text = "hush-" .. math.random(1e9)
    lab:start("deny", {word = secret_text}, {id = "d"})
    fs.write(lab.dir .. "/secret", secret_text, {mode = "0600"})
    local held <close> = secret("file:" .. lab.dir .. "/secret")
    lab:run()
    local found = lab:get "d"
    t:equal(found.state, "failed")
    local err = found.error
    t:equal({err.kind, err.code, err.status, err.details}, {"denied", "POLICY", 403,
      {rule = "keys.lua:3"}})
    t:equal(err.message, "no: [secret]")
    t:equal(tostring(held), "[secret file:" .. lab.dir .. "/secret]")
  end)

test("a result that cannot be stored fails the step and names the field", V, function(t)
  local lab = flow_lab.new(t, {bad = [[
    function run(f, input)
      return f:step("make", function()
        if input == "function" then return {a = {f = print}} end
        if input == "nan" then return {n = 0 / 0} end
        if input == "key" then
          return {key = require("x509").key{type = "p256"}}
        end
        if input == "pem" then
          return {list = {"-----BEGIN EC PRIVATE KEY-----\nMHcC"}}
        end
        local t = {}
        t.self = t
        return t
      end)
    end]]})
  local function message(input)
    lab:start("bad", input, {id = input})
    lab:run()
    local found = lab:get(input)
    t:equal({found.state, found.error.code}, {"failed", "FLOW_VALUE"})
    t:equal(found.error.message:find('step "make": its result', 1, true), 1,
      found.error.message)
    return found.error.message
  end
  t:equal(message("function"):find("(at .a.f)", 1, true) ~= nil, true)
  t:equal(message("nan"):find("n", 1, true) ~= nil, true)
  t:equal(message("key"):find("key", 1, true) ~= nil, true)
  t:equal(message("pem"):find "%.list%[1%] cannot be stored: it is a private key" ~= nil,
    true)
  message "cycle"
end)

test("parking passes every pcall, closes values and runs no clean-up", V, function(t)
  local lab = flow_lab.new(t, {park = NOTE .. [[
    function run(f, input)
      f:cleanup("undo", function() note(input, "undone") end)
      local guard <close> = setmetatable({}, {__close = function()
        note(input, "closed")
      end})
      local ok = pcall(function()
        local got, err = try(function()
          xpcall(function() f:sleep(60) end, function() note(input, "handler") end)
          note(input, "slept")
        end)
        note(input, tostring(err))
      end)
      note(input, tostring(ok))
      local co = coroutine.wrap(function() f:sleep(60) end)
      co()
    end]]})
  lab:start("park", {log = lab.dir .. "/log"}, {id = "p"})
  lab:run()
  t:equal(read_lines(lab.dir .. "/log"), {"closed"})
  t:equal(lab:finish("p").state, "ok")
  t:equal(read_lines(lab.dir .. "/log"), {"closed", "slept", "nil", "true", "closed",
    "slept", "nil", "true", "closed"})
end)

test("a body that does something else on replay stops with the difference", V, function(t)
  local lab = flow_lab.new(t, {drift = [[
    function run(f, input)
      f:step("first", function() end, {args = {name = "www", days = 90}})
      f:sleep("1h")
      return 1
    end]]})
  lab:start("drift", nil, {id = "d"})
  lab:run()
  local row = lab.db:row "SELECT bundle FROM code"
  local function with(old, new)
    local text = row.bundle:gsub(old, new)
    local hash = require("digest").hex(require("digest").sha256(text))
    lab.db:exec("INSERT INTO code VALUES($hash, $text, 1) ON CONFLICT DO NOTHING",
      {hash = hash, text = text})
    lab.db:exec("UPDATE flow SET code = $hash, available_at = 0, state = 'ready'",
      {hash = hash})
    lab:run()
    return lab:get("d")
  end
  local found = with('days = 90', 'days = 47')
  t:equal({found.state, found.error.code}, {"dead", "FLOW_HISTORY"})
  t:equal(found.error.message:find('step 1: the history has step "first" with {', 1,
    true) ~= nil, true)
  t:equal(found.error.message:find("other arguments: days", 1, true) ~= nil, true)
  t:equal(found.error.message:find("flows/drift.lua:", 1, true) ~= nil, true)
  found = with('first', 'second')
  t:equal(found.error.message:find("another call", 1, true) ~= nil, true,
    found.error.message)
  found = with('f:sleep%(%S+%)', '')
  t:equal(found.error.message:find("no longer reaches", 1, true) ~= nil, true,
    found.error.message)
  t:equal(#lab:get("d").steps, 2)
end)

test("a changed script affects new flows only", V, function(t)
  local lab = flow_lab.new(t, {v = [[
    local part = require "part"
    function run(f) f:sleep("1h") return part.name .. 1 end]]})
  lab:body("part", "return {name = 'old'}")
  lab:start("v", nil, {id = "a"})
  lab:run()
  lab:body("part", "return {name = 'new'}")
  lab:start("v", nil, {id = "b"})
  t:equal(lab:finish("b").output, "new1")
  t:equal(lab:finish("a").output, "old1")
end)

test("cancelling runs the clean-ups in reverse, as steps, and ends as cancelled", V,
  function(t)
    local lab = flow_lab.new(t, {saga = NOTE .. [[
      function run(f, input)
        for _, name in ipairs{"a", "b"} do
          f:step(name, function() note(input, "do " .. name) end)
          f:cleanup("undo " .. name, function(key) note(input, "undo " .. key) end)
        end
        f:wait("go")
        f:step("c", function() note(input, "do c") end)
      end]]})
    local log = lab.dir .. "/log"
    lab:start("saga", {log = log}, {id = "s"})
    lab:run()
    flow.cancel(lab.db, "s", {reason = "not wanted"})
    local found = lab:finish "s"
    t:equal({found.state, found.error.message}, {"cancelled", "cancelled: not wanted"})
    t:equal(read_lines(log), {"do a", "do b", "undo s/c2", "undo s/c1"})
    t:raises(function() flow.cancel(lab.db, "s") end, "conflict")
    lab:start("saga", {log = log}, {id = "n", at = time.now() + 60})
    t:equal(flow.cancel(lab.db, "n").state, "cancelled")
    lab:start("saga", {log = log}, {id = "dl", deadline = time.now() + 600})
    found = lab:finish "dl"
    t:equal({found.state, found.error.kind, found.error.code}, {"failed", "timeout",
      "FLOW_DEADLINE"})
    t:equal(#read_lines(log), 8)
  end)

test("clean-ups are tried again, survive a failure of one, and reach children", V,
  function(t)
    local lab = flow_lab.new(t, {outer = NOTE .. [[
      local errors = require "errors"
      function run(f, input)
        f:cleanup("never", function() error("cannot", 0) end)
        f:cleanup("flaky", function(key)
          note(input, "try")
          if #require("fs").read(input.log) < 12 then
            errors.raise("connect", "later", {retryable = true})
          end
        end, {retry = {max = 5, delay = "1m"}})
        f:child("inner", input, {id = "in"})
      end]], inner = NOTE .. [[
      function run(f, input)
        f:cleanup("inner", function() note(input, "in") end)
        f:step("slow", function() require("task").sleep(10) end)
        f:step("never", function() note(input, "wrong") end)
      end]], fails = NOTE .. [[
      function run(f, input)
        f:cleanup("undo", function() note(input, "undone") end)
        error("broken", 0)
      end]]})
    local log = lab.dir .. "/log"
    lab:start("outer", {log = log}, {id = "out"})
    local g <close> = task.group()
    g:spawn(lab.engine.run, lab.engine)
    task.sleep(5)
    flow.cancel(lab.db, "out")
    local began = time.now()
    local found = lab.engine:wait({"out", "in"}, {timeout = "1h"})
    t:equal({found.out.state, found["in"].state}, {"cancelled", "cancelled"})
    local lines = read_lines(log)
    table.sort(lines)
    t:equal(lines, {"in", "try", "try", "try"})
    t:equal(time.now() - began > 60, true)
    t:equal(lab:steps "out", {"1 child inner wait 1", "c1 cleanup never err 1",
      "c2 cleanup flaky ok 3"})
    t:equal(lab:steps "in", {"1 step slow ok 1", "c1 cleanup inner ok 1"})
    fs.remove(log)
    lab:start("fails", {log = log}, {id = "f"})
    t:equal(lab.engine:wait("f").f.state, "failed")
    t:equal(read_lines(log), {})
    flow.cancel(lab.db, "f")
    t:equal(lab.engine:wait("f").f.state, "cancelled")
    t:equal(read_lines(log), {"undone"})
    lab.engine:stop()
  end)

test("a child is a flow of its own; its output and its failure come back", V, function(t)
  local lab = flow_lab.new(t, {parent = [[
      function run(f, input)
        local a = f:child("child", {n = input.n})
        local ok, err = pcall(f.child, f, "child", {fail = true}, {id = "bad"})
        return {a = a, err = err.message, cause = err.cause, code = err.code}
      end]], child = [[
      function run(f, input)
        f:sleep(60)
        if input.fail then error("it broke", 0) end
        return input.n * 2
      end]]})
  lab:start("parent", {n = 21}, {id = "p", org = "Acme"})
  local found = lab:finish "p"
  t:equal(found.state, "ok", found.error and found.error.message)
  t:equal(found.output.a, 42)
  t:equal(found.output.code, "FLOW_CHILD")
  t:equal(found.output.err, "the child flow bad (child) ended as failed")
  t:equal(lab:get("p/1").org, "Acme")
  t:equal(lab:get("p/1").parent, "p")
end)

test("branches go on side by side, at most limit unfinished, each with its numbers", V,
  function(t)
    local lab = flow_lab.new(t, {many = NOTE .. [[
      function run(f, input)
        return f:each({3, 1, 2, 4}, {limit = 2}, function(n, i)
          f:step("one", function() note(input, "one " .. i) end)
          f:sleep(n * 60)
          return f:step("two", function() note(input, "two " .. i) return n * 10 end)
        end)
      end]], broken = [[
      function run(f, input)
        local results, failed = f:each({1, 2, 3}, {errors = true}, function(n)
          return f:step("s", function()
            if n == 2 then error("two is odd", 0) end
            return n
          end)
        end)
        local _, err = pcall(f.each, f, {1, 2}, function() error("all", 0) end)
        return {results[1], results[3], failed[2].message, err.message}
      end]]})
    local log = lab.dir .. "/log"
    lab:start("many", {log = log}, {id = "m"})
    lab:run()
    t:equal(#read_lines(log), 2)
    local found = lab:finish "m"
    t:equal(found.output, {30, 10, 20, 40})
    local lines = read_lines(log)
    table.sort(lines)
    t:equal(lines, {"one 1", "one 2", "one 3", "one 4", "two 1", "two 2", "two 3",
      "two 4"})
    t:equal(lab:steps("m")[3], "1.1.1 step one ok 1")
    lab:start("broken", nil, {id = "b"})
    found = lab:finish "b"
    t:equal(found.output, {1, 3, "two is odd",
      "2 of 2 branches failed, the first: all"})
  end)

test("a branch whose time has come goes on while another one is still at it", V,
  function(t)
    local lab = flow_lab.new(t, {race = NOTE .. [[
      function run(f, input)
        f:each({1, 2}, {}, function(n)
          if n == 1 then
            f:sleep(10)
            f:step("awake", function() note(input, "awake") end)
            f:wait("word")
            f:step("heard", function() note(input, "heard") end)
            f:sleep(100)
          else
            f:step("long", function() require("task").sleep(60) end)
            f:step("end", function() note(input, "end of long") end)
          end
        end)
        return "done"
      end]]})
    lab:start("race", {log = lab.dir .. "/log"}, {id = "r"})
    local g <close> = task.group()
    g:spawn(function()
      task.sleep(20)
      flow.signal(lab.db, "r", "word", 1)
    end)
    t:equal(lab:finish("r").output, "done")
    t:equal(read_lines(lab.dir .. "/log"), {"awake", "heard", "end of long"})
  end)

test("branches that wait for one topic take a message each", V, function(t)
  local lab = flow_lab.new(t, {share = [[
    function run(f)
      local got = f:each({1, 2, 3}, {}, function() return f:wait("word") end)
      table.sort(got)
      return got
    end]]})
  lab:start("share", nil, {id = "s"})
  for i = 1, 2 do flow.signal(lab.db, "s", "word", "w" .. i) end
  lab:run()
  t:equal(lab:get("s").state, "waiting")
  flow.signal(lab.db, "s", "word", "w3")
  t:equal(lab:finish("s").output, {"w1", "w2", "w3"})
end)

test("time, chance and order are the same in every run; what is not is refused", V,
  function(t)
    local lab = flow_lab.new(t, {same = [[
      function run(f, input)
        local first = {f:now(), f:random(1000000), f:random()}
        f:sleep("1h")
        local keys = {}
        for key in pairs{z = 1, a = 2, m = 3, [2] = 4, [1] = 5} do
          keys[#keys + 1] = tostring(key)
        end
        return {first = first, keys = table.concat(keys), next = next{b = 1, a = 2}}
      end]], odd = [[
      function run(f, input)
        local tries = {
          function() return os.time() end, function() return os.date() end,
          function() return os.clock() end, function() return math.random() end,
          function() return require("time").now() end, function() require "store" end,
          function() require "flow" end, function() require "fs.core" end,
          function() require "vm" end, function() io.open("/etc/passwd") end,
          function() os.getenv("HOME") end, function() for _ in pairs{[f] = 1} do end end,
          function() return secret("env:HOME") end, function() undefined() end,
          function() f.slep() end}
        local said = {}
        for i, fn in ipairs(tries) do
          local ok, err = pcall(fn)
          said[i] = ok and "ALLOWED" or err.message
        end
        return said
      end]]})
    lab:start("same", nil, {id = "s"})
    local found = lab:finish "s"
    t:equal(found.output.keys, "12amz")
    t:equal(found.output.next, "a")
    t:equal(found.output.first[1] < time.now() - 3599, true)
    lab:start("odd", nil, {id = "o"})
    lab:run()
    local said = lab:get("o").output
    for i, text in ipairs(said) do t:equal(text ~= "ALLOWED", true, "try " .. i) end
    t:equal(said[1]:find("f:now()", 1, true) ~= nil, true, said[1])
    t:equal(said[4]:find("f:random()", 1, true) ~= nil, true)
    t:equal(said[15]:find("did you mean sleep", 1, true) ~= nil, true)
  end)

test("f: outside of the body's task and inside a step is refused", V, function(t)
  local lab = flow_lab.new(t, {out = [[
    local task = require "task"
    function run(f, input)
      local said = {}
      local _, err = pcall(f.step, f, "outer", function() f:now() end)
      said[1] = err.message
      local g <close> = task.group()
      g:spawn(function() said[2] = select(2, pcall(f.now, f)).message end)
      g:join()
      said[3] = select(2, pcall(f.step, "x")).message
      said[4] = select(2, pcall(f.step, f, "y", nil)).message
      said[5] = select(2, pcall(f.step, f, "z", print, {rety = {}})).message
      return said
    end]]})
  lab:start("out", nil, {id = "o"})
  lab:run()
  local found = lab:get "o"
  t:equal(found.state, "ok", found.error and found.error.message)
  for i, pattern in ipairs{'inside the function of step "outer"', "f:each", "with ':'",
    "a function is missing", "did you mean retry"} do
    t:equal(found.output[i]:find(pattern, 1, true) ~= nil, true, found.output[i])
  end
end)

test("a flow that never gets further is dead after its attempts, and says so", V,
  function(t)
    local dead = {}
    local lab = flow_lab.new(t, {poison = "function run(f) f:sleep(1) end"},
      {on_dead = function(one) dead[#dead + 1] = one.id .. " " .. one.error.code end})
    lab:start("poison", nil, {id = "p", max_attempts = 2})
    for _ = 1, 2 do
      lab.db:exec("UPDATE flow SET attempts = attempts + 1, started_at = 1")
      lab:forget "p"
    end
    lab:run()
    local found = lab:get "p"
    t:equal({found.state, found.error.code}, {"dead", "FLOW_POISON"})
    t:equal(dead, {"p FLOW_POISON"})
    t:equal(lab:why("p").wakes, {"secrun flow retry p"})
    flow.retry(lab.db, "p")
    t:equal(lab:finish("p").state, "ok")
  end)

test("retry does the failed step again; fork repeats from a step on", V, function(t)
  local lab = flow_lab.new(t, {fix = NOTE .. [[
    function run(f, input)
      f:step("one", function() note(input, "one") end)
      f:step("two", function(key)
        note(input, "two " .. key)
        if not require("fs").exists(input.log .. ".ok") then error("not yet", 0) end
        return 2
      end)
      return f:step("three", function() note(input, "three") return 3 end)
    end]]})
  local log = lab.dir .. "/log"
  lab:start("fix", {log = log}, {id = "x"})
  lab:run()
  t:equal(lab:get("x").state, "failed")
  fs.write(log .. ".ok", "")
  flow.retry(lab.db, "x")
  t:equal(lab:finish("x").output, 3)
  t:equal(read_lines(log), {"one", "two x/2", "two x/2", "three"})
  t:raises(function() flow.retry(lab.db, "x") end, "conflict", "nothing to retry")
  t:raises(function() flow.fork(lab.db, "x", {from = "tow"}) end, "not_found",
    "did you mean two")
  local forked = flow.fork(lab.db, "x", {from = "two", id = "y"})
  t:equal(forked.copied, 1)
  t:equal(lab:finish("y").output, 3)
  t:equal(read_lines(log)[5], "two y/2")
end)

test("retry repeats every branch that failed and no other", V, function(t)
  local lab = flow_lab.new(t, {fan = NOTE .. [[
    function run(f, input)
      return f:each({1, 2, 3}, {}, function(n)
        f:step("first", function() note(input, "first " .. n) end)
        if n == 3 then
          if not require("fs").exists(input.log .. ".ok") then error("plain", 0) end
          return 3
        end
        return f:step("second", function()
          if n == 2 and not require("fs").exists(input.log .. ".ok") then
            error("not yet", 0)
          end
          note(input, "second " .. n)
          return n
        end)
      end)
    end]]})
  local log = lab.dir .. "/log"
  lab:start("fan", {log = log}, {id = "x"})
  lab:run()
  t:equal(lab:get("x").error.steps, {"1.2.2", "1.3"})
  fs.write(log .. ".ok", "")
  flow.retry(lab.db, "x")
  t:equal(lab:finish("x").output, {1, 2, 3})
  local lines = read_lines(log)
  table.sort(lines)
  t:equal(lines, {"first 1", "first 2", "first 3", "second 1", "second 2"})
end)

test("budgets bound flows at a time and flows begun a period", V, function(t)
  local lab = flow_lab.new(t, {slow = [[
    function run(f) f:step("s", function() require("task").sleep(10) end) end]]})
  flow.budget(lab.db, "ca:le", {max_running = 2})
  flow.budget(lab.db, "org:acme", {rate = 3, period = "1h"})
  t:raises(function() flow.budget(lab.db, "oops", {}) end, "usage", "ca:NAME")
  for i = 1, 5 do lab:start("slow", nil, {id = "c" .. i, ca = "le"}) end
  for i = 1, 5 do lab:start("slow", nil, {id = "o" .. i, org = "acme"}) end
  lab:start("slow", nil, {id = "free"})
  local g <close> = task.group()
  g:spawn(lab.engine.run, lab.engine)
  task.sleep(5)
  t:equal(#flow.list(lab.db, {state = "running"}), 6)
  t:equal(#flow.list(lab.db, {state = "running", org = "acme"}), 3)
  task.sleep(10)
  t:equal(#flow.list(lab.db, {state = "ok"}), 6)
  t:equal(#flow.list(lab.db, {state = "running"}), 2)
  task.sleep(1300)
  t:equal(#flow.list(lab.db, {state = "ok", org = "acme"}), 4)
  task.sleep(7200)
  t:equal(#flow.list(lab.db, {state = "ok"}), 11)
  lab.engine:stop()
end)

test("a worker that lost its lease writes nothing more", V, function(t)
  local lab = flow_lab.new(t, {slow = NOTE .. [[
    function run(f, input)
      f:step("one", function() require("task").sleep(10) note(input, "one") end)
      f:step("two", function() note(input, "two") end)
      return "first"
    end]]}, {lease = "30s"})
  lab:start("slow", {log = lab.dir .. "/log"}, {id = "s"})
  local g <close> = task.group()
  g:spawn(lab.engine.run, lab.engine)
  task.sleep(5)
  lab:forget("s", 600000) -- another worker has it
  task.sleep(60)
  t:equal(lab:steps "s", {})
  t:equal(lab:get("s").state, "running")
  t:equal(lab:get("s").owner, "gone:b:1:1")
  lab.engine:stop()
end)

test("a lease is renewed while a step takes longer", V, function(t)
  local lab = flow_lab.new(t, {slow = NOTE .. [[
    function run(f, input)
      f:step("one", function() require("task").sleep(30) note(input, "one") end)
      return 1
    end]]}, {lease = "1s"})
  lab:start("slow", {log = lab.dir .. "/log"}, {id = "s"})
  local other = lab:engine_with{lease = "1s"}
  local g <close> = task.group()
  g:spawn(lab.engine.run, lab.engine)
  task.sleep(1)
  g:spawn(other.run, other)
  task.sleep(20)
  t:equal(lab:get("s").attempts, 1)
  task.sleep(20)
  t:equal(lab:get("s").state, "ok")
  t:equal(read_lines(lab.dir .. "/log"), {"one"})
  lab.engine:stop()
  other:stop()
end)

test("stopping an engine hands its flows back at their next call", V, function(t)
  local lab = flow_lab.new(t, {long = [[
    function run(f)
      for i = 1, 100 do f:step("s" .. i, function() require("task").sleep(1) end) end
      return "done"
    end]]})
  lab:start("long", nil, {id = "l"})
  local g <close> = task.group()
  g:spawn(lab.engine.run, lab.engine)
  task.sleep(5.5)
  lab.engine:stop()
  g:join()
  local found = lab:get "l"
  t:equal({found.state, found.owner, #found.steps}, {"ready", nil, 6})
  t:equal(lab:finish("l").output, "done")
end)

test("each org has a VM of its own, which closes when nobody uses it", V, function(t)
  local source = "file:" .. t:tmpdir() .. "/secret"
  fs.write(source:sub(6), "hush-org-a", {mode = "0600"})
  local lab = flow_lab.new(t, {mark = ([[
    local marks = require "fs"
    function run(f)
      local before = marks.mark
      marks.mark = f.org
      return {before = before, secret = pcall(secret, %q),
        module = pcall(require("estate").secret, {["$secret"] = %q})}
    end]]):format(source, source)}, {vm = {idle = "10s", secrets = function(org)
      return org == "a" and {source} or {}
    end}})
  local g <close> = task.group()
  g:spawn(lab.engine.run, lab.engine)
  for i, org in ipairs{"a", "b", "a"} do
    lab:start("mark", nil, {id = tostring(i), org = org})
    lab.engine:wait(tostring(i))
  end
  t:equal(lab:get("1").output, {secret = true, module = true})
  t:equal(lab:get("2").output, {secret = false, module = false})
  t:equal(lab:get("3").output, {before = "a", secret = true, module = true})
  t:equal(lab.engine.vms:count(), 2)
  task.sleep(30)
  t:equal(lab.engine.vms:count(), 0)
  lab.engine:stop()
end)

test("errors that are not objects keep their text", V, function(t)
  local lab = flow_lab.new(t, {oops = "function run() local x = nil; return x.y end"})
  lab:start("oops", nil, {id = "o"})
  lab:run()
  local err = lab:get("o").error
  t:equal({err.kind, errors.is(err)}, {"internal", true})
  t:equal(err.message:find("flows/oops.lua:2", 1, true), 1, err.message)
end)
