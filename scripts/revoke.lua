description = "Revoke a certificate in SCM, by its id or serial number."
usage = "secrun revoke (--id N | --serial HEX) --reason TEXT [--code NAME] [--org NAME]"
needs = {}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
  {name = "id", type = "integer", value = "N", positive = true, doc = "SCM's id"},
  {name = "serial", type = "string", value = "HEX", doc = "instead of the id"},
  {name = "reason", type = "string", value = "TEXT", doc = "why, in words; SCM keeps it"},
  {name = "code", type = "string", value = "NAME",
    doc = "keyCompromise, superseded, cessationOfOperation …; unspecified without"},
  {name = "org", type = "string", value = "NAME", doc = "whose login to use"},
}

local cli = require "cli"
local estate = require "estate"

function main(words)
  local opts, rest = require("options").parse(words, options)
  if rest[1] then
    cli.usage_error(("revoke takes no words, got %q; give --id or --serial"):format(
      rest[1]))
  end
  if (opts.id == nil) == (opts.serial == nil) then
    cli.usage_error "give --id or --serial, one of them"
  end
  if not opts.reason then cli.usage_error "give --reason, why it is revoked" end
  local e = estate.load(estate.find(opts.config))
  local org = opts.org
  if not org and not e.scm then
    local logins = estate.scm_logins(e)
    if #logins ~= 1 then
      cli.usage_error "several organizations have a login to SCM; choose one with --org"
    end
    org = logins[1].org
  end
  local ssl = estate.scm(e, org).ssl
  local _, err = try(ssl.revoke, ssl, {id = opts.id, serial = opts.serial,
    reason = opts.reason, code = opts.code})
  if err and err.code == "BAD_ARGUMENT" then cli.usage_error(err.message) end
  if err then error(err, 0) end
  print(("certificate %s is revoked"):format(opts.id or opts.serial))
end
