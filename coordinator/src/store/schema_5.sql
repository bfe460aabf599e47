-- What the card of a run knows, kept when its configuration is made: a head that was restored has another site key,
-- and these cannot be derived from that one. Tokens are hashed.
CREATE TABLE card_proofs (
  deployment_id   INTEGER NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
  run             INTEGER NOT NULL,
  -- The public SSH host key as OpenSSH writes it.
  host_key        TEXT NOT NULL,
  booted_hash     BLOB NOT NULL,
  first_boot_hash BLOB NOT NULL,
  PRIMARY KEY (deployment_id, run)
) STRICT;

-- The highest boot number that a board was ever given, whichever node it is, was or will be.
CREATE TABLE boards (
  serial TEXT PRIMARY KEY,
  boot   INTEGER NOT NULL
) STRICT;
INSERT INTO boards (serial, boot) SELECT serial, max(boot) FROM nodes GROUP BY serial;

-- The site key that the boot numbers were given out under, as a hash; one row once a coordinator has served.
CREATE TABLE site_keys (
  id          INTEGER PRIMARY KEY CHECK (id = 1),
  fingerprint BLOB NOT NULL
) STRICT;

-- How much of each agent's log is kept, in bytes, so that only a log that is too long is shortened.
CREATE TABLE agent_log_sizes (
  deployment_id INTEGER NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
  run           INTEGER NOT NULL,
  bytes         INTEGER NOT NULL,
  PRIMARY KEY (deployment_id, run)
) STRICT;
INSERT INTO agent_log_sizes (deployment_id, run, bytes)
  SELECT deployment_id, run, sum(octet_length(line) + 64) FROM agent_lines GROUP BY deployment_id, run;
