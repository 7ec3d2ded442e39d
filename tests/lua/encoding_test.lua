-- Text encodings from Lua, with strings and secrets.
local encoding = require "encoding"

local NAMES = {"base64", "base64url", "base32", "hex", "percent", "form"}

test("every byte survives every codec", function(t)
  local bytes = {}
  for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
  local all = table.concat(bytes)
  for _, name in ipairs(NAMES) do
    local text = encoding[name .. "_encode"](all)
    t:equal(encoding[name .. "_decode"](text), all, name)
    t:equal(encoding[name .. "_decode"](encoding[name .. "_encode"] ""), "", name)
  end
end)

test("known texts", function(t)
  t:equal(encoding.base64_encode "fooba", "Zm9vYmE=")
  t:equal(encoding.base64url_encode "\xfb\xff\xfef", "-__-Zg")
  t:equal(encoding.base32_encode "foo", "MZXW6===")
  t:equal(encoding.hex_encode "\x00\xff", "00ff")
  t:equal(encoding.percent_encode "a b/c~", "a%20b%2Fc~")
  t:equal(encoding.form_encode "a b", "a+b")
end)

test("decoders are strict and say where", function(t)
  t:raises(function() encoding.base64_decode "Zg" end, "protocol", "needs 2 '='")
  t:raises(function() encoding.base64url_decode "Zg==" end, "protocol", "character 3")
  t:raises(function() encoding.hex_decode "0x12" end, "protocol", "character 2")
  t:raises(function() encoding.percent_decode "50%" end, "protocol", "%%25")
  t:raises(function() encoding.base64_decode(nil) end, "usage")
end)

test("an EAB key is read in any of its spellings", function(t)
  for _, text in ipairs{"-__-Zg", "+//+Zg==", " -__-Zg==\n"} do
    t:equal(encoding.base64_any_decode(text), "\xfb\xff\xfef")
  end
end)

test("a secret goes in and comes out as a secret", function(t)
  local fs = require "fs"
  local path = t:tmpdir() .. "/key"
  fs.write(path, "c2VjcmV0LWNhbmFyeQ==")
  local key = secret("file:" .. path)
  local plain = encoding.base64_decode(key)
  t:equal(type(plain), "userdata")
  t:equal(tostring(plain), tostring(key))
  t:equal(require("digest").equal(plain, "secret-canary"), true)
end)
