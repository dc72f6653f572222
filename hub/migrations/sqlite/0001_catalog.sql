-- The catalog over SQLite. Times are milliseconds since 1970 (UTC); booleans are 0 and 1.
-- Names are kept as text in their canonical form and are parsed again whenever they are read.

CREATE TABLE orgs (
    org      TEXT    NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    org        TEXT    NOT NULL REFERENCES orgs (org),
    user_id    TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (org, user_id)
) STRICT;

CREATE TABLE user_certificates (
    serial    TEXT    NOT NULL PRIMARY KEY,
    org       TEXT    NOT NULL,
    user_id   TEXT    NOT NULL,
    not_after INTEGER NOT NULL,
    FOREIGN KEY (org, user_id) REFERENCES users (org, user_id) ON DELETE CASCADE
) STRICT;

CREATE INDEX user_certificates_by_user ON user_certificates (org, user_id);

CREATE TABLE nodes (
    org         TEXT    NOT NULL REFERENCES orgs (org),
    node        TEXT    NOT NULL,
    owner       TEXT,
    revoked     INTEGER NOT NULL,
    facts       TEXT    NOT NULL,
    sealing_key BLOB    NOT NULL,
    generation  INTEGER NOT NULL,
    enrolled_at INTEGER NOT NULL,
    seen_at     INTEGER,
    PRIMARY KEY (org, node)
) STRICT;

-- Where a node's generation stood when the node was removed: should it enrol again it counts on,
-- so that no agent ever takes an old generation for a new one.
CREATE TABLE removed_nodes (
    org        TEXT    NOT NULL,
    node       TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (org, node)
) STRICT, WITHOUT ROWID;

CREATE TABLE node_certificates (
    serial    TEXT    NOT NULL PRIMARY KEY,
    org       TEXT    NOT NULL,
    node      TEXT    NOT NULL,
    not_after INTEGER NOT NULL,
    FOREIGN KEY (org, node) REFERENCES nodes (org, node) ON DELETE CASCADE
) STRICT;

CREATE INDEX node_certificates_by_node ON node_certificates (org, node);

-- A token may come before its node.
CREATE TABLE tokens (
    hash       BLOB    NOT NULL PRIMARY KEY,
    org        TEXT    NOT NULL REFERENCES orgs (org),
    node       TEXT    NOT NULL,
    owner      TEXT,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;

CREATE INDEX tokens_by_node ON tokens (org, node);

CREATE TABLE services (
    org        TEXT    NOT NULL REFERENCES orgs (org),
    url        TEXT    NOT NULL,
    version    TEXT    NOT NULL,
    arch       TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    document   TEXT    NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (org, url, version, arch)
) STRICT;

CREATE TABLE policies (
    org        TEXT    NOT NULL REFERENCES orgs (org),
    name       TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    document   TEXT    NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (org, name)
) STRICT;

-- `changed` is the node's generation at which the deployment, or the version that one of its
-- bindings resolves to, last became another.
CREATE TABLE deployments (
    org        TEXT    NOT NULL,
    node       TEXT    NOT NULL,
    deployment TEXT    NOT NULL,
    changed    INTEGER NOT NULL,
    document   TEXT    NOT NULL,
    PRIMARY KEY (org, node, deployment),
    FOREIGN KEY (org, node) REFERENCES nodes (org, node) ON DELETE CASCADE
) STRICT;

CREATE INDEX deployments_by_change ON deployments (org, node, changed);

-- One row per candidate of a binding, the most specific with rank 0; a binding without candidates
-- has one row without a reference.
CREATE TABLE bindings (
    org        TEXT    NOT NULL,
    node       TEXT    NOT NULL,
    deployment TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    rank       INTEGER NOT NULL,
    service    TEXT    NOT NULL,
    denied     INTEGER NOT NULL,
    reference  TEXT,
    PRIMARY KEY (org, node, deployment, name, rank),
    FOREIGN KEY (org, node, deployment)
        REFERENCES deployments (org, node, deployment) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- With all the columns that their readers need: otherwise the planner, which knows nothing of the
-- tables' sizes, prefers to walk through a whole organisation by the primary key.
CREATE INDEX bindings_by_service ON bindings (org, node, service, name, denied, reference);
CREATE INDEX bindings_by_reference ON bindings (org, reference, denied);

-- A removed secret keeps its row, without a current version, so that its versions count on.
CREATE TABLE secrets (
    org             TEXT    NOT NULL REFERENCES orgs (org),
    reference       TEXT    NOT NULL,
    current_version INTEGER,
    last_version    INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    updated_by      TEXT    NOT NULL,
    PRIMARY KEY (org, reference)
) STRICT, WITHOUT ROWID;

CREATE TABLE secret_versions (
    org           TEXT    NOT NULL,
    reference     TEXT    NOT NULL,
    version       INTEGER NOT NULL,
    wrapped_key   BLOB    NOT NULL,
    ciphertext    BLOB    NOT NULL,
    fields        TEXT    NOT NULL,
    created_by    TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    restored_from INTEGER,
    PRIMARY KEY (org, reference, version),
    FOREIGN KEY (org, reference) REFERENCES secrets (org, reference)
) STRICT;

CREATE TABLE reports (
    org         TEXT    NOT NULL,
    node        TEXT    NOT NULL,
    generation  INTEGER NOT NULL,
    document    TEXT    NOT NULL,
    reported_at INTEGER NOT NULL,
    PRIMARY KEY (org, node),
    FOREIGN KEY (org, node) REFERENCES nodes (org, node) ON DELETE CASCADE
) STRICT;

CREATE TABLE feed (
    seq        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    org        TEXT    NOT NULL,
    node       TEXT    NOT NULL,
    event      TEXT    NOT NULL,
    generation INTEGER
) STRICT;

-- Append-only, also against mistakes of the hub itself. Refusals may name what does not exist.
CREATE TABLE audit (
    seq         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    org         TEXT    NOT NULL,
    recorded_at INTEGER NOT NULL,
    actor       TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    object      TEXT    NOT NULL,
    result      TEXT    NOT NULL,
    detail      TEXT    NOT NULL,
    peer        TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_by_org ON audit (org, seq);
CREATE INDEX audit_by_time ON audit (org, recorded_at);

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is append-only');
END;

CREATE TRIGGER audit_is_not_cut BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
