description = "Run the tests in *_test.lua files."
usage       = "secrun test [--filter TEXT] [--list] [--verbose] [--slow] [PATH…]"

function main(args)
  return require("test").main(args)
end
