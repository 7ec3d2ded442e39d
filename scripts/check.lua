description = "Check an estate file, and say what it would do."
usage = "secrun check [--config FILE]"
needs = {write = {}, run = {}}

local estate = require "estate"
local options = require "options"
local policy = require "policy"
local textable = require "textable"

local OPTIONS = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
}

local function challenge_of(e, certificate)
  local challenge = estate.of(e, certificate, "challenge")
  if challenge.webroot then return "http-01 by " .. challenge.webroot end
  return "http-01 on " .. challenge.listen
end

local function verdict_of(e, certificate)
  local rules = estate.of(e, certificate, "policies")
  local decision = policy.ask(rules, estate.request(e, certificate), {folder = e.folder})
  if decision.verdict == "allow" then return "allow" end
  return ("%s: %s (%s)"):format(decision.verdict, decision.reason, decision.rule)
end

function main(words)
  local opts = options.parse(words, OPTIONS)
  local e = estate.load(estate.find(opts.config))
  local rows, status = {}, 0
  for i, certificate in ipairs(e.certificates) do
    local verdict = verdict_of(e, certificate)
    if verdict:find("^deny") then status = 3 end
    rows[i] = {certificate.name, table.concat(certificate.domains, " "),
      estate.of(e, certificate, "acme").directory, challenge_of(e, certificate),
      certificate.install.dir,
      certificate.reload and table.concat(certificate.reload, " ") or "nothing", verdict}
  end
  print(e.path .. " is well-formed; state is kept in " .. e.state)
  print(textable.format({"certificate", "names", "CA", "challenge", "installed to",
    "then runs", "policy"}, rows))
  return status
end
