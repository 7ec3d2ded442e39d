--- Rows for people and programs: a table on a terminal, JSON, or CSV.
--
--     print(sheet.format(rows, {"id", "name"}, {csv = true}))
--
-- A cell of a CSV file that a spreadsheet would take for a formula is led by an apostrophe.

local json = require "json"
local textable = require "textable"

local sheet = {}

local function csv_cell(value)
  local text = tostring(value == nil and "" or value)
  if text:find("^[=+%-@\t\r]") and not tonumber(text) then text = "'" .. text end
  if text:find('[",\r\n]') then text = '"' .. text:gsub('"', '""') .. '"' end
  return text
end

local function cells_of(row, fields)
  local cells = {}
  for i, field in ipairs(fields) do cells[i] = row[field] == nil and "" or row[field] end
  return cells
end

--- The rows as text. `heads` names the columns of the table, else the fields do.
---@param rows table[]
---@param fields string[]
---@param options {json: boolean?, csv: boolean?, heads: string[]?}
---@return string
function sheet.format(rows, fields, options)
  if options.json then return json.encode(json.array(rows), {pretty = true}) end
  if not options.csv then
    local lines = {}
    for i, row in ipairs(rows) do lines[i] = cells_of(row, fields) end
    return textable.format(options.heads or fields, lines)
  end
  local lines = {table.concat(fields, ",")}
  for _, row in ipairs(rows) do
    local cells = cells_of(row, fields)
    for i, cell in ipairs(cells) do cells[i] = csv_cell(cell) end
    lines[#lines + 1] = table.concat(cells, ",")
  end
  return table.concat(lines, "\n")
end

return sheet
