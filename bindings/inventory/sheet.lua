--- Rows for people and programs: a table on a terminal, JSON, or CSV.
--
--     print(sheet.format(rows, {"id", "name"}, {json = opts.json}))
--     local writer = sheet.writer({"id", "name"}, {write = io.write})
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

--- The rows as a table for a terminal, or as JSON.
---@param rows table[]
---@param fields string[]
---@param options {json: boolean?}
---@return string
function sheet.format(rows, fields, options)
  if options.json then return json.encode(json.array(rows), {pretty = true}) end
  local lines = {}
  for i, row in ipairs(rows) do lines[i] = cells_of(row, fields) end
  return textable.format(fields, lines)
end

---@class sheet.Writer
local Writer = {}
Writer.__index = Writer

--- Write rows as they come, for exports of any length: CSV, or JSON with `json`.
---@param fields string[]
---@param options {json: boolean?, write: fun(text: string)}
---@return sheet.Writer
function sheet.writer(fields, options)
  local writer = setmetatable({fields = fields, json = options.json,
    write = options.write, count = 0}, Writer)
  if not options.json then writer.write(table.concat(fields, ",") .. "\n") end
  return writer
end

---@param row table
function Writer:row(row)
  self.count = self.count + 1
  if self.json then
    self.write((self.count == 1 and "[\n" or ",\n") .. json.encode(row))
    return
  end
  local cells = cells_of(row, self.fields)
  for i, cell in ipairs(cells) do cells[i] = csv_cell(cell) end
  self.write(table.concat(cells, ",") .. "\n")
end

--- The end of what was written.
function Writer:finish()
  if self.json then self.write(self.count == 0 and "[]\n" or "\n]\n") end
end

return sheet
