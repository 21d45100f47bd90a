-- Segmentations: runs, members, scores. {schema} is `visible`, where row security shows what the reader may see, or
-- `public`; other placeholders in braces are our own fragments.

-- name: begin_run
-- A run is going on from now on; nothing where it was cancelled, or has ended.
UPDATE segmentation_runs SET status = 'running', started_at = now(), finished_at = NULL, error = NULL, progress = '{}'
WHERE id = %s AND status IN ('queued', 'running') RETURNING id

-- name: tell_run
-- How far a run is; nothing where it was cancelled.
UPDATE segmentation_runs SET progress = %s WHERE id = %s AND status = 'running' RETURNING id

-- name: fail_run
UPDATE segmentation_runs SET status = 'failed', error = %s, finished_at = now() WHERE id = %s AND status = 'running'

-- name: finish_run
-- The last step of a run's transaction; nothing where it was cancelled meanwhile.
UPDATE segmentation_runs SET status = 'done', finished_at = clock_timestamp(), code_version = :code_version,
  data_version = :data_version, result_version = :result_version, score_names = CAST(:score_names AS text[]),
  customers = CAST(:customers AS bigint), results = CAST(:results AS jsonb), progress = CAST(:progress AS jsonb)
WHERE id = CAST(:run_id AS bigint) AND status = 'running' RETURNING id

-- name: empty_run
-- Members and scores of a run that is worked through again.
WITH gone AS (DELETE FROM segment_members WHERE run_id = CAST(:run_id AS bigint))
DELETE FROM scores WHERE run_id = CAST(:run_id AS bigint)

-- name: next_number
SELECT coalesce(max(number), 0) + 1 FROM segmentation_runs WHERE segmentation_id = CAST(:segmentation_id AS bigint)

-- name: forget_runs
-- Runs whose members and scores are deleted to make room: neither published, nor one of the newest that are done.
UPDATE segmentation_runs r SET kept = false
WHERE r.segmentation_id = CAST(:segmentation_id AS bigint) AND r.kept AND r.status = 'done'
  AND r.id IS DISTINCT FROM (SELECT current_run_id FROM segmentations WHERE id = CAST(:segmentation_id AS bigint))
  AND r.id NOT IN (SELECT n.id FROM segmentation_runs n WHERE n.segmentation_id = CAST(:segmentation_id AS bigint)
                   AND n.status = 'done' ORDER BY n.number DESC LIMIT CAST(:keep AS bigint))
RETURNING r.id

-- name: forgettable_cutoffs
-- Cutoffs of runs that no other run needs which could still be compared or published.
SELECT DISTINCT f.cutoff FROM feature_cutoffs f JOIN segmentation_runs r ON r.cutoff = f.cutoff
WHERE NOT EXISTS (SELECT FROM segmentation_runs o WHERE o.cutoff = f.cutoff AND o.kept AND o.status NOT IN ('failed', 'cancelled'))

-- name: needed_cutoffs
-- Cutoffs at which runs stand that could still be compared or published, and analyses.
SELECT cutoff FROM segmentation_runs WHERE kept AND status NOT IN ('failed', 'cancelled')
UNION SELECT cutoff FROM analyses WHERE status NOT IN ('failed', 'cancelled')

-- name: going_on
-- Other runs that wait or are going on: what they read is needed.
SELECT g.method, r.cutoff, r.parameters FROM segmentation_runs r JOIN segmentations g ON g.id = r.segmentation_id
WHERE r.status IN ('queued', 'running') AND r.id <> CAST(:run_id AS bigint)

-- name: copy_members
COPY (SELECT customer_id, segment_id FROM segment_members WHERE run_id = %(run_id)s ORDER BY customer_id)
TO STDOUT (FORMAT binary)

-- name: lookups_to_move
-- Customers on whose lookup rows another segment stands than they are in now.
INSERT INTO changed_customers
SELECT DISTINCT l.customer_id FROM site_lookup l
LEFT JOIN segment_members m
  ON m.customer_id = l.customer_id AND m.run_id = (SELECT current_run_id FROM segmentations WHERE is_active)
WHERE l.segment_id IS DISTINCT FROM m.segment_id

-- name: contracts
-- When contracts of customers began and ended, as their attributes say it.
SELECT c.id, c.attributes ->> CAST(:since AS text) AS since, c.attributes ->> CAST(:ended AS text) AS ended FROM customers c
WHERE c.id >= CAST(:first AS bigint) AND c.id <= CAST(:last AS bigint) AND c.erased_at IS NULL ORDER BY c.id

