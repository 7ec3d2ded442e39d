--- Discovery: scan tasks of three kinds, their operations, and assignment rules.
--
-- A started scan ends after a moment of the sandbox's clock, and finds certificates of the
-- estate in the bucket of its task.

local auth = require "sandbox_auth"
local json = require "json"
local orgs = require "sandbox_orgs"
local wire = require "sandbox_wire"

local discovery = {}

local SCHEDULE = [[name!:s(1..256), certBucketId!:s, frequency!:s(Manual|Daily|Weekly|
  Monthly|Quarterly|SemiAnnually|Annually|Once), timeZone!:s, time!:{hours:n(0..23),
  minutes:n(0..59)}, month:n(0..12), dayOfMonth:n(0..31), dayOfWeek:n(0..7), year:n,
  taskId:n]]

local KINDS = {
  net_task = {shape = "agent!:s, ranges!:[{address:a, ports:a}]",
    fields = {"agent", "ranges"}},
  ad_task = {shape = "agent!:s, depth!:n(<=99), domainDefinition:s(<=255)",
    fields = {"agent", "depth", "domainDefinition"}},
  azure_task = {shape = "azureAccountId:n, resourceGroup:s, keyVault:s",
    fields = {"azureAccountId", "resourceGroup", "keyVault"}},
}
for _, kind in pairs(KINDS) do
  kind.body = wire.shape("{" .. SCHEDULE .. ", " .. kind.shape .. "}")
end

local COMMON = {"name", "frequency", "timeZone", "time", "month", "dayOfMonth",
  "dayOfWeek", "year"}

local TEXTS = {IN_PROCESS = "Scan in process", CANCELED = "Scan CANCELED by user",
  SUCCESSFUL = "Scan completed (Successful)", FAILED = "Scan FAILED",
  PARTIAL_SUCCESSFUL = "Scan completed (Partial SUCCESSFUL)",
  PROCESSING_RESULT = "Scan completed (Processing Result)"}

local SCAN = 30 -- seconds a scan takes

function discovery.seed(state)
  state.discovery = {net_task = {}, ad_task = {}, azure_task = {}, rules = {}}
end

local function may(call)
  auth.need_master(call, "discovery management")
end

-- ---------------------------------------------------------------- operations

--- Let a running operation end.
local function settle(state, operation)
  if operation.status == "in_progress" and state.now() >= operation.created + SCAN then
    operation.status, operation.modified = "completed", operation.created + SCAN
  end
  return operation
end

local WORDS = {in_progress = "IN_PROCESS", completed = "SUCCESSFUL",
  cancelled = "CANCELED"}

