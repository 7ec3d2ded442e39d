--- The command line: a superset of lua's, and named scripts.
--
--     secrun [options] [script [args]]
--
-- Exit status: 0; 1 uncaught error or failed task; 2 wrong command line or estate file;
-- 3 denied by policy; 4 pending; 128 + the signal's number.

local core = require "cli.core"
local errors = require "errors"
local load_ = require "load"

local cli = {}

local USAGE = [==[
usage: secrun [options] [script [args]]

  script is the name of one of the scripts below, or a path, or NAME.lua
  -e STAT     run the text STAT
  -l MODULE   require MODULE into a global of its name; -l G=MODULE into G
  -i          go on to the REPL after the script
  -v          print the version         --version  the same
  -W          turn warnings on          -h, --help this text
  -E          ignore SECRUN_INIT, SECRUN_SCRIPTS, LUA_INIT, LUA_PATH, LUA_CPATH
  --          stop options              -          run standard input
  --allow-net=HOST[:PORT],…  --allow-read=PATH,…  --allow-write=PATH,…
  --allow-run=PROGRAM,…      --allow-env=NAME,…   --deny-…=…  --read-only
  --log-level=debug|info|warn|error   --log-json   --log-text
  --sandbox   run it against a sandbox of its own; after a script's name it means the same
  --sandbox-certs N   and fill that with N certificates
]==]

--- Options read by the program before Lua runs.
local TAKEN = {"--allow-net", "--allow-read", "--allow-write", "--allow-run",
  "--allow-env",
  "--deny-net", "--deny-read", "--deny-write", "--deny-run", "--deny-env", "--read-only",
  "--log-level", "--log-json", "--log-text"}
local OWN = {"-e", "-l", "-i", "-v", "-W", "-E", "-h", "--help", "--version", "--sandbox",
  "--sandbox-certs"}

local SIGINT, SIGTERM = 2, 15
local HEAD_BYTES = 64 * 1024 -- of a script, in which its head must stand

local function complain(text)
  core.complain("secrun: " .. text .. "\n")
end

-- ---------------------------------------------------------------- errors

--- Raise the error of a wrong command line: exit status 2, shown without a trace.
---@param message string
function cli.usage_error(message)
  errors.raise("usage", message, {code = "COMMAND_LINE"})
end

local STATUS_OF = {COMMAND_LINE = 2, ESTATE = 2}

--- The exit status an uncaught error asks for.
---@param err table
---@return integer
function cli.status_of(err)
  local code = type(err.code) == "string" and err.code or ""
  if err.kind == "usage" then return STATUS_OF[code] or 1 end
  if err.kind == "denied" and code:find "^POLICY" then return 3 end
  if err.kind == "pending" then return 4 end
  return 1
end

--- What a signal ends needs no trace, unless its clean-up failed in another way.
local function report_signal(signal)
  if signal == SIGINT then complain "interrupted" end
  if signal == SIGTERM then complain "terminated" end
end

--- Print an uncaught error with its trace; the exit status it asks for.
local function report(err)
  err = errors.object(err)
  local signal = core.ended()
  if err.kind == "cancelled" and signal then
    report_signal(signal)
  elseif STATUS_OF[err.code] and err.kind == "usage" then
    complain(require("report").message(err))
  else
    complain(require("report").text(err))
  end
  return cli.status_of(err)
end

--- Run fn as part of the main task; whether it succeeded, and its first result or the exit
--- status.
local function guarded(fn, ...)
  local ok, result = xpcall(fn, errors.object, ...)
  if ok then return true, result end
  return false, report(result)
end

--- Errors of task.each that nobody looked at are a failure of the program.
local function report_unread()
  local task = package.loaded.task
  if not task then return end
  for _, err in ipairs(task.unread_errors()) do
    require("log").error("task.each: nobody read the error of an item: %s", tostring(err))
  end
end

-- ---------------------------------------------------------------- options

