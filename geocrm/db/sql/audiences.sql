-- name: refresh
-- Make the members of an audience those whom the condition on customers `c` lets through.
WITH wanted AS MATERIALIZED (
  SELECT c.id FROM customers c WHERE c.erased_at IS NULL AND {condition}),
gone AS (
  DELETE FROM audience_members m
  WHERE m.audience_id = CAST(:audience AS bigint) AND NOT EXISTS (SELECT FROM wanted w WHERE w.id = m.customer_id)
  RETURNING 1),
came AS (
  INSERT INTO audience_members (customer_id, audience_id)
  SELECT w.id, CAST(:audience AS bigint) FROM wanted w
  ON CONFLICT DO NOTHING
  RETURNING 1)
SELECT (SELECT count(*) FROM wanted) AS members, (SELECT count(*) FROM gone) AS gone, (SELECT count(*) FROM came) AS came

-- name: refresh_customers
-- The same for some customers; members gained less members lost.
WITH wanted AS MATERIALIZED (
  SELECT c.id FROM customers c WHERE c.id = ANY (CAST(:ids AS bigint[])) AND c.erased_at IS NULL AND {condition}),
gone AS (
  DELETE FROM audience_members m
  WHERE m.customer_id = ANY (CAST(:ids AS bigint[])) AND m.audience_id = CAST(:audience AS bigint)
    AND NOT EXISTS (SELECT FROM wanted w WHERE w.id = m.customer_id)
  RETURNING 1),
came AS (
  INSERT INTO audience_members (customer_id, audience_id)
  SELECT w.id, CAST(:audience AS bigint) FROM wanted w
  ON CONFLICT DO NOTHING
  RETURNING 1)
SELECT (SELECT count(*) FROM came) - (SELECT count(*) FROM gone)

-- name: passes
-- Whether a customer passes a condition on customers `c` now.
SELECT EXISTS (
  SELECT FROM customers c WHERE c.id = CAST(:customer AS bigint) AND c.erased_at IS NULL AND {condition})

-- name: due
-- Audiences of drafts and live offers that were not looked at for `after_s` seconds, or for fifty times as long as that
-- takes where it takes long; the longest waiting first.
SELECT a.id FROM audiences a
WHERE a.name IS NULL AND EXISTS (SELECT FROM offer_versions v WHERE v.audience_id = a.id AND v.live_until IS NULL)
  AND (a.refreshed_at IS NULL OR a.refreshed_at < now() - make_interval(
    secs => greatest(CAST(:after_s AS double precision), 50 * coalesce(a.took_s, 0))))
ORDER BY a.refreshed_at NULLS FIRST, a.id

-- name: forget
-- Drop members of audiences that no draft and no live offer names.
WITH unused AS (
  SELECT a.id FROM audiences a
  WHERE a.refreshed_at IS NOT NULL AND a.name IS NULL
    AND NOT EXISTS (SELECT FROM offer_versions v WHERE v.audience_id = a.id AND v.live_until IS NULL)),
gone AS (DELETE FROM audience_members m USING unused u WHERE m.audience_id = u.id)
UPDATE audiences a SET refreshed_at = NULL, members = NULL FROM unused u WHERE a.id = u.id
