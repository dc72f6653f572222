-- Nodes on public patterns of other organisations, and what must be placed anew for them.

-- The organisation whose pattern a node is on, from the pattern's `ORG/NAME`.
ALTER TABLE nodes ADD COLUMN pattern_org TEXT
    GENERATED ALWAYS AS (substr(pattern, 1, instr(pattern, '/') - 1)) VIRTUAL;
CREATE INDEX nodes_on_foreign_patterns ON nodes (pattern_org, pattern, org)
    WHERE pattern IS NOT NULL AND pattern_org <> org;

-- Counts the changes of what an organisation publishes for others.
ALTER TABLE orgs ADD COLUMN published INTEGER NOT NULL DEFAULT 0;

-- Nodes of `org` are on patterns of `publisher` and were not placed anew since what that publishes
-- became the one counted by `published`. Comes with the change, in its transaction, and goes with the
-- placement.
CREATE TABLE behind (
    org       TEXT    NOT NULL REFERENCES orgs (org),
    publisher TEXT    NOT NULL REFERENCES orgs (org),
    published INTEGER NOT NULL,
    since     INTEGER NOT NULL,
    PRIMARY KEY (org, publisher)
) STRICT, WITHOUT ROWID;

-- A hub before this one put nodes on no such patterns; should its database say otherwise, they are
-- placed now.
INSERT INTO behind (org, publisher, published, since)
SELECT DISTINCT n.org, n.pattern_org, 0, 0 FROM nodes n JOIN orgs o ON o.org = n.pattern_org
WHERE n.pattern IS NOT NULL AND n.pattern_org <> n.org;