local function unknown_option(word)
  local known = {}
  for _, list in ipairs {OWN, TAKEN} do table.move(list, 1, #list, #known + 1, known) end
  local close = word:find "^%-%-" and require("args").suggest(word:match "^[^=]*", known)
  cli.usage_error(("unknown option %s%s secrun --help lists all"):format(word,
    close and "; did you mean " .. close .. "?" or ";"))
end

local function is_taken(word)
  local name = word:match "^[^=]*"
  for _, taken in ipairs(TAKEN) do
    if name == taken then return true end
  end
  return false
end

--- Take --sandbox or --sandbox-certs at words[i] out of them; nil when it is neither.
local function take_sandbox(plan, words, i)
  local name, value = words[i]:match "^(%-%-sandbox[%w-]*)=?(.*)$"
  if name == "--sandbox" and words[i] == name then
    plan.sandbox = true
  elseif name == "--sandbox-certs" then
    if words[i] == name then value = table.remove(words, i + 1) end
    local count = math.tointeger(tonumber(value))
    if not count or count < 0 then
      cli.usage_error(("--sandbox-certs needs a number of certificates, got %s"):format(
        value and value ~= "" and value or "nothing"))
    end
    plan.sandbox, plan.sandbox_certs = true, count
  else
    return nil
  end
  table.remove(words, i)
  return true
end

--- Options with a value, "-e STAT" or "-eSTAT", and those without.
local function parse_one(plan, argv, i)
  local word = argv[i]
  local letter, value = word:match "^%-([el])(.*)$"
  if letter then
    if value == "" then
      i = i + 1
      value = argv[i] or cli.usage_error(("%s needs a value"):format(word))
    end
    plan.actions[#plan.actions + 1] = {letter, value}
  elseif word == "-W" then
    plan.actions[#plan.actions + 1] = {"W"}
  elseif word == "-i" then
    plan.interactive, plan.version = true, true
  elseif word == "-v" or word == "--version" then
    plan.version, plan.done = true, true
  elseif word == "-E" then
    plan.no_env = true
  elseif word == "-h" or word == "--help" then
    plan.help = true
  elseif not is_taken(word) then
    unknown_option(word)
  end
  return i + 1
end

local function parse(argv)
  local plan, i = {actions = {}}, 1
  while argv[i] and argv[i]:find "^%-." do
    if argv[i] == "--" then
      i = i + 1
      break
    end
    if not take_sandbox(plan, argv, i) then i = parse_one(plan, argv, i) end
  end
  plan.script = i
  return plan
end

-- ---------------------------------------------------------------- running

--- Each of these returns nil, or the exit status of a failure.

local function run_compiled(fn, message, ...)
  if not fn then
    complain(message)
    return 1
  end
  local ok, status = guarded(fn, ...)
  if not ok then return status end
end

local function run_library(spec)
  local global, module = spec:match "^([^=]+)=(.+)$"
  _G[global or spec] = require(module or spec)
end

local function run_action(letter, value)
  if letter == "W" then
    warn "@on"
  elseif letter == "e" then
    return run_compiled(load(value, "=(command line)"))
  else
    return run_compiled(run_library, nil, value)
  end
end

local function run_init()
  for _, name in ipairs {"SECRUN_INIT", "LUA_INIT_5_4", "LUA_INIT"} do
    local text = core.getenv(name)
    if text and text:sub(1, 1) == "@" then
      return run_compiled(dofile, nil, text:sub(2))
    end
    if text then return run_compiled(load(text, "=" .. name)) end
  end
end

local function exit_status(result)
  if result == false then return 1 end
  local status = math.type(result) == "integer" and result or 0
  return status ~= 0 and status & 255 == 0 and 1 or status & 255
end

local function asks_help(words)
  for _, word in ipairs(words) do
    if word == "--" then return false end
    if word == "--help" then return true end
  end
  return false
end

--- What `secrun NAME --help` prints.
---@param head table
---@param name string
---@return string
function cli.script_help(head, name)
  local options = head.options and require("options").help(head.options)
  return ("usage: %s\n\n%s\n%s"):format(head.usage or "secrun " .. name .. " [args]",
    head.description, options and "\n" .. options .. "\n" or "")
end

local function folder_of(path)
  local folder = path:match "^(.*)/[^/]*$" or "."
  return folder == "" and "/" or folder
end

-- ---------------------------------------------------------------- practising

local LOOPBACK = {"127.0.0.1", "localhost", "::1"}

--- The options of a sandbox may also stand among the words of a script with a head.
local function take_sandbox_words(plan, words)
  local i = 1
  while words[i] and words[i] ~= "--" do
    if not take_sandbox(plan, words, i) then i = i + 1 end
  end
end

--- Begin a run against a sandbox: the script of that name starts one and says what is to be
--- known of it. Secrets, installs and reloads are not real from here on, and the network ends
--- at this machine. Closing the result ends the sandbox.
local function practise(plan, script)
  local path = require("scripts").find "sandbox"
  if not path then cli.usage_error "--sandbox: there is no script sandbox" end
  if script and script.path == path then
    cli.usage_error "secrun sandbox is the sandbox itself; --sandbox is for other scripts"
  end
  local env = require("strict").env()
  local fn, message = load_.file(path, env)
  if not fn then cli.usage_error(message) end
  fn()
  local sandbox = rawget(env, "launch"){certificates = plan.sandbox_certs}
  core.practise(sandbox.folder, sandbox.env)
  core.narrow{net = LOOPBACK}
  return sandbox
end

--- What a script says it needs; while practising, its hosts are those of the sandbox.
local function needs_of(head)
  if not require("practice").folder() or not head.needs.net then return head.needs end
  local needs = {}
  for name, value in pairs(head.needs) do needs[name] = value end
  needs.net = LOOPBACK
  return needs
end

--- Run a script's file. One with a head and a main is ours in style: its main is called with
--- the words; any other file is a plain Lua script with the words as varargs.
local function run_script(script)
  local folder = folder_of(script.path)
  package.path = folder .. "/?.lua;" .. folder .. "/?/init.lua;" .. package.path
  local env = script.shipped and require("strict").env() or nil
  local ok, status = guarded(function()
    local fn, message = load_.file(script.path, env)
    if not fn then
      complain(message)
      return 1
    end
    if script.head and script.head.needs then core.narrow(needs_of(script.head)) end
    fn(table.unpack(script.words))
    local main = rawget(env or _G, "main")
    if not script.head or type(main) ~= "function" then return 0 end
    return exit_status(main(script.words))
  end)
  return status or (ok and 0 or 1)
end

local function no_such_name(name)
  local names = {}
  for _, script in ipairs(require("scripts").list()) do
    names[#names + 1] = script.name
  end
  local close = require("args").suggest(name, names)
  local text = ("there is no script %s"):format(name)
  if close then text = text .. "; did you mean " .. close .. "?" end
  if load_.readable(name) then
    text = text .. ("; the file of that name is run by secrun ./%s"):format(name)
  end
  cli.usage_error(text .. "\nscripts: " .. table.concat(names, ", "))
end

--- What the word for the script means: its path, and whether it is a shipped one.
local function locate(word)
  local scripts = require "scripts"
  if not word:find("/", 1, true) and not word:find "%.lua$" then
    return scripts.find(word) or no_such_name(word), true
  end
  if load_.readable(word) then return word, false end
  local path = not word:find("/", 1, true) and scripts.find(word:sub(1, -5))
  if path then return path, true end
  cli.usage_error(("cannot open %s: no such file, or it cannot be read"):format(word))
end

--- The script a word names, with its head if it has one.
local function find_script(word, words)
  local path, shipped = locate(word)
  local head = require("head").parse(core.read(path, HEAD_BYTES) or "")
  words[0] = word
  return {path = path, shipped = shipped, words = words,
    head = head.description and head.main and head or nil}
end

local function run_stdin(words)
  local fn, message = loadfile()
  return run_compiled(fn, message, table.unpack(words)) or 0
end

local function set_arg(argv, script)
  arg = {}
  for i, word in pairs(argv) do arg[i - script] = word end
end

local function print_version(more)
  local version, lua = core.version()
  print(("secrun %s on %s%s"):format(version, lua, more or ""))
end

--- The text of `secrun --help`: options, then every script with its description.
---@return string
function cli.help()
  local lines = {USAGE, "scripts (secrun NAME --help says more):"}
  for _, script in ipairs(require("scripts").list()) do
    lines[#lines + 1] = ("  %-11s %s"):format(script.name, script.description)
  end
  return table.concat(lines, "\n") .. "\n"
end

--- What is said without running anything: nil to go on, else the exit status.
local function answer(plan, script)
  if plan.help then
    io.write(cli.help())
  elseif script and script.head and asks_help(script.words) then
    local name = script.path:match "([^/]*)%.lua$" or script.path
    io.write(cli.script_help(script.head, name))
  else
    return nil
  end
  return 0
end

--- Everything before the script; nil to go on, else the exit status.
local function prepare(plan)
  if plan.version then print_version() end
  local status = not plan.no_env and run_init() or nil
  for _, action in ipairs(plan.actions) do
    status = status or run_action(action[1], action[2])
    if action[1] == "e" then plan.done = true end
  end
  return status
end

local function run(argv)
  local plan = parse(argv)
  local word, words = argv[plan.script], {table.unpack(argv, plan.script + 1)}
  set_arg(argv, word and plan.script or 0)
  if plan.no_env then require("scripts").no_env = true end
  local script = not plan.help and word and word ~= "-" and find_script(word, words)
  if script and script.head then take_sandbox_words(plan, words) end
  local status = answer(plan, script)
  if status then return status end
  local guard <close> = plan.sandbox and practise(plan, script) or nil
  core.seal() -- from here on, files are read only as far as the script may
  load_.own(script and folder_of(script.path) or nil)
  status = prepare(plan)
  if status then return status end
  if script then
    status = run_script(script)
  elseif word or not plan.done and not plan.interactive and not core.terminal(0) then
    status = run_stdin(words)
  end
  if plan.interactive and (status or 0) == 0 or not status and not plan.done then
    if not plan.version then print_version(": Ctrl-D leaves, Tab completes") end
    return require("repl").run()
  end
  return status or 0
end

--- Run the program; argv[0] is its name. Returns the exit status.
---@param argv table<integer, string>
---@return integer
function cli.run(argv)
  local ok, status = guarded(run, argv)
  report_unread()
  return status or (ok and 0 or 1)
end

return cli
