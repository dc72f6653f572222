-- What leases need beyond their binding: one credential under several names, one node's name for
-- several machines, and an end of the record itself.

-- The manager's own name of the secret, one for all its spellings.
ALTER TABLE observed ADD COLUMN identity TEXT;
ALTER TABLE leases ADD COLUMN identity TEXT;

-- The enrolment of the node that it was wanted for: a machine that enrols under the same name later
-- gets nothing that was made for the one before.
ALTER TABLE leases ADD COLUMN enrolled_at INTEGER;

-- When it was found dead: ended leases are kept for a while, for people.
ALTER TABLE leases ADD COLUMN ended_at INTEGER;
UPDATE leases SET ended_at = coalesce(ends_at, created_at) WHERE state = 'ended';
CREATE INDEX leases_ended ON leases (ended_at) WHERE state = 'ended';
