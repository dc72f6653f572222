-- Secrets that managers outside the hub keep, and the leases of credentials that they make.

-- The manager that is meant where a reference names none; the hub's own when absent.
ALTER TABLE orgs ADD COLUMN default_manager TEXT;

-- The one field of the secret that is bound; `reference` is without it.
ALTER TABLE bindings ADD COLUMN field TEXT;
DROP INDEX bindings_by_service;
CREATE INDEX bindings_by_service ON bindings (org, node, service, name, denied, reference, field);

-- What a manager said of a secret last. The row comes with the first binding, before anybody has
-- asked (`asked` is 0), and goes once nothing binds the secret. `version` is the last that was known
-- good, whatever the trouble is now.
CREATE TABLE observed (
    org         TEXT    NOT NULL REFERENCES orgs (org),
    reference   TEXT    NOT NULL,
    asked       INTEGER NOT NULL,
    effect      TEXT,
    version     TEXT,
    expires_at  INTEGER,
    fault       TEXT,
    detail      TEXT    NOT NULL,
    fault_since INTEGER,
    PRIMARY KEY (org, reference)
) STRICT, WITHOUT ROWID;

CREATE INDEX observed_unasked ON observed (org, reference) WHERE asked = 0;

-- One credential of one binding on one node. A row outlives the deployment and the node: until the
-- credential is dead at its manager. The number is the version that the node knows, so it never
-- comes again.
CREATE TABLE leases (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    org        TEXT    NOT NULL,
    node       TEXT    NOT NULL,
    deployment TEXT    NOT NULL,
    reference  TEXT    NOT NULL,
    current    INTEGER NOT NULL,
    state      TEXT    NOT NULL,
    handle     TEXT,
    epoch      TEXT,
    renewable  INTEGER NOT NULL,
    granted_at INTEGER,
    ends_at    INTEGER,
    attempts   INTEGER NOT NULL,
    fault      TEXT,
    detail     TEXT    NOT NULL,
    fault_since INTEGER,
    created_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX leases_current ON leases (org, node, deployment, reference)
    WHERE current = 1;
CREATE INDEX leases_open ON leases (state) WHERE state <> 'ended';
CREATE INDEX leases_by_org ON leases (org, id);

-- What a manager's backend keeps over restarts, encrypted like a secret's version.
CREATE TABLE manager_sessions (
    manager     TEXT    NOT NULL PRIMARY KEY,
    wrapped_key BLOB    NOT NULL,
    ciphertext  BLOB    NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;
