-- What luacheck takes for granted here.
std = "lua54"
max_line_length = 90
max_comment_line_length = false -- type annotations cannot be broken
read_globals = {"secret", "try"}
self = false -- methods keep their shape even when they need no self

files["runtime/lua/require.lua"] = {globals = {"require"}}
files["runtime/lua/cli.lua"] = {globals = {"arg", "_G"}}

-- <close> variables are there for their end, not for their value.
ignore = {"211/guard", "211/lock", "211/step", "211/half", "211/server", "211/closer"}

-- The head of a script: fixed globals.
files["scripts"] = {globals = {"description", "usage", "needs", "options", "main", "launch"}}

-- A flow body has run(f, input) in place of main.
files["scripts/flows"] = {globals = {"run"}}

-- A policy is read in the cage, which brings these words.
files["policies"] = {
  globals = {"description", "applies", "check", "tests"},
  read_globals = {"allow", "deny", "warn", "need_approval", "glob", "suffix", "days", "now"},
}

files["tests"] = {read_globals = {"test"}, globals = {"arg"}}
files["tests/escape"] = {std = "lua54", ignore = {".*"}} -- attacks are meant to be odd
