description = "Show the options and the scripts, or what one script does."
usage       = "secrun help [NAME]"

function main(args)
  local cli = require "cli"
  local name = args[1]
  if not name then
    io.write(cli.help())
    return
  end
  local path = require("scripts").find(name)
  if not path then
    cli.usage_error("there is no script " .. name .. "; secrun help lists all")
  end
  io.write(cli.script_help(require("head").read(path), name))
end
