description = "Run a sandbox: an SCM and a mail server on this machine."
usage = "secrun sandbox [--certs N] [--seed N] [--port P] [--set NAME=VALUE,…]"
needs = {}
options = {
  {name = "certs", type = "integer", value = "N", doc = "fill it with N certificates"},
  {name = "seed", type = "integer", value = "N",
    doc = "what is made is a function of it"},
  {name = "port", type = "integer", value = "P", doc = "of SCM; free ones by default"},
  {name = "admin-port", type = "integer", value = "P", doc = "of SCM for OAuth2"},
  {name = "smtp-port", type = "integer", value = "P", doc = "of the mail server"},
  {name = "set", type = "string", value = "NAME=VALUE,…",
    doc = "settings; docs/sandbox.md"},
  {name = "keep", type = "string", value = "FOLDER", doc = "keep CA and addresses there"},
  {name = "parent", type = "integer", value = "PID",
    doc = "for --sandbox: say it in JSON, and end with that process"},
}

local errors = require "errors"
local fs = require "fs"
local json = require "json"
local sandbox = require "sandbox"
local sandbox_run = require "sandbox_run"
local signals = require "signals"
local task = require "task"

--- What --sandbox calls to start one beside a script.
launch = sandbox.launch

--- "approval=manual,issue_after=3d" as a table: numbers and booleans are what they look like.
local function settings(text)
  local values = {}
  for pair in (text or ""):gmatch "[^,]+" do
    local name, value = pair:match "^%s*([%w_]+)=(.*)$"
    if not name then
      errors.raise("usage", ("--set: %q is not NAME=VALUE"):format(pair),
        {code = "COMMAND_LINE"})
    end
    if value == "true" or value == "false" then
      values[name] = value == "true"
    else
      values[name] = math.tointeger(tonumber(value)) or value
    end
  end
  return values
end

local function absolute(folder)
  fs.mkdir(folder, {parents = true, mode = "0700"})
  return fs.realpath(folder)
end

local function start(opts)
  local run, err = try(sandbox_run.start, {certificates = opts.certs, seed = opts.seed,
    port = opts.port, admin_port = opts.admin_port, smtp_port = opts.smtp_port,
    keep = opts.keep and absolute(opts.keep), settings = settings(opts.set)})
  if run then return run end
  if err.kind ~= "usage" and err.kind ~= "conflict" then error(err, 0) end
  errors.raise("usage", err.message, {code = "COMMAND_LINE", cause = err})
end

local function row(name, value) print(("  %-14s %s"):format(name, value)) end

local function introduce(run)
  local info = run.info
  print "The sandbox runs; Ctrl-C ends it.\n"
  row("SCM", info.url)
  row("customer URI", info.customer_uri)
  for _, login in ipairs(info.logins) do
    row("login", ("%-9s %s"):format(login.login, login.password))
  end
  row("SCM by OAuth2", info.admin_url)
  row("token URL", info.token_url)
  for _, login in ipairs(info.logins) do
    row("client", ("%-17s %s"):format(login.client_id, login.client_secret))
  end
  row("mail", info.smtp)
  row("TLS CA", info.tls_ca)
  row("issuing root", info.root)
  row("estate", info.folder .. "/estate.lua")
  row("certificates", run.scm.state.certs:count())
  local first = info.logins[1]
  print(("\n  curl --cacert %s -H login:%s -H password:%s -H customerUri:%s \\\n"
    .. "    '%s/api/ssl/v1?size=3'\n"):format(info.tls_ca, first.login, first.password,
    info.customer_uri, info.url))
end

--- One caught mail: whom, what, and its first lines.
local function show_mail(mail)
  print(("mail %d from <%s> to %s: %s"):format(mail.id, mail.from,
    table.concat(mail.to, ", "), mail.subject or "(no subject)"))
  local shown = 0
  for line in mail.text:gmatch "[^\r\n]+" do
    shown = shown + 1
    if shown > 10 then
      print "  …"
      break
    end
    print("  " .. line:gsub("%c", "?"))
  end
end

--- Wait for a signal, or for the end of the process that wants this sandbox.
local function serve(opts, caught)
  if not opts.parent then
    print(("\nended by %s"):format(caught:next()))
    return
  end
  task.race(function() caught:next() end, function()
    while fs.exists("/proc/" .. opts.parent) do task.sleep(1) end
  end)
end

function main(words)
  local opts, more = require("options").parse(words, options)
  if more[1] then
    errors.raise("usage", ("secrun sandbox takes no words beside its options, got %q; to "
      .. "run a script against one, write secrun %s --sandbox"):format(more[1], more[1]),
      {code = "COMMAND_LINE"})
  end
  -- Before anybody knows of it and after everything is cleared away.
  local caught <close> = signals.catch{"SIGINT", "SIGTERM", "SIGHUP"}
  local run <close> = start(opts)
  if opts.parent then
    print(json.encode(run.info))
  else
    introduce(run)
    run.mail.on_message = show_mail
    run.mail.on_refusal = function(reply) print("mail refused: " .. reply) end
  end
  serve(opts, caught)
end
