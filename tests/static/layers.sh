#!/bin/sh
# Direction of knowledge: scripts, policies → Lua layer → bindings → runtime → Lua, libuv.
# Prints each include or require against it; exit status 1 if there is one.
cd "$(dirname "$0")/../.." || exit 1
found=$(mktemp)
edges=$(mktemp)
trap 'rm -f "$found" "$edges"' EXIT

against() { printf '%s: %s\n' "$1" "$2" >>"$found"; }

# includes FILE… → "FILE HEADER" for "…", "FILE <HEADER" for <…>
includes() {
  grep -HoE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<][^">]+' "$@" |
    sed -E 's/:[^"<]*"/ /; s/:[^"<]*</ </'
}

# requires FILE… → "FILE MODULE", however the call is written
requires() {
  grep -HoE "require[[:space:](,]*([\"']|\[\[)[A-Za-z0-9_./]+" "$@" |
    sed -E "s/:require[^\"'[]*[\"'[]+/ /"
}

# who may include what; our own headers stand in quotes, named from runtime/, from bindings/
# or from the file's own folder
includes runtime/*.[ch] bindings/*.[ch] bindings/*/*.[ch] | {
  while read -r file header; do
    case $header in
    *.c) against "$file" "includes the source $header" ;;
    *..*) against "$file" "leaves its folder with $header" ;;
    \<*)
      header=${header#<}
      [ -e "runtime/$header" ] || [ -e "bindings/$header" ] || [ -e "${file%/*}/$header" ] &&
        against "$file" "$header is ours and stands in quotes" ;;
    *)
      case $file in
      runtime/*)
        [ -e "runtime/$header" ] || against "$file" "the runtime knows no binding: $header" ;;
      *)
        domain=${file#bindings/} domain=${domain%%/*}
        if [ -e "${file%/*}/$header" ]; then :
        elif [ -e "bindings/$header" ]; then
          case $header in */*) echo "$domain ${header%%/*}" >>"$edges" ;; esac
        else # a binding sees the contract only, not the inside of the runtime
          case $header in
          secrun.h | base.h | compat.h | cage.h) ;;
          *) against "$file" "$header is not the contract of the runtime" ;;
          esac
        fi ;;
      esac ;;
    esac
  done
}

# pure code knows neither Lua nor the loop, not even through another header (it must
# preprocess without the folder of Lua's headers)
for file in bindings/*/*_msg.c bindings/*/jose.c bindings/data/encoding.c \
  bindings/dcv/dns_name.c bindings/dcv/tsig.c; do
  seen=$(cc -M -D_GNU_SOURCE -Iruntime -Ibindings "$file") ||
    against "$file" "does not preprocess"
  for header in $seen; do
    case $header in
    */lua.h | */lauxlib.h | */uv.h | */secrun.h) against "$file" "is pure, yet sees $header" ;;
    esac
  done
done

# modules: those of bindings (C ones from open.c), and the folder of each Lua layer
theirs=" $(sed -nE 's/^ *\{"([a-z0-9_.]+)".*/\1/p' bindings/open.c | tr '\n' ' ')"
for file in bindings/*/*.lua; do theirs="$theirs$(basename "$file" .lua) "; done
requires runtime/lua/*.lua bindings/*/*.lua scripts/*.lua policies/*.lua | {
  while read -r file module; do
    case $file in
    runtime/*)
      case $theirs in *" $module "*) against "$file" "the runtime requires $module" ;; esac ;;
    bindings/*)
      layer=$(echo bindings/*/"$module.lua") domain=${file#bindings/}
      if [ -e "$layer" ]; then
        layer=${layer#bindings/}
        echo "${domain%%/*} ${layer%%/*}" >>"$edges"
      elif [ -e "scripts/$module.lua" ] || [ -e "policies/$module.lua" ]; then
        case $theirs in *" $module "*) ;; *)
          [ -e "runtime/lua/$module.lua" ] || against "$file" "names the script $module" ;;
        esac
      fi
      case $module in scripts[./]* | policies[./]*) against "$file" "names $module" ;; esac ;;
    *)
      case $module in *.core) against "$file" "goes past the Lua layer to $module" ;; esac ;;
    esac
  done
}

# the domains of bindings know each other in one direction
tsort "$edges" >/dev/null 2>>"$found"

if [ -s "$found" ]; then
  echo "against the direction of knowledge:"
  cat "$found"
  exit 1
fi
