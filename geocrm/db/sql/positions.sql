-- name: consented
-- Since when these customers allow that their positions are kept; held until the transaction ends, so that it is not
-- withdrawn meanwhile.
SELECT n.customer_id, extract(epoch FROM n.granted_at)::float8 AS granted_at
FROM consents n
WHERE n.customer_id = ANY (CAST(:customers AS bigint[])) AND n.purpose = CAST(:purpose AS text)
  AND n.withdrawn_at IS NULL AND n.granted_at <= now()
ORDER BY n.customer_id, n.channel, n.granted_at FOR SHARE

-- name: lock_subjects
-- The newest position of these customers, held until the transaction ends.
SELECT s.customer_id, extract(epoch FROM s.last_at)::float8 AS last_at
FROM position_subjects s WHERE s.customer_id = ANY (CAST(:customers AS bigint[])) ORDER BY s.customer_id FOR UPDATE

-- name: add_subjects
-- Customers whose first position this is.
INSERT INTO position_subjects (customer_id, last_at)
SELECT c, '-infinity' FROM unnest(CAST(:customers AS bigint[])) AS c ORDER BY c ON CONFLICT DO NOTHING

-- name: presences
-- Where these customers stand to fences.
SELECT s.customer_id, s.geofence_id, s.inside, extract(epoch FROM s.evidence_since)::float8 AS evidence_since,
  extract(epoch FROM s.since)::float8 AS since, s.told, s.seen_s, s.dwelled
FROM geofence_states s WHERE s.customer_id = ANY (CAST(:customers AS bigint[]))

-- name: store
-- Positions as they came; a double is left aside. How many were new.
WITH stored AS (
  INSERT INTO positions (customer_id, recorded_at, lon, lat, accuracy_m)
  SELECT p.customer, to_timestamp(p.at), p.lon, p.lat, p.accuracy
  FROM unnest(CAST(:customers AS bigint[]), CAST(:times AS float8[]), CAST(:lons AS float8[]), CAST(:lats AS float8[]),
    CAST(:accuracies AS real[])) AS p(customer, at, lon, lat, accuracy)
  ON CONFLICT DO NOTHING RETURNING 1)
SELECT count(*) FROM stored

-- name: move_subjects
-- The newest positions of customers.
UPDATE position_subjects s SET last_at = to_timestamp(n.at)
FROM unnest(CAST(:customers AS bigint[]), CAST(:times AS float8[])) AS n(customer, at) WHERE s.customer_id = n.customer

-- name: put_presences
-- Where customers stand to fences now.
INSERT INTO geofence_states (customer_id, geofence_id, inside, evidence_since, since, told, seen_s, dwelled)
SELECT n.customer, n.fence, n.inside, to_timestamp(n.evidence), to_timestamp(n.since), n.told, n.seen, n.dwelled
FROM unnest(CAST(:customers AS bigint[]), CAST(:fences AS bigint[]), CAST(:inside AS boolean[]),
  CAST(:evidence AS float8[]), CAST(:since AS float8[]), CAST(:told AS boolean[]), CAST(:seen AS float8[]),
  CAST(:dwelled AS boolean[])) AS n(customer, fence, inside, evidence, since, told, seen, dwelled)
ON CONFLICT (customer_id, geofence_id) DO UPDATE SET inside = excluded.inside, evidence_since = excluded.evidence_since,
  since = excluded.since, told = excluded.told, seen_s = excluded.seen_s, dwelled = excluded.dwelled

-- name: drop_presences
-- Customers are outside of fences, and nothing says otherwise.
DELETE FROM geofence_states s
USING unnest(CAST(:customers AS bigint[]), CAST(:fences AS bigint[])) AS n(customer, fence)
WHERE s.customer_id = n.customer AND s.geofence_id = n.fence

-- name: expire_positions
-- Deletes some positions that are too old; how many.
WITH gone AS (
  DELETE FROM positions WHERE ctid = ANY (ARRAY(
    SELECT p.ctid FROM positions p WHERE p.recorded_at < CAST(:before AS timestamptz) LIMIT CAST(:most AS bigint)))
  RETURNING 1)
SELECT count(*) FROM gone

-- name: expire_subjects
-- Forgets where customers stand who have sent nothing for so long; how many.
WITH gone AS (DELETE FROM position_subjects WHERE last_at < CAST(:before AS timestamptz) RETURNING customer_id),
states AS (DELETE FROM geofence_states s USING gone g WHERE s.customer_id = g.customer_id)
SELECT count(*) FROM gone

-- name: expire_events
-- Deletes some events, with their deliveries, that are too old; how many.
WITH old AS (
  SELECT e.customer_id, e.id FROM events e WHERE e.created_at < CAST(:before AS timestamptz)
  LIMIT CAST(:most AS bigint)),
told AS (DELETE FROM webhook_deliveries d USING old o WHERE d.customer_id = o.customer_id AND d.event_id = o.id),
gone AS (DELETE FROM events e USING old o WHERE e.customer_id = o.customer_id AND e.id = o.id RETURNING 1)
SELECT count(*) FROM gone

-- name: expire_tests
-- Deletes test deliveries that are too old.
DELETE FROM webhook_deliveries WHERE event_id IS NULL AND created_at < CAST(:before AS timestamptz)

-- name: forget_positions
-- Every position of a customer.
DELETE FROM positions WHERE customer_id = CAST(:customer AS bigint)

-- name: forget_subject
-- When a customer's newest position was.
DELETE FROM position_subjects WHERE customer_id = CAST(:customer AS bigint)

-- name: forget_presences
-- Where a customer stands to fences.
DELETE FROM geofence_states WHERE customer_id = CAST(:customer AS bigint)

-- name: forget_deliveries
-- What webhooks were told, or were to be told, of a customer's events of a purpose.
DELETE FROM webhook_deliveries d USING events e
WHERE e.customer_id = CAST(:customer AS bigint) AND e.purpose = CAST(:purpose AS text)
  AND d.customer_id = e.customer_id AND d.event_id = e.id

-- name: forget_events
-- A customer's events of a purpose.
DELETE FROM events WHERE customer_id = CAST(:customer AS bigint) AND purpose = CAST(:purpose AS text)
