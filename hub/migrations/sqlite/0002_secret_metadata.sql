-- What is known of a secret beside its value. Durations are milliseconds too. Labels and the
-- generator are JSON; the generator says how values are made and holds none.

ALTER TABLE secrets ADD COLUMN labels       TEXT    NOT NULL DEFAULT '[]';
ALTER TABLE secrets ADD COLUMN description  TEXT    NOT NULL DEFAULT '';
ALTER TABLE secrets ADD COLUMN expires_at   INTEGER;
ALTER TABLE secrets ADD COLUMN max_versions INTEGER;
ALTER TABLE secrets ADD COLUMN rotate_every INTEGER;
ALTER TABLE secrets ADD COLUMN generator    TEXT;

-- Whether the nodes were told of the end at `expires_at`. Whoever resolves compares `expires_at`
-- with the time; this only keeps an end from being announced twice.
ALTER TABLE secrets ADD COLUMN expired      INTEGER NOT NULL DEFAULT 0;

-- The ends that are still to be announced, the next one first.
CREATE INDEX secrets_by_end ON secrets (expires_at) WHERE expires_at IS NOT NULL AND expired = 0;
