-- Patterns, and what organisations publish for others to use.

CREATE TABLE patterns (
    org        TEXT    NOT NULL REFERENCES orgs (org),
    name       TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    public     INTEGER NOT NULL,
    document   TEXT    NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (org, name)
) STRICT;

-- Whether other organisations may use it: as its document says.
ALTER TABLE services ADD COLUMN public INTEGER NOT NULL DEFAULT 0;
UPDATE services SET public = 1 WHERE json_extract(document, '$.public') IS 1;
CREATE INDEX services_public ON services (org) WHERE public = 1;
CREATE INDEX patterns_public ON patterns (org) WHERE public = 1;
