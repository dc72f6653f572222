-- The pattern (`ORG/NAME`) that a node is on instead of policies, and that a token puts its node on.

ALTER TABLE nodes ADD COLUMN pattern TEXT;
ALTER TABLE tokens ADD COLUMN pattern TEXT;
