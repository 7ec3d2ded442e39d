description = "Check an estate file, and say what it would do."
usage = "secrun check [--config FILE]"
needs = {write = {}, run = {}}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
}

local cli = require "cli"
local challenges = require "estate_challenge"
local estate = require "estate"
local policy = require "policy"
local renewal = require "renewal"
local schedule_list = require "schedule_list"
local scm_estate = require "scm_estate"
local textable = require "textable"
local time = require "time"

--- Who issues it, and how its names are proven: for SCM the face that the settings use.
local function issuer_of(e, certificate)
  if estate.channel(e, certificate) == "acme" then
    return estate.of(e, certificate, "acme").directory,
      challenges.shown(estate.of(e, certificate, "challenge"))
  end
  local settings = estate.of(e, certificate, "scm")
  return ("SCM, %s face, %s"):format(settings.oauth and "admin" or "classic",
    settings.org or certificate.org or "no organization"), "by SCM"
end

--- What the policies say, as a word and a reason, and the exit status for it.
local function verdict_of(e, certificate)
  local rules = estate.of(e, certificate, "policies")
  local decision, err = try(policy.ask, rules, estate.request(e, certificate),
    {folder = e.folder})
  if not decision then return "cannot be asked: " .. err.message, 2 end
  if decision.verdict == "allow" then return "allow", 0 end
  local text = ("%s: %s (%s)"):format(decision.verdict, decision.reason, decision.rule)
  return text, policy.passes(decision) and 0 or 3
end

--- What `secrun serve` would fire, and when.
local function schedules_of(entries)
  local rows = {}
  for i, entry in ipairs(entries) do
    local fire = entry.schedule:next(time.now())
    rows[i] = {entry.name, tostring(entry.schedule), entry.flow and "flow " .. entry.flow
      or entry.run and table.concat(entry.run, " ") or entry.builtin,
      fire and time.rfc3339(fire) or "never"}
  end
  return rows
end

function main(words)
  local opts, rest = require("options").parse(words, options)
  if rest[1] then
    cli.usage_error(("secrun check takes no names, got %q; it checks the whole file")
      :format(rest[1]))
  end
  local e = estate.load(estate.find(opts.config))
  local rows, status = {}, 0
  for i, certificate in ipairs(e.certificates) do
    local verdict, code = verdict_of(e, certificate)
    if code ~= 0 and status ~= 2 then status = code end
    local ca, challenge = issuer_of(e, certificate)
    rows[i] = {certificate.name, table.concat(certificate.domains, " "), ca, challenge,
      certificate.install.dir,
      certificate.reload and table.concat(certificate.reload, " ") or "nothing", verdict}
  end
  local missing = estate.missing(e)
  print(("%s is well-formed; state is kept in %s, the store is %s")
    :format(e.path, e.state, e.store))
  print(textable.format({"certificate", "names", "CA", "challenge", "installed to",
    "then runs", "policy"}, rows))
  local logins = {}
  for i, login in ipairs(estate.scm_logins(e)) do
    local approver = login.settings.approver
    logins[i] = {login.org, scm_estate.face(login.settings),
      approver and (approver.login or "by " .. (approver.oauth and "client id" or "cert"))
        or "none: requests and approvals by the same login"}
  end
  if logins[1] then
    print(textable.format({"organization", "SCM", "approver"}, logins))
  end
  local entries = schedule_list.read(e.schedules)
  print(textable.format({"schedule", "at", "starts", "next"}, schedules_of(entries)))
  for _, text in ipairs(schedule_list.missing(entries, renewal.folders(e))) do
    missing[#missing + 1] = text
  end
  for _, text in ipairs(missing) do
    io.stderr:write("missing here: ", textable.clean(text), "\n")
  end
  return #missing > 0 and status == 0 and 1 or status
end
