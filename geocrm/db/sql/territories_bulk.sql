-- New customers by the million, on layers of polygons.

-- name: work_tables
CREATE TEMP TABLE IF NOT EXISTS ledger_matches (
  customer_id bigint NOT NULL, site_id bigint NOT NULL, area_id bigint NOT NULL, differs boolean NOT NULL
) ON COMMIT DELETE ROWS

-- name: all_new
-- Ids ascend: customers beyond the highest that the ledger knows are new to it.
SELECT (SELECT min(customer_id) FROM changed_customers)
  > coalesce((SELECT customer_id FROM assignments ORDER BY customer_id DESC LIMIT 1), 0)

-- name: simple
-- No rule, and geometries that memory can hold.
SELECT NOT EXISTS (SELECT FROM area_periods d WHERE d.layer_id = CAST(:layer AS bigint) AND d.has_rule)
  AND (
    SELECT coalesce(sum(ST_NPoints(v.geometry)), 0)
    FROM area_periods d JOIN area_versions v ON v.area_id = d.area_id AND v.version = d.area_version
    WHERE d.layer_id = CAST(:layer AS bigint)) <= CAST(:vertices AS bigint)

-- name: named
-- Whether some of the changed customers are named accounts.
SELECT EXISTS (
  SELECT FROM named_periods n JOIN changed_customers k ON k.customer_id = n.customer_id
  WHERE n.layer_id = CAST(:layer AS bigint))

-- name: version
-- The version in force when the layer began.
SELECT f.version FROM layer_periods f
WHERE f.layer_id = CAST(:layer AS bigint) AND f.superseded_at IS NULL AND f.valid_from = CAST(:start AS timestamptz)

-- name: polygons
-- In the order in which they win.
SELECT d.area_id, ST_AsBinary(v.geometry) AS geometry
FROM area_periods d JOIN area_versions v ON v.area_id = d.area_id AND v.version = d.area_version
WHERE d.layer_id = CAST(:layer AS bigint) AND d.has_geometry ORDER BY d.priority DESC, d.area_id

-- name: points
-- A chunk of sites, by customer; a customer without sites has site 0, a site that is not placed NaN.
COPY (
  SELECT k.customer_id, coalesce(s.id, 0) AS site_id,
         CASE s.placement WHEN 'placed' THEN ST_X(s.location) ELSE 'NaN' END AS x,
         CASE s.placement WHEN 'placed' THEN ST_Y(s.location) ELSE 'NaN' END AS y,
         coalesce(s.territory_id, 0) AS territory_id
  FROM (
    SELECT customer_id FROM changed_customers WHERE customer_id > %(after)s ORDER BY customer_id LIMIT %(count)s) k
  LEFT JOIN sites s ON s.customer_id = k.customer_id
) TO STDOUT (FORMAT binary)

-- name: write
INSERT INTO assignments (customer_id, site_id, layer_id, valid_from, recorded_at, area_id, basis, layer_version,
  actor_id, reason, ahead)
SELECT m.customer_id, m.site_id, CAST(:layer AS bigint), CAST(:start AS timestamptz), CAST(:recorded AS timestamptz),
       nullif(m.area_id, 0), CASE m.area_id WHEN 0 THEN 'none' ELSE 'polygon' END,
       CAST(:version AS integer),
       CAST(:actor AS bigint), CAST(:reason AS text), CAST(:start AS timestamptz) > CAST(:now AS timestamptz)
FROM ledger_matches m

-- name: queue
INSERT INTO contradictions (customer_id, site_id, layer_id, kind, since)
SELECT m.customer_id, m.site_id, CAST(:layer AS bigint), 'nothing', CAST(:now AS timestamptz)
FROM ledger_matches m WHERE m.area_id = 0 AND CAST(:start AS timestamptz) <= CAST(:now AS timestamptz)

-- name: sites_follow
UPDATE sites s SET territory_id = nullif(m.area_id, 0) FROM ledger_matches m
WHERE m.differs AND s.customer_id = m.customer_id AND s.id = m.site_id
