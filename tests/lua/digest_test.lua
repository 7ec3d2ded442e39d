-- Hashes, HMAC, comparison, files off the loop.
local digest = require "digest"
local fs = require "fs"

local ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

test("known digests", function(t)
  t:equal(digest.hex(digest.sha256 "abc"), ABC)
  t:equal(#digest.sha1 "", 20)
  t:equal(#digest.md5 "", 16)
  t:equal(#digest.sha384 "", 48)
  t:equal(#digest.sha512 "", 64)
  t:equal(digest.hex(digest.hmac("sha256", "Jefe", "what do ya want for nothing?")),
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
end)

test("unknown algorithms and empty keys are refused", function(t)
  t:raises(function() digest.hmac("sha3", "k", "d") end, "usage", "sha256, sha384")
  t:raises(function() digest.hmac("sha256", "", "d") end, "usage", "not empty")
  t:raises(function() digest.file("/etc/passwd", "crc") end, "usage", "crc")
end)

test("comparison", function(t)
  t:equal(digest.equal("abc", "abc"), true)
  t:equal(digest.equal("abc", "abd"), false)
  t:equal(digest.equal("abc", "abcd"), false)
end)

test("random bytes come in the number asked for", function(t)
  t:equal(#digest.random(32), 32)
  t:equal(digest.random(32) == digest.random(32), false)
  t:raises(function() digest.random(0) end, "usage", "1 to 65536")
  t:raises(function() digest.random(1 << 20) end, "usage", "1 to 65536")
end)

test("a file is hashed off the loop", function(t)
  local path = t:tmpdir() .. "/abc"
  fs.write(path, "abc")
  t:equal(digest.hex(digest.file(path)), ABC)
  t:equal(digest.file(path, "md5"), digest.md5 "abc")
  t:raises(function() digest.file(path .. "x") end, "not_found", "abcx")
  t:raises(function() digest.file(path .. "\0x") end, "usage", "NUL")
end)
