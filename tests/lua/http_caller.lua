--- Raw clients of an HTTP server under test.
--
--     local caller = require "http_caller"
--     local server = caller.serve(t, {handler = caller.echo})
--     t:equal(caller.get(server, "/").status, 200)

local http_server = require "http_server"
local stream = require "stream"

local caller = {}

function caller.serve(t, options)
  if not options.unix then options.listen = options.listen or "127.0.0.1:0" end
  local server = http_server.serve(options)
  t:defer(function() server:close{grace = 0.2} end)
  return server
end

function caller.connect(server, tls)
  local path = server.address:match("^unix:(.*)")
  if path then return stream.connect{unix = path} end
  return stream.connect{host = "127.0.0.1", port = server.port, tls = tls}
end

--- Read one response: status, headers by lower-case name, body.
function caller.response(conn, method)
  local line = conn:read("line", {timeout = "1d"})
  if not line then return nil end
  local r = {status = tonumber(line:match("^HTTP/1%.1 (%d%d%d) ")), headers = {}}
  for header in function() return conn:read("line") end do
    if header == "" then break end
    local name, value = header:match("^([^:]+): *(.*)$")
    r.headers[name:lower()] = value
  end
  if method == "HEAD" or r.status == 204 then return r end
  if r.headers["content-length"] then
    local length = tonumber(r.headers["content-length"])
    r.body = length > 0 and conn:read(length) or ""
  elseif r.headers["transfer-encoding"] == "chunked" then
    local parts = {}
    while true do
      local size = tonumber(conn:read("line"), 16)
      if size > 0 then parts[#parts + 1] = conn:read(size) end
      conn:read("line")
      if size == 0 then break end
    end
    r.body = table.concat(parts)
  else
    r.body = conn:read("all")
  end
  return r
end

function caller.request(method, path, headers, body)
  local lines = {method .. " " .. path .. " HTTP/1.1", "Host: test"}
  for name, value in pairs(headers or {}) do lines[#lines + 1] = name .. ": " .. value end
  if body then lines[#lines + 1] = "Content-Length: " .. #body end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

--- One exchange on a connection of its own.
function caller.ask(server, text, method)
  local conn <close> = caller.connect(server)
  conn:write(text)
  return caller.response(conn, method or text:match("^%u+"))
end

function caller.get(server, path)
  return caller.ask(server, caller.request("GET", path))
end

function caller.echo(req) return req.method .. " " .. req.path .. " " .. req.body end

--- The status that a text gets, nil when it is cut off.
function caller.status_of(server, text)
  local conn <close> = caller.connect(server)
  pcall(conn.write, conn, text)
  local r = caller.response(conn)
  return r and r.status
end

return caller
