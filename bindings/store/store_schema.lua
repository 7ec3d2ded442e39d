--- The schema of the store, as the list of its versions. Each owner of tables adds entries of
--- its own, with the next free number; an entry that was released is never changed.
--
-- The SQL is portable (SQLite, PostgreSQL), several statements separated by semicolons. Types:
-- TEXT (ids, JSON, base64), BIGINT (times in ms, counts, booleans), DOUBLE PRECISION.

return {
  {version = 1, name = "flows", sql = [[
CREATE TABLE code(
  hash TEXT PRIMARY KEY,
  bundle TEXT NOT NULL,
  added_at BIGINT NOT NULL);
CREATE TABLE flow(
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  code TEXT NOT NULL REFERENCES code(hash),
  org TEXT NOT NULL,
  ca TEXT NOT NULL,
  account TEXT NOT NULL,
  priority BIGINT NOT NULL,
  state TEXT NOT NULL CHECK(state IN ('ready', 'running', 'waiting', 'ok', 'failed',
    'cancelled', 'dead')),
  input TEXT NOT NULL,
  output TEXT,
  error TEXT,
  actor TEXT NOT NULL,
  available_at BIGINT NOT NULL,
  wait_topic TEXT,
  wait_since BIGINT,
  wait_until BIGINT,
  lease_owner TEXT,
  lease_until BIGINT,
  fence BIGINT NOT NULL DEFAULT 0,
  claim BIGINT,
  attempts BIGINT NOT NULL DEFAULT 0,
  max_attempts BIGINT NOT NULL,
  stop TEXT,
  deadline BIGINT,
  dedup TEXT,
  parent TEXT,
  forked_from TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  started_at BIGINT,
  finished_at BIGINT);
CREATE UNIQUE INDEX flow_dedup ON flow(dedup)
  WHERE dedup IS NOT NULL AND state NOT IN ('ok', 'failed', 'cancelled', 'dead');
CREATE INDEX flow_due ON flow(priority, available_at) WHERE state IN ('ready', 'waiting');
CREATE INDEX flow_next ON flow(available_at) WHERE state IN ('ready', 'waiting');
CREATE INDEX flow_running ON flow(lease_until) WHERE state = 'running';
CREATE INDEX flow_parent ON flow(parent) WHERE parent IS NOT NULL;
CREATE TABLE step(
  flow TEXT NOT NULL REFERENCES flow(id) ON DELETE CASCADE,
  seq TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  args TEXT,
  args_sha TEXT NOT NULL,
  status TEXT NOT NULL CHECK(status IN ('intent', 'wait', 'retry', 'ok', 'err')),
  idem_key TEXT NOT NULL,
  result TEXT,
  error TEXT,
  attempts BIGINT NOT NULL,
  until BIGINT,
  fence BIGINT NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at BIGINT,
  PRIMARY KEY(flow, seq));
CREATE TABLE msg(
  flow TEXT NOT NULL REFERENCES flow(id) ON DELETE CASCADE,
  n BIGINT NOT NULL,
  topic TEXT NOT NULL,
  idem_key TEXT NOT NULL,
  payload TEXT NOT NULL,
  actor TEXT NOT NULL,
  sent_at BIGINT NOT NULL,
  consumed TEXT,
  PRIMARY KEY(flow, n),
  UNIQUE(flow, topic, idem_key));
CREATE TABLE budget(
  scope TEXT PRIMARY KEY,
  max_running BIGINT,
  rate_max BIGINT,
  rate_period_ms BIGINT,
  tokens DOUBLE PRECISION,
  refilled_at BIGINT);
CREATE TABLE node(
  id TEXT PRIMARY KEY,
  boot_id TEXT NOT NULL,
  version TEXT NOT NULL,
  seen_at BIGINT NOT NULL)]]},
  {version = 2, name = "schedules", sql = [[
CREATE TABLE cron(
  name TEXT PRIMARY KEY,
  at TEXT NOT NULL,
  zone TEXT NOT NULL,
  last_fired BIGINT NOT NULL,
  updated_at BIGINT NOT NULL);
CREATE TABLE leader(
  name TEXT PRIMARY KEY,
  node TEXT NOT NULL,
  fence BIGINT NOT NULL,
  expires_at BIGINT NOT NULL)]]},
  -- Alerts, what is to be told of them, and how their channels fare; bindings/alert.
  {version = 3, name = "alerts", sql = [[
    CREATE TABLE alert (
      id TEXT PRIMARY KEY,
      version BIGINT NOT NULL,
      kind TEXT NOT NULL,
      subject TEXT NOT NULL,
      org TEXT,
      owner TEXT,
      severity TEXT NOT NULL,
      state TEXT NOT NULL,
      message TEXT,
      details TEXT,
      cause TEXT,
      deadline BIGINT,
      episodes BIGINT NOT NULL,
      starts_at BIGINT NOT NULL,
      seen_at BIGINT NOT NULL,
      ends_at BIGINT,
      settles_at BIGINT,
      told_state TEXT,
      told_severity TEXT,
      told_owner TEXT,
      told_at BIGINT,
      told_to TEXT,
      ack_by TEXT,
      ack_until BIGINT,
      ack_severity TEXT,
      ack_comment TEXT,
      notify_at BIGINT
    );
    CREATE INDEX alert_due ON alert (notify_at);
    CREATE TABLE alert_outbox (
      id TEXT PRIMARY KEY,
      channel TEXT NOT NULL,
      state TEXT NOT NULL,
      items TEXT NOT NULL,
      alerts TEXT NOT NULL,
      recipients TEXT,
      created_at BIGINT NOT NULL,
      due_at BIGINT NOT NULL,
      attempts BIGINT NOT NULL,
      fence BIGINT NOT NULL,
      lease_owner TEXT,
      lease_until BIGINT,
      error TEXT,
      reply TEXT,
      sent_at BIGINT
    );
    CREATE INDEX alert_outbox_due ON alert_outbox (state, due_at);
    CREATE TABLE alert_channel (
      name TEXT PRIMARY KEY,
      failures BIGINT NOT NULL,
      failing_since BIGINT,
      failed_at BIGINT,
      ok_at BIGINT,
      next_at BIGINT,
      error TEXT
    );
  ]]},
}
