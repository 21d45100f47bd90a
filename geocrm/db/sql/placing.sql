-- name: take
-- Sites to place: the given ones, or those that are due, locked so that two workers never take the same.
SELECT s.customer_id, s.id, s.line1, s.line2, s.city, s.region, s.postal_code, s.country,
       ST_X(s.location) AS lon, ST_Y(s.location) AS lat, s.location_precision, s.precision_m, s.location_source,
       s.placement, s.flags, s.placing_attempts
FROM sites s
WHERE (CAST(:site_ids AS bigint[]) IS NULL OR s.id = ANY (CAST(:site_ids AS bigint[])))
  AND s.placement = ANY (CAST(:placements AS text[]))
  AND (CAST(:site_ids AS bigint[]) IS NOT NULL OR coalesce(s.placing_next_at, '-infinity') <= now())
ORDER BY s.customer_id, s.id
LIMIT CAST(:limit AS integer)
FOR UPDATE OF s SKIP LOCKED

-- name: take_coarse
-- Placed sites that a geocoder may still place better, and those that no gazetteer could place; due ones.
SELECT s.customer_id, s.id, s.line1, s.line2, s.city, s.region, s.postal_code, s.country,
       ST_X(s.location) AS lon, ST_Y(s.location) AS lat, s.location_precision, s.precision_m, s.location_source,
       s.placement, s.flags, s.placing_attempts
FROM sites s
WHERE s.line1 IS NOT NULL
  AND (s.placement = 'pending'
       OR s.placement = 'placed' AND s.location_precision IN ('postcode', 'locality', 'region'))
  AND s.placing_attempts < CAST(:attempts AS integer)
  AND coalesce(s.placing_next_at, '-infinity') <= now()
ORDER BY s.customer_id, s.id
LIMIT CAST(:limit AS integer)
FOR UPDATE OF s SKIP LOCKED

-- name: settle
-- Store places: arrays of one length; flags are cleared, attempts begin anew.
UPDATE sites s
SET location = ST_SetSRID(ST_MakePoint(g.lon, g.lat), 4326), location_precision = g.location_precision,
    precision_m = g.precision_m, location_source = g.location_source, placement = 'placed', flags = '{}',
    placing_attempts = 0, placing_next_at = NULL, placing_error = NULL, updated_at = now()
FROM unnest(CAST(:customer_ids AS bigint[]), CAST(:ids AS bigint[]), CAST(:lons AS float8[]), CAST(:lats AS float8[]),
            CAST(:precisions AS text[]), CAST(:radii AS float8[]), CAST(:sources AS text[]))
     AS g(customer_id, id, lon, lat, location_precision, precision_m, location_source)
WHERE s.customer_id = g.customer_id AND s.id = g.id

-- name: put_off
-- Note a failed attempt and when to try again; the placement stays what it is.
UPDATE sites s
SET placing_attempts = least(s.placing_attempts + 1, 32000), placing_error = g.error,
    placing_next_at = now() + least(CAST(:first_s AS float8) * 2 ^ least(s.placing_attempts, 20), CAST(:longest_s AS float8))
                              * interval '1 second',
    updated_at = now()
FROM unnest(CAST(:customer_ids AS bigint[]), CAST(:ids AS bigint[]), CAST(:problems AS text[])) AS g(customer_id, id, error)
WHERE s.customer_id = g.customer_id AND s.id = g.id

-- name: unplace
-- Forget places, so that they are found anew.
UPDATE sites s
SET location = NULL, location_precision = NULL, precision_m = NULL, location_source = NULL, placement = 'pending',
    flags = '{}', placing_attempts = 0, placing_next_at = NULL, placing_error = NULL, updated_at = now()
WHERE s.id = ANY (CAST(:ids AS bigint[]))

-- name: give_up
UPDATE sites s
SET placement = 'failed', placing_next_at = NULL, placing_error = CAST(:reason AS text), updated_at = now()
WHERE s.id = ANY (CAST(:ids AS bigint[])) AND s.placement IN ('pending', 'flagged')
RETURNING s.customer_id, s.id

-- name: try_again
UPDATE sites s
SET placement = CASE WHEN s.placement = 'failed' THEN 'pending' ELSE s.placement END,
    placing_attempts = 0, placing_next_at = NULL, placing_error = NULL, updated_at = now()
WHERE s.id = ANY (CAST(:ids AS bigint[])) AND s.placement IN ('pending', 'failed')
RETURNING s.id

-- name: waiting
-- The queue as the reader may see it: sites that are on no map, oldest first.
SELECT s.customer_id, s.id, c.name, s.line1, s.line2, s.city, s.region, s.postal_code, s.country,
       ST_X(s.location) AS lon, ST_Y(s.location) AS lat, s.placement, s.flags, s.placing_attempts, s.placing_error
FROM visible.sites s JOIN customers c ON c.id = s.customer_id
WHERE s.placement = ANY (CAST(:placements AS text[])) AND s.id > CAST(:after AS bigint) AND c.erased_at IS NULL
ORDER BY s.id
LIMIT CAST(:limit AS integer)

-- name: waiting_counts
SELECT s.placement, coalesce(s.flags[1], s.placing_error, '') AS why, count(*) AS n
FROM visible.sites s JOIN customers c ON c.id = s.customer_id
WHERE s.placement <> 'placed' AND c.erased_at IS NULL
GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2
