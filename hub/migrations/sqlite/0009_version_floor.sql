-- Below which no version of a secret that is new here may be numbered: what was counted after a backup is not
-- known to whoever goes on from it.

ALTER TABLE orgs ADD COLUMN version_floor INTEGER NOT NULL DEFAULT 0;
