-- When versions of layers, areas and names are in force, and whom a change of that can concern.

-- name: work_tables
CREATE TEMP TABLE IF NOT EXISTS ledger_area_changes (
  area_id bigint NOT NULL, area_version integer NOT NULL, valid_from timestamptz NOT NULL,
  valid_to timestamptz NOT NULL, added boolean NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS ledger_name_changes (
  customer_id bigint NOT NULL, area_id bigint NOT NULL, valid_from timestamptz NOT NULL,
  valid_to timestamptz NOT NULL, added boolean NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS ledger_pairs (
  area_id bigint NOT NULL, old_version integer, new_version integer) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS ledger_zone (geometry geometry NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS ledger_concerned (
  customer_id bigint NOT NULL, site_id bigint NOT NULL) ON COMMIT DELETE ROWS

-- name: layer_in_force
-- From `begin` to `end` the layer is the version's; what held then ends before, or begins after.
WITH old AS (
  UPDATE layer_periods SET superseded_at = CAST(:recorded AS timestamptz)
  WHERE layer_id = CAST(:layer AS bigint) AND superseded_at IS NULL
    AND valid_from < CAST(:end AS timestamptz) AND coalesce(valid_to, 'infinity') > CAST(:begin AS timestamptz)
  RETURNING version, valid_from, coalesce(valid_to, 'infinity') AS valid_to)
INSERT INTO layer_periods (layer_id, version, valid_from, valid_to, recorded_at)
SELECT CAST(:layer AS bigint), p.version, p.valid_from, nullif(p.valid_to, 'infinity'), CAST(:recorded AS timestamptz)
FROM (
  SELECT o.version, o.valid_from, CAST(:begin AS timestamptz) AS valid_to FROM old o
  WHERE o.valid_from < CAST(:begin AS timestamptz)
  UNION ALL SELECT CAST(:version AS integer), CAST(:begin AS timestamptz), CAST(:end AS timestamptz)
  UNION ALL SELECT o.version, CAST(:end AS timestamptz), o.valid_to FROM old o
  WHERE o.valid_to > CAST(:end AS timestamptz)) AS p

-- name: area_changes
-- What becomes of the periods of areas from `begin` on, as the versions in force say: rows that go and rows that come.
INSERT INTO ledger_area_changes (area_id, area_version, valid_from, valid_to, added)
WITH parts AS (
  SELECT d.area_id, d.area_version, d.valid_from, least(d.valid_to, CAST(:begin AS timestamptz)) AS valid_to
  FROM area_periods d WHERE d.layer_id = CAST(:layer AS bigint) AND d.valid_from < CAST(:begin AS timestamptz)
  UNION ALL
  SELECT la.area_id, la.area_version, p.valid_from, coalesce(p.valid_to, 'infinity')
  FROM layer_periods p JOIN layer_areas la ON la.layer_id = p.layer_id AND la.layer_version = p.version
  WHERE p.layer_id = CAST(:layer AS bigint) AND p.superseded_at IS NULL AND p.valid_from >= CAST(:begin AS timestamptz)),
marked AS (
  SELECT p.*, lag(p.valid_to) OVER (PARTITION BY p.area_id, p.area_version ORDER BY p.valid_from)
         IS DISTINCT FROM p.valid_from AS begins
  FROM parts p),
numbered AS (
  SELECT m.*, sum(CAST(m.begins AS integer)) OVER (PARTITION BY m.area_id, m.area_version ORDER BY m.valid_from) AS island
  FROM marked m),
wanted AS (
  SELECT n.area_id, n.area_version, min(n.valid_from) AS valid_from, max(n.valid_to) AS valid_to
  FROM numbered n GROUP BY n.area_id, n.area_version, n.island),
present AS (
  SELECT d.area_id, d.area_version, d.valid_from, d.valid_to
  FROM area_periods d WHERE d.layer_id = CAST(:layer AS bigint))
SELECT g.*, false FROM (SELECT * FROM present EXCEPT SELECT * FROM wanted) g
UNION ALL SELECT a.*, true FROM (SELECT * FROM wanted EXCEPT SELECT * FROM present) a

-- name: area_changes_remove
DELETE FROM area_periods d USING ledger_area_changes x
WHERE NOT x.added AND d.layer_id = CAST(:layer AS bigint) AND d.area_id = x.area_id AND d.valid_from = x.valid_from

-- name: area_changes_add
INSERT INTO area_periods (layer_id, area_id, valid_from, valid_to, area_version, priority, has_rule, has_geometry)
SELECT CAST(:layer AS bigint), x.area_id, x.valid_from, x.valid_to, x.area_version, v.priority, v.rule IS NOT NULL,
       v.geometry IS NOT NULL
FROM ledger_area_changes x JOIN area_versions v ON v.area_id = x.area_id AND v.version = x.area_version
WHERE x.added

-- name: name_changes
-- The same for named accounts.
INSERT INTO ledger_name_changes (customer_id, area_id, valid_from, valid_to, added)
WITH parts AS (
  SELECT d.customer_id, d.area_id, d.valid_from, least(d.valid_to, CAST(:begin AS timestamptz)) AS valid_to
  FROM named_periods d WHERE d.layer_id = CAST(:layer AS bigint) AND d.valid_from < CAST(:begin AS timestamptz)
  UNION ALL
  SELECT n.customer_id, n.area_id, p.valid_from, coalesce(p.valid_to, 'infinity')
  FROM layer_periods p CROSS JOIN LATERAL geocrm_named_accounts(p.layer_id, p.version) AS n
  WHERE p.layer_id = CAST(:layer AS bigint) AND p.superseded_at IS NULL AND p.valid_from >= CAST(:begin AS timestamptz)),
marked AS (
  SELECT p.*, lag(p.valid_to) OVER (PARTITION BY p.customer_id, p.area_id ORDER BY p.valid_from)
         IS DISTINCT FROM p.valid_from AS begins
  FROM parts p),
numbered AS (
  SELECT m.*, sum(CAST(m.begins AS integer)) OVER (PARTITION BY m.customer_id, m.area_id ORDER BY m.valid_from) AS island
  FROM marked m),
wanted AS (
  SELECT n.customer_id, n.area_id, min(n.valid_from) AS valid_from, max(n.valid_to) AS valid_to
  FROM numbered n GROUP BY n.customer_id, n.area_id, n.island),
present AS (
  SELECT d.customer_id, d.area_id, d.valid_from, d.valid_to
  FROM named_periods d WHERE d.layer_id = CAST(:layer AS bigint))
SELECT g.*, false FROM (SELECT * FROM present EXCEPT SELECT * FROM wanted) g
UNION ALL SELECT a.*, true FROM (SELECT * FROM wanted EXCEPT SELECT * FROM present) a

-- name: name_changes_remove
DELETE FROM named_periods d USING ledger_name_changes x
WHERE NOT x.added AND d.layer_id = CAST(:layer AS bigint) AND d.customer_id = x.customer_id
  AND d.valid_from = x.valid_from

-- name: name_changes_add
INSERT INTO named_periods (customer_id, layer_id, valid_from, valid_to, area_id)
SELECT x.customer_id, CAST(:layer AS bigint), x.valid_from, x.valid_to, x.area_id FROM ledger_name_changes x WHERE x.added

-- name: named_accounts_follow
-- `named_accounts` is what is in force now.
WITH wanted AS (
  SELECT n.customer_id, n.area_id FROM named_periods n
  WHERE n.layer_id = CAST(:layer AS bigint) AND n.valid_from <= CAST(:now AS timestamptz)
    AND n.valid_to > CAST(:now AS timestamptz)),
gone AS (
  DELETE FROM named_accounts n WHERE n.layer_id = CAST(:layer AS bigint)
    AND NOT EXISTS (SELECT FROM wanted w WHERE w.customer_id = n.customer_id))
INSERT INTO named_accounts (customer_id, layer_id, area_id)
SELECT w.customer_id, CAST(:layer AS bigint), w.area_id FROM wanted w
ON CONFLICT (customer_id, layer_id) DO UPDATE SET area_id = excluded.area_id
WHERE named_accounts.area_id <> excluded.area_id

-- name: pairs
-- Which version of an area follows on which, wherever that changed.
INSERT INTO ledger_pairs (area_id, old_version, new_version)
WITH edges AS (
  SELECT DISTINCT x.area_id, b.t FROM ledger_area_changes x CROSS JOIN LATERAL (VALUES (x.valid_from), (x.valid_to)) b (t)),
segments AS (
  SELECT e.area_id, e.t AS valid_from, lead(e.t) OVER (PARTITION BY e.area_id ORDER BY e.t) AS valid_to FROM edges e)
SELECT DISTINCT s.area_id, o.area_version, n.area_version
FROM segments s
LEFT JOIN ledger_area_changes o ON NOT o.added AND o.area_id = s.area_id AND o.valid_from <= s.valid_from
  AND o.valid_to >= s.valid_to
LEFT JOIN ledger_area_changes n ON n.added AND n.area_id = s.area_id AND n.valid_from <= s.valid_from
  AND n.valid_to >= s.valid_to
WHERE s.valid_to IS NOT NULL AND o.area_version IS DISTINCT FROM n.area_version

-- name: zone
-- Where the pairs differ: the difference of the geometries, and the border segments that only one of them has (a
-- difference narrower than the arithmetic of the overlay would be lost). All of it where priority or presence differ.
INSERT INTO ledger_zone (geometry)
WITH shapes AS (
  SELECT o.geometry AS old_geometry, n.geometry AS new_geometry,
         o.geometry IS NOT NULL AND n.geometry IS NOT NULL AND o.priority = n.priority AS comparable
  FROM ledger_pairs p
  LEFT JOIN area_versions o ON o.area_id = p.area_id AND o.version = p.old_version
  LEFT JOIN area_versions n ON n.area_id = p.area_id AND n.version = p.new_version
  WHERE (o.geometry IS NOT NULL OR n.geometry IS NOT NULL)
    AND NOT (o.priority IS NOT DISTINCT FROM n.priority AND o.geometry IS NOT NULL AND n.geometry IS NOT NULL
             AND ST_AsBinary(o.geometry) = ST_AsBinary(n.geometry))),
whole AS (
  SELECT ST_SymDifference(s.old_geometry, s.new_geometry) AS geometry FROM shapes s WHERE s.comparable
  UNION ALL SELECT s.old_geometry FROM shapes s WHERE NOT s.comparable AND s.old_geometry IS NOT NULL
  UNION ALL SELECT s.new_geometry FROM shapes s WHERE NOT s.comparable AND s.new_geometry IS NOT NULL),
segments AS (
  SELECT g.side, g.shape, least(ST_AsBinary(ST_StartPoint(d.geom)), ST_AsBinary(ST_EndPoint(d.geom))) AS a,
         greatest(ST_AsBinary(ST_StartPoint(d.geom)), ST_AsBinary(ST_EndPoint(d.geom))) AS b, d.geom
  FROM (SELECT row_number() OVER () AS shape, s.* FROM shapes s WHERE s.comparable) s
  CROSS JOIN LATERAL (VALUES (s.shape, 'old', s.old_geometry), (s.shape, 'new', s.new_geometry)) g (shape, side, geometry)
  CROSS JOIN LATERAL ST_DumpSegments(g.geometry) d),
lone AS (
  SELECT (array_agg(s.geom))[1] AS geometry FROM segments s GROUP BY s.shape, s.a, s.b HAVING count(DISTINCT s.side) = 1)
SELECT part FROM whole w CROSS JOIN LATERAL ST_Subdivide(w.geometry, 32) AS part
WHERE w.geometry IS NOT NULL AND NOT ST_IsEmpty(w.geometry)
UNION ALL SELECT l.geometry FROM lone l

-- name: concerned_by_zone
INSERT INTO ledger_concerned (customer_id, site_id)
SELECT l.customer_id, l.site_id
FROM ledger_zone z JOIN site_lookup l ON l.location && ST_Expand(z.geometry, 1e-9)
  AND ST_DWithin(z.geometry, l.location, 1e-9)

-- name: concerned_by_name
INSERT INTO ledger_concerned (customer_id, site_id)
SELECT s.customer_id, s.id FROM (SELECT DISTINCT x.customer_id FROM ledger_name_changes x) n
JOIN sites s ON s.customer_id = n.customer_id

-- name: concerned_by_rule
-- {rules} is an OR of the conditions of changed rules, old and new.
INSERT INTO ledger_concerned (customer_id, site_id)
SELECT s.customer_id, s.id FROM customers c JOIN sites s ON s.customer_id = c.id WHERE {rules}

-- name: changed_rules
SELECT DISTINCT v.area_id, v.version, v.rule
FROM ledger_pairs p
LEFT JOIN area_versions o ON o.area_id = p.area_id AND o.version = p.old_version
LEFT JOIN area_versions n ON n.area_id = p.area_id AND n.version = p.new_version
JOIN area_versions v ON v.area_id = p.area_id AND v.version IN (p.old_version, p.new_version) AND v.rule IS NOT NULL
WHERE o.rule IS DISTINCT FROM n.rule OR o.priority IS DISTINCT FROM n.priority

-- name: sites_concerned
INSERT INTO ledger_sites (customer_id, site_id, location)
SELECT s.customer_id, s.id, CASE s.placement WHEN 'placed' THEN s.location END
FROM (SELECT DISTINCT x.customer_id, x.site_id FROM ledger_concerned x) k
JOIN sites s ON s.customer_id = k.customer_id AND s.id = k.site_id

-- name: sites_ahead
-- Sites with a ledger row that begins in (since, now]: what a scheduled version brings when its time comes.
INSERT INTO ledger_concerned (customer_id, site_id)
SELECT a.customer_id, a.site_id FROM assignments a
WHERE a.layer_id = CAST(:layer AS bigint) AND a.ahead AND a.superseded_at IS NULL
  AND a.valid_from > CAST(:since AS timestamptz) AND a.valid_from <= CAST(:now AS timestamptz)
