description = "List the certificates that SCM has."
usage = [[
secrun inventory [--org NAME] [--expires-within D] [--expired] [--json | --csv]
       [FIELD=GLOB…]      such as status=Issued common_name=*.example.com]]
needs = {}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
  {name = "org", type = "string", value = "NAME", doc = "only what its login sees"},
  {name = "expires-within", type = "duration", value = "D", doc = "30d"},
  {name = "expired", type = "flag", doc = "with those that have expired"},
  {name = "json", type = "flag", doc = "every field, as JSON"},
  {name = "csv", type = "flag", doc = "every field, as CSV"},
}

local cli = require "cli"
local estate = require "estate"
local inventory = require "inventory"
local sheet = require "sheet"
local time = require "time"

--- {"status=Issued"} → {status = "Issued"}
local function where_of(words)
  local where = {}
  for _, word in ipairs(words) do
    local field, glob = word:match("^([%w_]+)=(.*)$")
    if not field then
      cli.usage_error(("%q is not FIELD=GLOB, such as status=Issued"):format(word))
    end
    where[field] = glob
  end
  return where
end

local SHOWN = {"id", "common_name", "org", "profile", "status", "expires", "left"}

--- Times as people and programs read them.
local function dated(row)
  row.left = row.expires and row.expires > time.now()
    and time.show(row.expires - time.now()) or row.expires and "expired" or ""
  for _, field in ipairs{"requested", "expires"} do
    row[field] = row[field] and time.rfc3339(row[field]) or nil
  end
  return row
end

--- A table for a terminal.
local function show(e, filter)
  local rows = inventory.list(e, filter)
  for _, row in ipairs(rows) do dated(row) end
  print(sheet.format(rows, SHOWN, {}))
  print(("%d certificates"):format(#rows))
end

--- Every field, written as it comes.
local function export(e, filter, as_json)
  local writer = sheet.writer(inventory.FIELDS, {json = as_json, write = function(text)
    io.write(text)
  end})
  inventory.each(e, filter, function(row)
    dated(row).left = nil
    writer:row(row)
  end)
  writer:finish()
end

function main(words)
  local opts, rest = require("options").parse(words, options)
  if opts.json and opts.csv then cli.usage_error "give --json or --csv, not both" end
  local e = estate.load(estate.find(opts.config))
  local filter = {org = opts.org, expires_within = opts.expires_within,
    expired = opts.expired, where = where_of(rest)}
  if not (opts.json or opts.csv) then return show(e, filter) end
  return export(e, filter, opts.json)
end