-- name: regions
-- Country and region in the address of customers' primary sites, where there is a region.
SELECT s.customer_id, concat_ws(' ', s.country, s.region) AS region FROM sites s
WHERE s.customer_id >= CAST(:first AS bigint) AND s.customer_id <= CAST(:last AS bigint) AND s.is_primary AND s.region <> ''
ORDER BY s.customer_id

-- name: rule_chunk
-- The segment of each customer of a chunk by the first rule that holds, from 0; -1 where none does.
SELECT c.id, CAST(CASE {rules} ELSE -1 END AS bigint) AS label FROM customers c
WHERE c.id > CAST(:after AS bigint) AND c.id <= CAST(:upto AS bigint) AND c.erased_at IS NULL ORDER BY c.id

-- name: count_rule
SELECT count(*) FROM customers c WHERE c.erased_at IS NULL AND {condition}

-- name: sample_rule
-- How many of a sample of customers' pages pass, and how many there are.
SELECT count(*) FILTER (WHERE {condition}) AS passing, count(*) AS looked_at
FROM customers c TABLESAMPLE SYSTEM (CAST(:share AS real)) REPEATABLE (1) WHERE c.erased_at IS NULL

-- name: members
-- Members of a segment that the reader sees, by id. First the page, then what is said of each: how many rows a policy
-- lets through is not known to the planner, which else reads all scores for each member.
SELECT p.id, p.name, p.kind, p.stage, p.owner_id, u.name AS owner_name, x.numbers
FROM (
  SELECT c.id, c.name, c.kind, c.stage, c.owner_id
  FROM visible.segment_members m JOIN customers c ON c.id = m.customer_id
  WHERE m.run_id = CAST(:run_id AS bigint) AND m.segment_id = CAST(:segment_id AS bigint)
    AND m.customer_id > CAST(:after AS bigint) AND c.erased_at IS NULL
  ORDER BY m.customer_id LIMIT CAST(:limit AS bigint)) AS p
LEFT JOIN users u ON u.id = p.owner_id
LEFT JOIN LATERAL (
  SELECT s.numbers FROM visible.scores s WHERE s.customer_id = p.id AND s.run_id = CAST(:run_id AS bigint) LIMIT 1
) AS x ON true
ORDER BY p.id

-- name: count_members
-- Members that the reader sees, by segment.
SELECT m.segment_id, count(*) AS customers FROM visible.segment_members m
WHERE m.run_id = CAST(:run_id AS bigint) GROUP BY m.segment_id

-- name: moves
-- Customers that the reader sees by their segments in two runs; null where in none.
SELECT a.segment_id AS from_id, b.segment_id AS to_id, count(*) AS customers
FROM (SELECT customer_id, segment_id FROM visible.segment_members WHERE run_id = CAST(:from_run AS bigint)) AS a
FULL JOIN (SELECT customer_id, segment_id FROM visible.segment_members WHERE run_id = CAST(:to_run AS bigint)) AS b
  ON b.customer_id = a.customer_id
GROUP BY 1, 2 ORDER BY 1, 2

-- name: of_customer
-- The published segments and scores of one customer.
SELECT g.id AS segmentation_id, g.key, g.name AS segmentation, g.is_active, r.number, r.cutoff, r.score_names,
       t.id AS segment_id, t.name AS segment, x.numbers, r.results -> 'drivers' AS drivers
FROM segmentations g JOIN segmentation_runs r ON r.id = g.current_run_id
LEFT JOIN visible.segment_members m ON m.run_id = r.id AND m.customer_id = CAST(:customer_id AS bigint)
LEFT JOIN segments t ON t.id = m.segment_id
LEFT JOIN visible.scores x ON x.run_id = r.id AND x.customer_id = CAST(:customer_id AS bigint)
WHERE g.archived_at IS NULL AND (m.customer_id IS NOT NULL OR x.customer_id IS NOT NULL)
ORDER BY g.is_active DESC, g.id

-- name: due
-- Segmentations whose time to run by themselves has come: no run is waiting or going on, none was begun for so long.
SELECT g.id FROM segmentations g
WHERE g.refresh_days IS NOT NULL AND g.archived_at IS NULL
  AND NOT EXISTS (SELECT FROM segmentation_runs r WHERE r.segmentation_id = g.id
    AND (r.status IN ('queued', 'running') OR r.created_at > now() - make_interval(days => g.refresh_days)))
ORDER BY g.id
