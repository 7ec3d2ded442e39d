# embed.cmake – turn Lua files into the sr_sources[] table.
#   cmake -DOUT=… -DROOT=… "-DFILES=a.lua;b.lua" -P embed.cmake
set(arrays "")
set(table "")
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME_WE)
  file(RELATIVE_PATH shown ${ROOT} ${file})
  file(READ ${file} hex HEX)
  string(LENGTH "${hex}" digits)
  math(EXPR len "${digits} / 2")
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(APPEND arrays "static const unsigned char lua_${name}[] = {${bytes}0};\n")
  string(APPEND table
    "    {\"${name}\", \"@${shown}\", (const char *)lua_${name}, ${len}},\n")
endforeach()
file(WRITE ${OUT} "#include \"secrun.h\"\n\n${arrays}
const sr_source sr_sources[] = {\n${table}    {0}};\n")
