--- From names to a checked chain, killed and resumed at any point.
--
--     local result = account:issue{names = names, solver = solver, state_dir = dir}
--     install(result.pem, result.key)
--     result:done()
--
-- Order of things: key on disk, newOrder, order URL and CSR on disk, all challenges in
-- place, then answered, finalize, chain checked, chain on disk. A later run with the same
-- names, account and key type goes on where the last one stopped, with the same key.
--
-- Known hole: killed after the CA took newOrder and before its URL is on disk, the next
-- run orders again. Nothing was issued from the first order, as finalize never went out.

local args = require "args"
local client = require "acme_client"
local core = require "acme.core"
local errors = require "errors"
local log = require "log"
local order_file = require "order_file"
local task = require "task"
local time = require "time"
local x509 = require "x509"

local issue = {}

---@class acme.Result
---@field chain x509.cert[] leaf first
---@field key x509.key
---@field pem string the chain as PEM
---@field order_url string
local Result = {}
Result.__index = Result

--- The certificate is installed: forget order, key and chain in state_dir. Until then the
--- same issue returns the same certificate without asking the CA.
function Result:done()
  local file <close> = order_file.open(self.state_dir)
  file:done()
end

--- One issuance under way.
local Run = {}
Run.__index = Run

-------------------------------------------------------------------- what is on disk

--- Whether the stored order is the one that would be placed now.
function Run:fits(record)
  local options, account = self.options, self.account
  return record.directory == account.client.url and record.account == account:url()
    and table.concat(record.names, " ") == table.concat(self.names, " ")
    and record.profile == options.profile
    and (options.key ~= nil or record.key_type == self.key_type)
end

--- Load key and order of an earlier run, as far as they fit.
function Run:load()
  local record = self.file:load()
  local key = self.file:stored_key(self.key_type)
  local own = self.options.key
  if own and key and key.spki_sha256 ~= own.spki_sha256 then key = nil end
  self.key, self.spki = key, key and key.spki_sha256
  if not record then return end
  if key and self.spki == record.spki_sha256 and self:fits(record) then
    self.record = record
  else
    self.file:forget()
    self.step("forgotten", record.order)
  end
end

--- The chain that an earlier run stored, if it is still good.
function Run:stored_result()
  local pem = self.record and self.file:chain()
  if not pem then return nil end
  local result, err = try(self.result, self, pem)
  if result then return result end
  log.warn(("%s: the stored chain is of no use: %s"):format(self.file.dir, tostring(err)))
  self.file:drop_chain()
end

--- The stored order as the CA sees it now; nil when it is no longer of use.
function Run:stored_order()
  if not self.record then return nil end
  local order, err = try(self.account.open_order, self.account, self.record.order)
  if not order and (client.is_transient(err) or not err.status or err.status >= 500) then
    error(err, 0)
  end
  local why = not order and tostring(err) or nil
  if order and order.status == "invalid" then why = "it is invalid" end
  if order and order.status ~= "valid" and (order.expires or math.huge) <= time.now() then
    why = "it has expired"
  end
  if order and not why and not pcall(order.check_names, order, self.names) then
    why = "it has other names"
  end
  if not why then return order end
  log.info(("%s: order %s is not resumed: %s"):format(self.file.dir, self.record.order,
    why))
  self.file:forget()
  self.step("forgotten", self.record.order)
  self.record = nil
end

--- The key, on disk before anything is ordered for it.
function Run:prepare_key()
  if self.key then return end
  self.key = self.options.key or x509.key{type = self.key_type}
  self.spki = self.key.spki_sha256
  self.file:save_key(self.key)
end

--- The CSR; the stored one while its order lives, so that finalize repeats its bytes.
function Run:prepare_csr()
  self.csr = self.record and self.record.csr
  if self.csr then return end
  self.csr = x509.csr{key = self.key, names = self.names}:pem()
end

function Run:place_order()
  local options = self.options
  local order = self.account:order{names = self.names, profile = options.profile,
    not_after = options.not_after}
  self.step("ordered", order.url)
  self.file:save{directory = self.account.client.url, account = self.account:url(),
    order = order.url, names = self.names, key_type = self.key.type,
    spki_sha256 = self.spki, profile = options.profile, csr = self.csr,
    expires = order.expires}
  return order