--- The constant of a task's status: that of its last operation.
local function status_of(state, task)
  local last = task.operations[#task.operations]
  return last and WORDS[settle(state, last).status] or nil
end

local function show_operation(call, operation)
  settle(call.state, operation)
  return {id = operation.id, status = operation.status, bucketId = operation.bucket_id,
    created = wire.date(call, operation.created, "ISO_HMS"),
    modified = wire.date(call, operation.modified, "ISO_HMS")}
end

-- ---------------------------------------------------------------- tasks

local function tasks_of(call, kind)
  local list = call.state.discovery[kind]
  local id = wire.id(call, call.params.taskId and "taskId" or "id", -1601)
  for i, task in ipairs(list) do
    if task.id == id then return task, i end
  end
  wire.missing(-1601, ("Discovery task with id %d was not found"):format(id))
end

local function take(task, kind, body)
  for _, name in ipairs(COMMON) do task[name] = body[name] end
  for _, name in ipairs(KINDS[kind].fields) do task[name] = body[name] end
  task.bucket_id = body.certBucketId
end

local function too_wide(ranges)
  for _, range in ipairs(ranges or {}) do
    local bits = type(range.address) == "string"
      and tonumber(range.address:match "/(%d+)$")
    if bits and bits > 32 then wire.fail(-304, "The CIDR is not valid") end
    if bits and bits < 16 then wire.fail(-303, "The scan range is too wide") end
  end
end

local function check(call, body)
  too_wide(body.ranges)
  if not call.state.buckets.by_id[body.certBucketId] then
    wire.fail(-1601, "Field ''certBucketId'' has invalid value")
  end
end

local function show(call, kind, task)
  local shown = {status = TEXTS[status_of(call.state, task)] or "null"}
  for _, name in ipairs(COMMON) do shown[name] = task[name] end
  for _, name in ipairs(KINDS[kind].fields) do shown[name] = task[name] end
  if task.ranges then shown.ranges = json.array(table.move(task.ranges, 1, #task.ranges,
    1,
    {})) end
  return shown
end

local function task_handlers(kind)
  local h = {}

  function h.list(call)
    local found, name = {}, wire.text(call, "name")
    local status = wire.text(call, "status")
    for _, task in ipairs(call.state.discovery[kind]) do
      local word = status_of(call.state, task) or "null"
      if wire.contains(task.name, name) and (not status or wire.same_word(status,
        word)) then
        found[#found + 1] = {taskId = task.id, name = task.name,
          status = TEXTS[word] or "null"}
      end
    end
    return wire.list(call, found)
  end

  function h.get(call) return 200, show(call, kind, (tasks_of(call, kind))) end

  function h.create(call)
    may(call)
    local body = wire.body(call, KINDS[kind].body)
    check(call, body)
    local task = {id = call.state:next_id "discovery task", operations = {}}
    take(task, kind, body)
    local list = call.state.discovery[kind]
    list[#list + 1] = task
    return 201, {taskId = task.id}, {Location = ("%s%s/%d"):format(call.base, call.path,
      task.id)}
  end

  function h.update(call)
    may(call)
    local body = wire.body(call, KINDS[kind].body)
    if not call.params.id then call.params.id = tostring(body.taskId) end
    local task = tasks_of(call, kind)
    check(call, body)
    take(task, kind, body)
    return 200
  end

  function h.start(call)
    may(call)
    local task, state = tasks_of(call, kind), call.state
    if status_of(state, task) == "IN_PROCESS" then
      wire.fail(-618, "The scan is already running")
    end
    local number = #task.operations + 1
    task.operations[number] = {id = state:uuid(("operation %d %d"):format(task.id,
      number)),
      status = "in_progress", created = state.now(), modified = state.now(),
      bucket_id = task.bucket_id}
    return 200
  end

  function h.remove(call)
    may(call)
    local _, at = tasks_of(call, kind)
    table.remove(call.state.discovery[kind], at)
    return 204
  end

  return h
end

-- ---------------------------------------------------------------- operations of a task

local function kind_of(call)
  local word = call.params.taskType
  if not KINDS[word] then
    wire.missing(-1601, ("Unknown discovery task type: %s"):format(word))
  end
  return word
end

local function operation_of(call)
  local task = tasks_of(call, kind_of(call))
  for _, operation in ipairs(task.operations) do
    if operation.id == call.params.operationId then
      return settle(call.state, operation)
    end
  end
  wire.missing(-1601, "Discovery operation was not found")
end

local function operations(call)
  local data, task = {}, tasks_of(call, kind_of(call))
  for i, operation in ipairs(task.operations) do data[i] = show_operation(call,
    operation) end
  return 200, {total = #data, data = json.array(data)}
end

local function stop(call)
  may(call)
  local operation = operation_of(call)
  if operation.status == "in_progress" then
    operation.status, operation.modified = "cancelled", call.state.now()
  end
  return 200
end

local function result(call)
  local operation = operation_of(call)
  local position, size = wire.window(call)
  local entries, data = call.state.buckets.found(call.state, operation.bucket_id), {}
  local total = operation.status == "completed" and #entries or 0
  for i = position + 1, math.min(position + size, total) do
    data[#data + 1] = {operation = {id = operation.id,
      created = wire.date(call, operation.created, "ISO_HMS")},
      status = {tlsVersion = 772, handshakeMs = 12, nameLookupMs = 3,
        cipherSuite = "TLS_AES_256_GCM_SHA384"},
      created = wire.date(call, operation.modified, "ISO_HMS"),
      certificate = {hash = entries[i].hash, details = entries[i].details(call),
        metadata = {hidden = false, managedId = tostring(entries[i].record.id),
          discoveryTime = wire.date(call, operation.modified, "ISO_HMS")}},
      location = {type = "NETWORK_HOST", details = {host = entries[i].record.cn,
        port = 443}}}
  end
  return 200, {total = total, data = json.array(data)}
end

-- ---------------------------------------------------------------- assignment rules

local RULE = "name!:s(1..128), orgId!:n(>=1), certType:s(SSL|SMIME|CodeSign|Device), "
  .. "filters:[{filterType:s, matchType:s, value:a}]"
local NEW_RULE = wire.shape("{" .. RULE .. "}")
local CHANGED_RULE = wire.shape("{ruleId!:n(>=1), " .. RULE .. "}")

local function rule(call, id)
  for i, one in ipairs(call.state.discovery.rules) do
    if one.id == id then return one, i end
  end
  wire.missing(-5001, "The assignment rule is not accessible")
end

local function take_rule(call, one, body)
  orgs.of_body(call.state, body.orgId)
  one.name, one.org_id = body.name, body.orgId
  one.cert_type, one.filters = body.certType or "SSL", body.filters or {}
end

local function create_rule(call)
  may(call)
  local body, one = wire.body(call, NEW_RULE), {}
  take_rule(call, one, body)
  one.id = call.state:next_id "assignment rule"
  local rules = call.state.discovery.rules
  rules[#rules + 1] = one
  return wire.created(call, "/api/discovery/v1/assignmentrule/" .. one.id)
end

local function update_rule(call)
  may(call)
  local body = wire.body(call, CHANGED_RULE)
  take_rule(call, (rule(call, body.ruleId)), body)
  return 204
end

local function get_rule(call)
  local one = rule(call, wire.id(call, "ruleId", -5001))
  return 200, {name = one.name, orgId = one.org_id, certType = one.cert_type,
    filters = json.array(table.move(one.filters, 1, #one.filters, 1, {}))}
end

local function list_rules(call)
  local ids = {}
  for i, one in ipairs(call.state.discovery.rules) do ids[i] = one.id end
  local position, size = wire.window(call)
  return 200, json.array(table.move(ids, position + 1, math.min(position + size, #ids), 1,
    {}))
end

local function remove_rule(call)
  may(call)
  local one, at = rule(call, wire.id(call, "ruleId", -5001))
  if call.state.buckets.uses_rule(one.id) then
    wire.fail(-5003, "The assignment rule is in use")
  end
  table.remove(call.state.discovery.rules, at)
  return 204
end

function discovery.routes(routes)
  local versions = {net_task = "v2,v3,v4", ad_task = "v2,v3,v4", azure_task = "v1"}
  for kind, words in pairs(versions) do
    local h, base = task_handlers(kind), ("/api/discovery/%s/%s"):format(words, kind)
    routes:add("GET", base, h.list)
    routes:add("POST", base, h.create)
    if kind ~= "azure_task" then routes:add("PUT", base, h.update) end
    routes:add("PUT", base .. "/{taskId}", h.update)
    routes:add("GET", base .. "/{taskId}", h.get)
    routes:add("DELETE", base .. "/{taskId}", h.remove)
    routes:add("POST", base .. "/{taskId}/start", h.start)
  end
  local operation = "/api/discovery/v1/{taskType}/{taskId}/operation"
  routes:add("GET", operation, operations)
  routes:add("POST", operation .. "/{operationId}/stop", stop)
  routes:add("GET", operation .. "/{operationId}/result", result)
  local base = "/api/discovery/v1/assignmentrule"
  routes:add("GET", base, list_rules)
  routes:add("POST", base, create_rule)
  routes:add("PUT", base, update_rule)
  routes:add("GET", base .. "/count", function(call)
    return 200, {count = #call.state.discovery.rules}
  end)
  routes:add("GET", base .. "/{ruleId}", get_rule)
  routes:add("DELETE", base .. "/{ruleId}", remove_rule)
end

return discovery
