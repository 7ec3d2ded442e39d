--- A raw HTTP peer for tests: says exactly the bytes it is told to.
--
--     local peer = require "http_peer".start(t, function(conn, head) conn:write(…) end)
--     http.get(peer.url .. "/path")     peer.heads[1], peer.connections
--
-- answer(conn, head, n, body) is called for request n; "close" ends the connection.
-- Connections still open are dropped when the test ends.

local stream = require "stream"
local task = require "task"

local M = {}

--- A response with the right length.
function M.reply(status, body, headers)
  local lines = {("HTTP/1.1 %d X"):format(status)}
  for _, line in ipairs(headers or {}) do lines[#lines + 1] = line end
  lines[#lines + 1] = "Content-Length: " .. #body
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
end

local function serve(peer, conn, answer)
  local held <close> = conn
  while true do
    local head = held:read_until "\r\n\r\n"
    if not head then return end
    local count = #peer.heads + 1
    peer.heads[count] = head
    local length = tonumber(head:match "Content%-Length: (%d+)") or 0
    local body = length > 0 and held:read(length) or ""
    if answer(held, head, count, body) == "close" then return end
  end
end

function M.start(t, answer, tls)
  local listener = stream.listen{tls = tls}
  local peer = {heads = {}, connections = 0, port = listener.port,
    host = "127.0.0.1:" .. listener.port}
  peer.url = (tls and "https://" or "http://") .. peer.host
  local running = task.daemon(function()
    local group <close> = task.group()
    while true do
      local ok, conn = pcall(listener.accept, listener)
      if not ok then return end
      peer.connections = peer.connections + 1
      group:spawn(function() pcall(serve, peer, conn, answer) end)
    end
  end)
  t:defer(function()
    running:cancel()
    pcall(running.join, running)
    listener:close()
  end)
  return peer
end

return M