end

-------------------------------------------------------------------- the order

--- Drive the order from whatever state it is in to its chain.
function Run:drive(order)
  order:authorize{solver = self.options.solver, resumed = self.resumed,
    on_step = self.step}
  self.step(order.status, order.url)
  if order.status == "ready" then
    order:finalize(self.csr)
    self.step("finalized", order.url)
  end
  order:wait("valid")
  self.step("issued", order.url)
  local pem = order:certificate{prefer = self.options.prefer_chain}
  self.step("downloaded", order.url)
  local result = self:result(pem)
  self.file:save_chain(result.pem)
  self.step("stored", order.url)
  return result
end

--- Check a chain against key, names and clock, and make the result of it.
function Run:result(pem)
  local blocks, chain =
    self.account:check_chain{pem = pem, key = self.key, names = self.names}
  return setmetatable({chain = chain, key = self.key, pem = table.concat(blocks),
    order_url = self.order_url, state_dir = self.file.dir}, Result)
end

--- Find or place the order and drive it; an order of an earlier run that turns out to be
--- dead is replaced once.
function Run:go()
  self:load()
  self.order_url = self.record and self.record.order
  local stored = self:stored_result()
  if stored then return stored end
  local order = self:stored_order()
  self.resumed = order ~= nil
  for _ = 1, 2 do
    self:prepare_key()
    self.step("key", self.spki)
    self:prepare_csr()
    self.step("csr")
    order = order or self:place_order()
    self.order_url = order.url
    self.step(self.resumed and "resumed" or "placed", order.url)
    local ok, result = pcall(self.drive, self, order)
    if ok then return result end
    if not errors.object(result).final then error(result, 0) end
    self.file:forget()
    self.step("forgotten", order.url)
    if not self.resumed then error(result, 0) end
    order, self.resumed, self.record = nil, false, nil
  end
end

local ISSUE = {
  {name = "names", type = "list", required = true, choices = "string",
    doc = "DNS names and IP addresses"},
  {name = "key_type", type = "string", doc = "of the new key (p256)"},
  {name = "key", type = "any", doc = "a key of your own instead"},
  {name = "solver", type = "any", required = true, doc = "acme.http01{…} or your own"},
  {name = "state_dir", type = "string", required = true, nonempty = true,
    doc = "folder of this certificate's order and key"},
  {name = "timeout", type = "duration", doc = "for everything (10m)"},
  {name = "profile", type = "string", nonempty = true, doc = "profile of the CA"},
  {name = "not_after", type = "number", doc = "wished end of validity, UTC seconds"},
  {name = "prefer_chain", type = "table",
    doc = "{issuer =}, {fingerprint =} or {aki =}, where the CA offers several chains"},
  {name = "on_step", type = "function", doc = "called with (step, detail) after each"},
}

--- Issue one certificate. A solver is a table with `type`, present(self, authorization,
--- challenge, key_authorization) and cleanup(self, authorization, challenge); with wait(self,
--- items), it is called once when all are presented and before any is answered.
--- Raises pending with retry_after when the CA needs longer than a minute at a time, and
--- whatever the CA's problem maps to; state_dir is kept, the next run goes on from there.
---@param account acme.Account
---@param options {names: string[], key_type: string?, key: x509.key?, solver: table,
---  state_dir: string, timeout: string|number?, profile: string?, not_after: number?,
---  prefer_chain: table?, on_step: fun(step: string, detail: string?)?}
---@return acme.Result
function issue.run(account, options)
  options = args.check("acme.issue", ISSUE, options)
  local names = core.names(options.names)
  if #names == 0 then errors.raise("usage", "acme.issue: `names` is empty") end
  require("acme_chain_choice").check(options.prefer_chain)
  return task.timeout(options.timeout or "10m", function()
    local file <close> = order_file.open(options.state_dir)
    local run = setmetatable({account = account, options = options, names = names,
      file = file,
      key_type = not options.key and (options.key_type or "p256") or nil,
      step = options.on_step or function() end}, Run)
    return run:go()
  end)
end

return issue
