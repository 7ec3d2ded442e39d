--- Certificate buckets of discovery: what scans find, and who may see it.

local auth = require "sandbox_auth"
local encoding = require "encoding"
local estate = require "sandbox_estate"
local json = require "json"
local orgs = require "sandbox_orgs"
local ssl_list = require "sandbox_ssl_list"
local wire = require "sandbox_wire"

local buckets = {}

local FIELDS = "name!:s(1..128), assignmentRules:[n], authenticationEnabled:b"
local CREATE = wire.shape("{" .. FIELDS .. ", orgDelegations:[n]}")
local UPDATE = wire.shape("{" .. FIELDS .. "}")
local DELEGATE = wire.shape [[{delegationMode!:s(GLOBAL_FOR_CUSTOMER|CUSTOMIZED),
  orgDelegations:[n]}]]
local ASSIGN = wire.shape [[{hashes!:[s], certType!:s(SSL|SMIME|CodeSign|Device),
  organizationId!:n}]]

local FOUND = 20 -- certificates of the estate that a bucket holds, at most

-- ---------------------------------------------------------------- contents

local function attributes(list)
  local by_type = {}
  for _, attribute in ipairs(list) do by_type[attribute.type] = attribute.value end
  return by_type
end

local function details(call, record)
  local cert = call.state.certs:x509(record)
  local function copy(words) return json.array(table.move(words, 1, #words, 1, {})) end
  return {cn = record.cn, validFrom = wire.date(call, cert.not_before, "ISO_HMS"),
    validTo = wire.date(call, cert.not_after, "ISO_HMS"),
    subject = attributes(cert.subject), issuer = attributes(cert.issuer),
    san = copy(cert.names), keyAlgorithm = cert.key_type:find "^p%d" and "EC" or "RSA",
    keySize = cert.key_bits, signatureAlgorithm = cert.signature_algorithm,
    sn = cert.serial, md5Hash = ssl_list.hash(cert, "md5"),
    sha1Hash = ssl_list.hash(cert, "sha1"), ku = copy(cert.key_usage or {}),
    eku = copy(cert.ext_key_usage or {}), precert = false}
end

--- What scans found: the first issued certificates of the estate, each {hash, record, details}.
local function found(state, bucket_id)
  local list = {}
  if not state.buckets.by_id[bucket_id] then return list end
  for index = 1, math.min(state.certificates, 10 * FOUND) do
    local record = state.certs:get(estate.BASE + index)
    if #list < FOUND and record and record.serial then
      list[#list + 1] = {record = record,
        hash = ssl_list.hash(state.certs:x509(record), "sha256"),
        details = function(call) return details(call, record) end}
    end
  end
  return list
end

function buckets.seed(state)
  local function uses_rule(id)
    for _, bucket in pairs(state.buckets.by_id) do
      for _, rule in ipairs(bucket.rules) do
        if rule == id then return true end
      end
    end
    return false
  end
  state.buckets = {by_id = {}, order = {}, found = found, uses_rule = uses_rule}
  local id = state:uuid "bucket default"
  state.buckets.by_id[id] = {id = id, name = "Default", rules = {}, orgs = {},
    mode = "GLOBAL_FOR_CUSTOMER"}
  state.buckets.order[1] = id
end

-- ---------------------------------------------------------------- showing

local function find(call)
  return call.state.buckets.by_id[call.params.id]
    or wire.missing(-1601, "Certificate bucket was not found")
end

local function copy(list) return json.array(table.move(list, 1, #list, 1, {})) end

local function show(bucket, secret)
  return {id = bucket.id, name = bucket.name, assignmentRules = copy(bucket.rules),
    orgDelegations = copy(bucket.orgs), authenticationEnabled = bucket.client_id ~= nil,
    clientId = bucket.client_id, clientSecret = secret}
end

local function has(list, id)
  for _, one in ipairs(list) do
    if one == id then return true end
  end
  return false
end

local function list(call)
  local rows, name, org = {}, wire.text(call, "name"), wire.number(call, "orgId")
  local mode = wire.text(call, "delegationMode")
  for _, id in ipairs(call.state.buckets.order) do
    local bucket = call.state.buckets.by_id[id]
    if wire.contains(bucket.name, name) and (not org or has(bucket.orgs, org))
      and (not mode or wire.same_word(mode, bucket.mode)) then
      rows[#rows + 1] = {id = id, name = bucket.name}
    end
  end
  return wire.list(call, rows)
end

-- ---------------------------------------------------------------- changing

local function may(call)
  auth.need_master(call, "discovery management")
end

--- A fresh secret for the bucket's client; shown once.
local function new_secret(state, bucket)
  bucket.turn = (bucket.turn or 0) + 1
  bucket.client_id = bucket.client_id or "bucket-" .. bucket.id:sub(1, 8)
  return encoding.base64url_encode(state:bytes(("bucket secret %s %d"):format(bucket.id,
    bucket.turn)):sub(1, 32))
end

local function set_access(state, bucket, enabled)
  if enabled and not bucket.client_id then return new_secret(state, bucket) end
  if enabled == false then bucket.client_id = nil end
end

local function check_orgs(state, ids)
  for _, id in ipairs(ids or {}) do orgs.of_body(state, id) end
end

local function create(call)
  may(call)
  local state, body = call.state, wire.body(call, CREATE)
  check_orgs(state, body.orgDelegations)
  local id = state:uuid("bucket " .. state:next_id "bucket")
  local bucket = {id = id, name = body.name, rules = body.assignmentRules or {},
    orgs = body.orgDelegations or {}, mode = "CUSTOMIZED"}
  state.buckets.by_id[id] = bucket
  state.buckets.order[#state.buckets.order + 1] = id
  local secret = set_access(state, bucket, body.authenticationEnabled)
  return 201, show(bucket, secret), {Location = call.base .. "/api/discovery/v1/bucket/"
    .. id}
end

local function update(call)
  may(call)
  local bucket, body = find(call), wire.body(call, UPDATE)
  bucket.name, bucket.rules = body.name, body.assignmentRules or bucket.rules
  return 200, show(bucket, set_access(call.state, bucket, body.authenticationEnabled))
end

local function reset_secret(call)
  may(call)
  local bucket = find(call)
  if not bucket.client_id then wire.fail(-1601, "Authentication is not enabled") end
  local secret = new_secret(call.state, bucket)
  return 200, {clientId = bucket.client_id, clientSecret = secret}
end

local function delegate(call)
  may(call)
  local bucket, body = find(call), wire.body(call, DELEGATE)
  check_orgs(call.state, body.orgDelegations)
  bucket.mode, bucket.orgs = body.delegationMode, body.orgDelegations or {}
  return 200, show(bucket)
end

local function remove(call)
  may(call)
  local bucket, all = find(call), call.state.buckets
  all.by_id[bucket.id] = nil
  for i, id in ipairs(all.order) do
    if id == bucket.id then table.remove(all.order, i) break end
  end
  return 204
end

local function certificates(call)
  local entries, data = found(call.state, find(call).id), {}
  local position, size = wire.window(call)
  for i = position + 1, math.min(position + size, #entries) do
    data[#data + 1] = {hash = entries[i].hash, details = entries[i].details(call)}
  end
  return 200, {total = #entries, data = json.array(data)}
end

local function run_rules(call)
  may(call)
  local bucket = find(call)
  if #bucket.rules == 0 then wire.fail(-5002, "There are no assignment rules") end
  return 200
end

local function assign(call)
  may(call)
  local bucket, body = find(call), wire.body(call, ASSIGN)
  orgs.of_body(call.state, body.organizationId)
  for _, entry in ipairs(found(call.state, bucket.id)) do
    if has(body.hashes, entry.hash) then
      call.state.certs:edit(entry.record.id).org_id = body.organizationId
    end
  end
  return 200
end

function buckets.routes(routes)
  local base = "/api/discovery/v1/bucket"
  routes:add("GET", base, list)
  routes:add("POST", base, create)
  routes:add("GET", base .. "/{id}", function(call) return 200, show(find(call)) end)
  routes:add("PUT", base .. "/{id}", update)
  routes:add("DELETE", base .. "/{id}", remove)
  routes:add("PUT", base .. "/{id}/reset-client-secret", reset_secret)
  routes:add("PUT", base .. "/{id}/delegations", delegate)
  routes:add("GET", base .. "/{id}/certificates", certificates)
  routes:add("POST", base .. "/{id}/runrules", run_rules)
  routes:add("POST", base .. "/{id}/assign", assign)
end

return buckets
