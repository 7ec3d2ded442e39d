--- Where shipped scripts and policies are: beside the sources while the program runs from
--- its build tree, else share/secrun beside the installed program.

local load_ = require "load"

local shipped = {}

--- The folder of a kind of file, "scripts" or "policies".
---@param kind string
---@return string
function shipped.folder(kind)
  local paths = load_.paths()
  local here = paths.program:match("^(.*)/[^/]*$") or ""
  if here:sub(1, #paths.source + 1) == paths.source .. "/" then
    return paths.source .. "/" .. kind
  end
  local prefix = here:match("^(.*)/bin$")
  return (prefix and prefix .. "/share/secrun" or paths.share) .. "/" .. kind
end

return shipped
