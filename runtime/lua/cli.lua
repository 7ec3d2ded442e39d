--- The command line: a superset of lua's, and named scripts.
--
--     secrun [options] [script [args]]

local load_ = require "load"
local errors = require "errors"

local cli = {}

local USAGE = [==[
usage: secrun [options] [script [args]]
  -e STAT     run the text STAT
  -l MODULE   require MODULE into a global of its last name
  -i          go on to the REPL after the script
  -v          print the version
  -W          turn warnings on
  -E          ignore environment variables
  --          stop options        -   run standard input
  --allow-net= --allow-read= --allow-write= --allow-run= --allow-env= --deny-… --read-only
  --log-level=debug|info|warn|error   --log-json
]==]

local function complain(text)
  io.stderr:write("secrun: ", text, "\n")
end

--- Print an uncaught error with its trace; the exit status it asks for.
local function report(err)
  err = errors.object(err)
  complain(tostring(err))
  if err.trace and err.trace ~= "" then io.stderr:write(err.trace, "\n") end
  return err.kind == "usage" and 2 or 1
end

--- Run fn as part of the main task; returns its exit status.
local function guarded(fn, ...)
  local result = table.pack(xpcall(fn, errors.object, ...))
  if result[1] then
    local status = result[2]
    return math.type(status) == "integer" and status or 0
  end
  return report(result[2])
end

local function run_text(text, name)
  local fn, message = load(text, name)
  if not fn then
    complain(message)
    return 1
  end
  return guarded(fn) == 0 and 0 or 1
end

local function folder_of(path)
  return path:match("^(.*)/[^/]*$") or "."
end

local function run_script(path, words)
  local folder = folder_of(path)
  package.path = folder .. "/?.lua;" .. folder .. "/?/init.lua;" .. package.path
  local fn, message = load_.file(path)
  if not fn then
    complain(message)
    return 1
  end
  return guarded(function()
    local result = fn(table.unpack(words))
    local main = rawget(_G, "main")
    if type(main) == "function" then return main(words) end
    return result
  end)
end

local function set_arg(argv, script)
  arg = {}
  for i, word in pairs(argv) do arg[i - script] = word end
end

--- Run the program; argv[0] is its name. Returns the exit status.
function cli.run(argv)
  local i, texts, libs = 1, {}, {}
  while argv[i] and argv[i]:sub(1, 1) == "-" and argv[i] ~= "-" do
    local word = argv[i]
    if word == "-e" or word == "-l" then
      if not argv[i + 1] then
        complain(word .. " needs a value\n" .. USAGE)
        return 2
      end
      local list = word == "-e" and texts or libs
      list[#list + 1] = argv[i + 1]
      i = i + 1
    elseif word == "-v" then
      print("secrun, on " .. _VERSION)
      texts.done = true
    elseif word == "--" then
      i = i + 1
      break
    else
      complain("unknown option " .. word .. "\n" .. USAGE)
      return 2
    end
    i = i + 1
  end
  set_arg(argv, i)
  for _, name in ipairs(libs) do _G[name:match("[^.]*$")] = require(name) end
  for n, text in ipairs(texts) do
    local status = run_text(text, "=(command line " .. n .. ")")
    if status ~= 0 then return status end
  end
  if argv[i] == "test" then
    return require("test").main({table.unpack(argv, i + 1)})
  end
  if argv[i] then return run_script(argv[i], {table.unpack(argv, i + 1)}) end
  if #texts > 0 or texts.done then return 0 end
  complain("no script\n" .. USAGE)
  return 2
end

return cli
