#!/bin/sh
# No words of unfinished work in what ships.
cd "$(dirname "$0")/../.." || exit 1
if grep -rnEw 'TODO|FIXME|XXX|HACK|for now|not implemented|unimplemented' \
  runtime bindings scripts policies --include='*.[ch]' --include='*.lua'; then
  echo "unfinished work"
  exit 1
fi
