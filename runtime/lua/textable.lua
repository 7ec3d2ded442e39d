--- Tables for people: columns as wide as what stands in them.
--
--     print(textable.format({"name", "result"}, {{"www", "renewed"}}))

local textable = {}

--- Text that cannot steer a terminal: control characters become "?".
function textable.clean(text)
  return (tostring(text):gsub("[%c\127]", "?"))
end

local function width_of(text) return utf8.len(text) or #text end

--- A table with a head; the last column is not padded.
---@param head string[]
---@param rows any[][]
---@return string
function textable.format(head, rows)
  local widths, lines = {}, {}
  local shown = {head}
  for _, row in ipairs(rows) do
    local line = {}
    for i = 1, #head do line[i] = textable.clean(row[i] == nil and "" or row[i]) end
    shown[#shown + 1] = line
  end
  for _, row in ipairs(shown) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, width_of(cell)) end
  end
  for n, row in ipairs(shown) do
    local cells = {}
    for i, cell in ipairs(row) do
      cells[i] = i == #row and cell or cell .. (" "):rep(widths[i] - width_of(cell))
    end
    lines[n] = table.concat(cells, "  "):gsub("%s+$", "")
  end
  return table.concat(lines, "\n")
end

return textable
