-- Whether a machine that comes with a certificate of the removed node is told to wipe: not when the node may
-- have been enrolled again since, as after a restore.
ALTER TABLE removed_nodes ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
