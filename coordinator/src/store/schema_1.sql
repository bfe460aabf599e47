CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
  name       TEXT PRIMARY KEY,
  role       TEXT NOT NULL,
  token_hash BLOB NOT NULL UNIQUE,
  created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE switches (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  name        TEXT NOT NULL UNIQUE,
  driver      TEXT NOT NULL,
  off_time_ms INTEGER NOT NULL,
  -- Outlets that nobody switches, as a JSON list.
  protected   TEXT NOT NULL,
  budget_watts INTEGER,
  -- For how long it said that it had been running, and when: how a restart is known after one of ours.
  uptime_ms   INTEGER,
  uptime_at_ms INTEGER
) STRICT;

CREATE TABLE nodes (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  name         TEXT NOT NULL,
  serial       TEXT NOT NULL,
  -- What firmware shows of the serial number: two nodes with equal last 8 digits could not be told apart.
  serial_short TEXT NOT NULL,
  mac          TEXT NOT NULL,
  model        TEXT NOT NULL,
  switch_id    INTEGER NOT NULL REFERENCES switches (id),
  port         TEXT NOT NULL,
  watts        INTEGER,
  ip           TEXT,
  -- The serial device at the node's UART, as JSON in the words of the inventory.
  console      TEXT,
  -- A JSON list.
  labels       TEXT NOT NULL DEFAULT '[]',
  -- Why nobody gets it, who said so, and since when.
  out_reason   TEXT,
  out_by       TEXT,
  out_ms       INTEGER,
  -- Since when it is no node any more; what was done with it stays known.
  retired_ms   INTEGER,
  boot         INTEGER NOT NULL DEFAULT 0,
  -- The wipe that the card owes to the user who had it last, and who that was.
  owes         TEXT,
  used_by      TEXT
) STRICT;

CREATE UNIQUE INDEX node_names ON nodes (name) WHERE retired_ms IS NULL;
CREATE UNIQUE INDEX node_serials ON nodes (serial) WHERE retired_ms IS NULL;
CREATE UNIQUE INDEX node_short_serials ON nodes (serial_short) WHERE retired_ms IS NULL;
CREATE UNIQUE INDEX node_macs ON nodes (mac) WHERE retired_ms IS NULL;
CREATE UNIQUE INDEX node_addresses ON nodes (ip) WHERE retired_ms IS NULL;
CREATE UNIQUE INDEX node_ports ON nodes (switch_id, port) WHERE retired_ms IS NULL;

CREATE TABLE environments (
  name            TEXT PRIMARY KEY,
  manifest        BLOB NOT NULL,
  image_bytes     INTEGER NOT NULL,
  family          TEXT NOT NULL,
  family_evidence TEXT NOT NULL,
  architecture    TEXT,
  added_ms        INTEGER NOT NULL
) STRICT;

