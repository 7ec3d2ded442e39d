description = "Renew every certificate that is due."
usage = "secrun renew [--config FILE] [--dry-run] [--force] [--jobs N] [--wait D] [NAME…]"
needs = {}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
  {name = "dry-run", type = "flag", doc = "say what would be done, and do nothing"},
  {name = "force", type = "flag", doc = "renew although it is not due"},
  {name = "jobs", type = "integer", value = "N", positive = true,
    doc = "certificates at once, 8 by default"},
  {name = "wait", type = "duration", value = "D",
    doc = "how long to wait for what is under way, 10m by default; 0 leaves it to serve"},
  {name = "lease", type = "duration", value = "D",
    doc = "until another process takes over what hangs, 30s"},
}

local estate = require "estate"
local renewal_run = require "renewal_run"

function main(words)
  local opts, names = require("options").parse(words, options)
  local e = estate.load(estate.find(opts.config))
  local chosen = estate.select(e, names)
  opts.config = nil
  local rows, status = renewal_run.go(e, chosen, opts)
  print(renewal_run.table(rows))
  return status
end
