-- Which nodes do not have what they should, kept with each change and each report: so that nobody has to walk
-- through the fleet to count them.

-- Since when the node should have what it has not reported to have worked through; absent when there is
-- nothing such.
ALTER TABLE nodes ADD COLUMN behind_since INTEGER;
CREATE INDEX nodes_behind ON nodes (org, behind_since, node)
    WHERE behind_since IS NOT NULL AND revoked = 0;

-- The worst that the report says of a deployment, `failed`, `blocked` or `pending`; absent when all is well.
ALTER TABLE reports ADD COLUMN worst TEXT;
CREATE INDEX reports_unsettled ON reports (org, node) WHERE worst IS NOT NULL;

-- Since when is not known: from now.
UPDATE nodes SET behind_since = CAST(unixepoch('subsec') * 1000 AS INTEGER)
WHERE NOT EXISTS (
    SELECT 1 FROM reports r
    WHERE r.org = nodes.org AND r.node = nodes.node AND r.generation = nodes.generation);

UPDATE reports SET worst = (
    SELECT CASE
        WHEN sum(state = 'failed') > 0 THEN 'failed'
        WHEN sum(state = 'blocked') > 0 THEN 'blocked'
        WHEN sum(state = 'pending') > 0 THEN 'pending'
    END
    FROM (SELECT json_extract(value, '$.state') AS state FROM json_each(document, '$.deployments')));