CREATE TABLE reservations (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  owner    TEXT NOT NULL REFERENCES users (name),
  from_ms  INTEGER NOT NULL,
  until_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE holds (
  reservation_id INTEGER NOT NULL REFERENCES reservations (id),
  node_id        INTEGER NOT NULL REFERENCES nodes (id),
  from_ms        INTEGER NOT NULL,
  until_ms       INTEGER NOT NULL,
  ended_ms       INTEGER,
  PRIMARY KEY (reservation_id, node_id)
) STRICT;

-- Two users never hold one node for overlapping times, whatever the program above believes.
CREATE TRIGGER holds_do_not_overlap BEFORE INSERT ON holds
WHEN EXISTS (
  SELECT 1 FROM holds
  WHERE node_id = NEW.node_id AND ended_ms IS NULL AND from_ms < NEW.until_ms AND until_ms > NEW.from_ms
)
BEGIN
  SELECT RAISE(ABORT, 'holds overlap');
END;

CREATE TABLE deployments (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  node_id        INTEGER NOT NULL REFERENCES nodes (id),
  reservation_id INTEGER NOT NULL REFERENCES reservations (id),
  -- Until when the form may stay open.
  form_until_ms  INTEGER NOT NULL,
  form           TEXT,
  run            INTEGER NOT NULL,
  seq            INTEGER NOT NULL,
  boot           INTEGER NOT NULL,
  registered     TEXT NOT NULL,
  attempt        INTEGER NOT NULL,
  resumed        INTEGER NOT NULL,
  restarts       INTEGER NOT NULL,
  sent_back      INTEGER NOT NULL,
  kernel         TEXT,
  script_started INTEGER NOT NULL,
  evidence       TEXT,
  owes           TEXT,
  owes_now       INTEGER NOT NULL,
  process        TEXT NOT NULL,
  state          TEXT NOT NULL,
  phase          TEXT,
  cause_name     TEXT,
  cause_seen     TEXT,
  -- When the present state was entered; calendar time, for people.
  since_ms       INTEGER NOT NULL
) STRICT;

-- One live deployment a node.
CREATE UNIQUE INDEX deployments_live ON deployments (node_id) WHERE state <> 'ended';

CREATE TABLE journal (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  unix_ms       INTEGER NOT NULL,
  actor         TEXT NOT NULL,
  what          TEXT NOT NULL,
  node_id       INTEGER REFERENCES nodes (id),
  deployment_id INTEGER REFERENCES deployments (id),
  run           INTEGER,
  seq           INTEGER,
  process       TEXT,
  state         TEXT,
  phase         TEXT,
  cause_name    TEXT,
  cause_seen    TEXT,
  detail        TEXT
) STRICT;

CREATE INDEX journal_by_deployment ON journal (deployment_id, id);
CREATE INDEX journal_by_node ON journal (node_id, id);

-- What the first boot of a run told of the user's script: the end of its output.
CREATE TABLE script_outputs (
  deployment_id INTEGER NOT NULL REFERENCES deployments (id),
  run           INTEGER NOT NULL,
  exit_code     INTEGER NOT NULL,
  output        BLOB NOT NULL,
  unix_ms       INTEGER NOT NULL,
  PRIMARY KEY (deployment_id, run)
) STRICT;

-- What the agent of a boot said of itself, as JSON in the words of the wire.
CREATE TABLE agent_hellos (
  deployment_id INTEGER NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
  run           INTEGER NOT NULL,
  boot          INTEGER NOT NULL,
  hello         TEXT NOT NULL,
  unix_ms       INTEGER NOT NULL,
  PRIMARY KEY (deployment_id, run, boot)
) STRICT;

-- Memory cards by their identification register, and what they did for us. They outlive nodes and deployments.
CREATE TABLE cards (
  cid           TEXT PRIMARY KEY,
  bytes         INTEGER NOT NULL,
  node          TEXT NOT NULL,
  first_unix_ms INTEGER NOT NULL,
  last_unix_ms  INTEGER NOT NULL
) STRICT;

CREATE TABLE card_events (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  cid           TEXT NOT NULL REFERENCES cards (cid) ON DELETE CASCADE,
  node          TEXT NOT NULL,
  deployment    INTEGER NOT NULL,
  run           INTEGER NOT NULL,
  seq           INTEGER NOT NULL,
  unix_ms       INTEGER NOT NULL,
  -- None: it wrote. Else the name of the cause.
  cause         TEXT,
  seen          TEXT NOT NULL,
  bytes         INTEGER NOT NULL,
  busy_ms       INTEGER NOT NULL
) STRICT;
-- What is told twice is kept once.
CREATE UNIQUE INDEX card_events_of_ticket ON card_events (deployment, run, seq, ifnull(cause, ''));
CREATE INDEX card_events_of_card ON card_events (cid, unix_ms);

-- The agents' own logs; a bounded end of each run's.
CREATE TABLE agent_lines (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  deployment_id INTEGER NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
  run           INTEGER NOT NULL,
  boot          INTEGER NOT NULL,
  -- Microseconds since that boot: tells lines apart that are told twice.
  boot_us       INTEGER NOT NULL,
  -- The same in calendar time, for people.
  unix_ms       INTEGER NOT NULL,
  line          TEXT NOT NULL,
  UNIQUE (deployment_id, run, boot, boot_us)
) STRICT;

-- The end of the node's console when a run came to a bad end; without the secrets of its boot.
CREATE TABLE console_ends (
  deployment_id INTEGER NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
  run           INTEGER NOT NULL,
  said          BLOB NOT NULL,
  unix_ms       INTEGER NOT NULL,
  PRIMARY KEY (deployment_id, run)
) STRICT;
