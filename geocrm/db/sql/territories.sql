-- The ledger: which area a site belongs to on a layer, over all time, and what of it is written anew.

-- name: work_tables
-- Tables of one evaluation, private to the connection and empty after each transaction.
CREATE TEMP TABLE IF NOT EXISTS ledger_sites (
  customer_id bigint NOT NULL, site_id bigint NOT NULL, location geometry) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS ledger_work (
  customer_id bigint NOT NULL, site_id bigint NOT NULL, location geometry,
  known boolean NOT NULL, window_from timestamptz NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS ledger_candidates (
  customer_id bigint NOT NULL, site_id bigint NOT NULL, rank smallint NOT NULL, basis text NOT NULL,
  priority integer NOT NULL, area_id bigint NOT NULL, valid_from timestamptz NOT NULL, valid_to timestamptz NOT NULL
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS ledger_new (
  customer_id bigint NOT NULL, site_id bigint NOT NULL, valid_from timestamptz NOT NULL, valid_to timestamptz NOT NULL,
  area_id bigint, basis text NOT NULL, by_edit boolean NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS ledger_moves (
  customer_id bigint NOT NULL, site_id bigint NOT NULL, from_area_id bigint, from_basis text,
  to_area_id bigint, to_basis text) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS ledger_found (
  customer_id bigint NOT NULL, site_id bigint NOT NULL, kind text NOT NULL, area_id bigint, polygon_area_id bigint
) ON COMMIT DELETE ROWS

-- name: sites_of_customers
-- All sites of the changed customers; a site that is not placed has no point.
INSERT INTO ledger_sites (customer_id, site_id, location)
SELECT s.customer_id, s.id, CASE s.placement WHEN 'placed' THEN s.location END
FROM {changed} AS changed JOIN sites s ON s.customer_id = changed.customer_id

-- name: sites_all
INSERT INTO ledger_sites (customer_id, site_id, location)
SELECT s.customer_id, s.id, CASE s.placement WHEN 'placed' THEN s.location END FROM sites s

-- name: close_gone_sites
-- Sites that are gone: of a customer who still exists, the rows end now; of one who does not, they are superseded
-- whole, as the customer never was.
WITH gone AS (
  SELECT a.*, EXISTS (SELECT FROM customers c WHERE c.id = a.customer_id) AS customer_exists
  FROM {changed} AS changed JOIN assignments a ON a.customer_id = changed.customer_id
  WHERE a.superseded_at IS NULL
    AND NOT EXISTS (SELECT FROM sites s WHERE s.customer_id = a.customer_id AND s.id = a.site_id)),
ending AS (
  SELECT g.* FROM gone g
  WHERE NOT g.customer_exists OR coalesce(g.valid_to, 'infinity') > CAST(:now AS timestamptz)),
superseded AS (
  UPDATE assignments a SET superseded_at = CAST(:recorded AS timestamptz)
  FROM ending e
  WHERE a.customer_id = e.customer_id AND a.site_id = e.site_id AND a.layer_id = e.layer_id
    AND a.valid_from = e.valid_from AND a.recorded_at = e.recorded_at),
forgotten AS (
  DELETE FROM contradictions x USING gone g
  WHERE x.customer_id = g.customer_id AND x.site_id = g.site_id AND x.layer_id = g.layer_id)
INSERT INTO assignments (customer_id, site_id, layer_id, valid_from, valid_to, recorded_at, area_id, basis,
  layer_version, actor_id, reason, by_edit)
SELECT e.customer_id, e.site_id, e.layer_id, e.valid_from, CAST(:now AS timestamptz), CAST(:recorded AS timestamptz),
       e.area_id, e.basis, e.layer_version, e.actor_id, e.reason, e.by_edit
FROM ending e WHERE e.customer_exists AND e.valid_from < CAST(:now AS timestamptz)

-- name: work
-- The sites to evaluate on a layer. The window begins where the present state of the site is first known: at its last
-- change, or with the layer itself.
INSERT INTO ledger_work (customer_id, site_id, location, known, window_from)
SELECT s.customer_id, s.site_id, s.location, k.known IS NOT NULL,
       greatest(CAST(:start AS timestamptz), coalesce(k.since, '-infinity'))
FROM ledger_sites s LEFT JOIN LATERAL (
  SELECT true AS known, max(a.valid_from) FILTER (WHERE a.by_edit) AS since
  FROM assignments a
  WHERE a.customer_id = s.customer_id AND a.site_id = s.site_id AND a.layer_id = CAST(:layer AS bigint)
    AND a.superseded_at IS NULL
  HAVING count(*) > 0) k ON true

-- name: candidates_named
INSERT INTO ledger_candidates (customer_id, site_id, rank, basis, priority, area_id, valid_from, valid_to)
SELECT w.customer_id, w.site_id, 1, 'named', 0, n.area_id, n.valid_from, n.valid_to
FROM ledger_work w JOIN named_periods n ON n.customer_id = w.customer_id AND n.layer_id = CAST(:layer AS bigint)

-- name: candidates_rule
-- {rules} is a UNION ALL of one branch per rule: area, version, and the condition on customers c and sites s.
INSERT INTO ledger_candidates (customer_id, site_id, rank, basis, priority, area_id, valid_from, valid_to)
SELECT w.customer_id, w.site_id, 2, 'rule', d.priority, d.area_id, d.valid_from, d.valid_to
FROM ledger_work w JOIN customers c ON c.id = w.customer_id
JOIN sites s ON s.customer_id = w.customer_id AND s.id = w.site_id
CROSS JOIN LATERAL ({rules}) AS r (area_id, version)
JOIN area_periods d ON d.layer_id = CAST(:layer AS bigint) AND d.area_id = r.area_id AND d.area_version = r.version

-- name: candidates_polygon
-- The pieces that hold a point; in the rim of a piece the whole geometry decides, with exact predicates.
INSERT INTO ledger_candidates (customer_id, site_id, rank, basis, priority, area_id, valid_from, valid_to)
SELECT DISTINCT w.customer_id, w.site_id, 3, 'polygon', d.priority, d.area_id, d.valid_from, d.valid_to
FROM ledger_work w
-- per site through the index of the pieces, also where they were made a moment ago and have no statistics yet
CROSS JOIN LATERAL (
  SELECT p.layer_id, p.area_id, p.version FROM area_pieces p
  WHERE p.layer_id = CAST(:layer AS bigint) AND p.geometry && ST_Expand(w.location, 1e-9)
    AND (ST_Intersects(p.core, w.location) OR (ST_DWithin(p.geometry, w.location, 1e-9) AND NOT ST_Disjoint(
      (SELECT v.geometry FROM area_versions v WHERE v.area_id = p.area_id AND v.version = p.version), w.location)))
  OFFSET 0) p
JOIN area_periods d ON d.layer_id = p.layer_id AND d.area_id = p.area_id AND d.area_version = p.version
WHERE w.location IS NOT NULL

-- name: expected
-- The whole timeline of each site from its window on: between any two boundaries the first match wins (named, rule,
-- polygon; higher priority; lowest area id); neighbours that say the same are one row.
INSERT INTO ledger_new (customer_id, site_id, valid_from, valid_to, area_id, basis, by_edit)
WITH bounds AS (
  SELECT w.customer_id, w.site_id, w.window_from AS t FROM ledger_work w
  UNION
  SELECT w.customer_id, w.site_id, b.t
  FROM ledger_work w JOIN ledger_candidates c ON c.customer_id = w.customer_id AND c.site_id = w.site_id
  CROSS JOIN LATERAL (VALUES (c.valid_from), (c.valid_to)) AS b (t)
  WHERE b.t > w.window_from AND b.t < 'infinity'),
segments AS (
  SELECT b.customer_id, b.site_id, b.t AS valid_from,
         lead(b.t, 1, 'infinity') OVER (PARTITION BY b.customer_id, b.site_id ORDER BY b.t) AS valid_to
  FROM bounds b),
best AS (
  SELECT DISTINCT ON (g.customer_id, g.site_id, g.valid_from)
         g.customer_id, g.site_id, g.valid_from, c.area_id, coalesce(c.basis, 'none') AS basis
  FROM segments g LEFT JOIN ledger_candidates c
    ON c.customer_id = g.customer_id AND c.site_id = g.site_id
    AND c.valid_from <= g.valid_from AND c.valid_to >= g.valid_to
  ORDER BY g.customer_id, g.site_id, g.valid_from, c.rank, c.priority DESC, c.area_id),
marked AS (
  SELECT b.*, row_number() OVER w = 1 OR lag(b.area_id) OVER w IS DISTINCT FROM b.area_id
         OR lag(b.basis) OVER w <> b.basis AS begins
  FROM best b WINDOW w AS (PARTITION BY b.customer_id, b.site_id ORDER BY b.valid_from))
SELECT m.customer_id, m.site_id, m.valid_from,
       lead(m.valid_from, 1, 'infinity') OVER (PARTITION BY m.customer_id, m.site_id ORDER BY m.valid_from),
       m.area_id, m.basis, false
FROM marked m WHERE m.begins

-- name: expected_flat
-- The same where every area and name of the layer holds for all its time: one row per site.
INSERT INTO ledger_new (customer_id, site_id, valid_from, valid_to, area_id, basis, by_edit)
SELECT DISTINCT ON (w.customer_id, w.site_id)
       w.customer_id, w.site_id, w.window_from, 'infinity', c.area_id, coalesce(c.basis, 'none'), false
FROM ledger_work w LEFT JOIN ledger_candidates c ON c.customer_id = w.customer_id AND c.site_id = w.site_id
ORDER BY w.customer_id, w.site_id, c.rank, c.priority DESC, c.area_id

-- name: unchanged
-- Forget the sites whose ledger already says what is expected.
WITH known AS (
  SELECT w.customer_id, w.site_id, a.valid_from, coalesce(a.valid_to, 'infinity') AS valid_to, a.area_id, a.basis
  FROM ledger_work w JOIN assignments a ON a.customer_id = w.customer_id AND a.site_id = w.site_id
    AND a.layer_id = CAST(:layer AS bigint) AND a.superseded_at IS NULL
    AND coalesce(a.valid_to, 'infinity') > w.window_from
  WHERE w.known),
expected AS (
  SELECT n.customer_id, n.site_id, n.valid_from, n.valid_to, n.area_id, n.basis FROM ledger_new n),
differing AS (
  SELECT d.customer_id, d.site_id FROM (SELECT * FROM known EXCEPT SELECT * FROM expected) d
  UNION SELECT d.customer_id, d.site_id FROM (SELECT * FROM expected EXCEPT SELECT * FROM known) d),
same AS (
  DELETE FROM ledger_work w
  WHERE NOT EXISTS (SELECT FROM differing d WHERE d.customer_id = w.customer_id AND d.site_id = w.site_id))
DELETE FROM ledger_new n
WHERE NOT EXISTS (SELECT FROM differing d WHERE d.customer_id = n.customer_id AND d.site_id = n.site_id)

-- name: from_now_on
-- A change of the customer counts from now on: what the ledger says of earlier times stays. A site whose ledger has
-- no earlier times is written whole.
WITH past AS (
  SELECT w.customer_id, w.site_id, a.valid_from, a.area_id, a.basis, a.by_edit
  FROM ledger_work w JOIN assignments a ON a.customer_id = w.customer_id AND a.site_id = w.site_id
    AND a.layer_id = CAST(:layer AS bigint) AND a.superseded_at IS NULL
    AND a.valid_from < CAST(:now AS timestamptz) AND coalesce(a.valid_to, 'infinity') > CAST(:now AS timestamptz)
  WHERE w.known),
began AS (
  SELECT w.customer_id, w.site_id FROM ledger_work w
  WHERE w.known AND EXISTS (
    SELECT FROM assignments a WHERE a.customer_id = w.customer_id AND a.site_id = w.site_id
      AND a.layer_id = CAST(:layer AS bigint) AND a.superseded_at IS NULL
      AND (a.valid_from < CAST(:now AS timestamptz) OR (a.by_edit AND a.valid_from = CAST(:now AS timestamptz))))),
gone AS (
  DELETE FROM ledger_new n USING began b
  WHERE n.customer_id = b.customer_id AND n.site_id = b.site_id
  RETURNING n.*),
later AS (
  UPDATE ledger_work w SET window_from = CAST(:now AS timestamptz) FROM began b
  WHERE w.customer_id = b.customer_id AND w.site_id = b.site_id)
INSERT INTO ledger_new (customer_id, site_id, valid_from, valid_to, area_id, basis, by_edit)
SELECT g.customer_id, g.site_id, greatest(g.valid_from, CAST(:now AS timestamptz)), g.valid_to, g.area_id, g.basis,
       g.valid_from <= CAST(:now AS timestamptz)
FROM gone g WHERE g.valid_to > CAST(:now AS timestamptz)
UNION ALL
SELECT p.customer_id, p.site_id, p.valid_from, CAST(:now AS timestamptz), p.area_id, p.basis, p.by_edit FROM past p

-- name: moves
-- Who moves, at one moment: sites whose area or basis is another one then.
INSERT INTO ledger_moves (customer_id, site_id, from_area_id, from_basis, to_area_id, to_basis)
SELECT n.customer_id, n.site_id, a.area_id, a.basis, n.area_id, n.basis
FROM ledger_new n LEFT JOIN assignments a ON a.customer_id = n.customer_id AND a.site_id = n.site_id
  AND a.layer_id = CAST(:layer AS bigint) AND a.superseded_at IS NULL
  AND a.valid_from <= CAST(:moment AS timestamptz) AND coalesce(a.valid_to, 'infinity') > CAST(:moment AS timestamptz)
WHERE n.valid_from <= CAST(:moment AS timestamptz) AND n.valid_to > CAST(:moment AS timestamptz)
  AND (a.area_id IS DISTINCT FROM n.area_id OR a.basis IS DISTINCT FROM n.basis)

-- name: moved_since
-- Areas that lose or gain a site for some time from `begin` to `now`.
SELECT DISTINCT x.area_id
FROM ledger_new n JOIN assignments a ON a.customer_id = n.customer_id AND a.site_id = n.site_id
  AND a.layer_id = CAST(:layer AS bigint) AND a.superseded_at IS NULL AND a.area_id IS DISTINCT FROM n.area_id
  AND greatest(a.valid_from, n.valid_from, CAST(:begin AS timestamptz))
    < least(coalesce(a.valid_to, 'infinity'), n.valid_to, CAST(:now AS timestamptz))
CROSS JOIN LATERAL (VALUES (a.area_id), (n.area_id)) AS x (area_id)
WHERE x.area_id IS NOT NULL

-- name: write
-- Supersede the rows that no longer hold and write the new ones. A row that only ends at another time keeps its
-- version, actor and reason.
WITH old AS (
  SELECT a.customer_id, a.site_id, a.layer_id, a.valid_from, a.recorded_at, coalesce(a.valid_to, 'infinity') AS valid_to,
         a.area_id, a.basis, a.layer_version, a.actor_id, a.reason, a.by_edit
  FROM ledger_work w JOIN assignments a ON a.customer_id = w.customer_id AND a.site_id = w.site_id
    AND a.layer_id = CAST(:layer AS bigint) AND a.superseded_at IS NULL
    AND coalesce(a.valid_to, 'infinity') > w.window_from
  WHERE w.known),
-- a full join is never a nested loop, however few rows the planner expects of work tables without statistics
paired AS (
  SELECT n.customer_id, n.site_id, n.valid_from, n.valid_to, n.area_id, n.basis,
         n.by_edit OR coalesce(o.by_edit, false) AS by_edit,
         coalesce(o.valid_to = n.valid_to AND o.area_id IS NOT DISTINCT FROM n.area_id AND o.basis = n.basis
           AND (o.by_edit OR NOT n.by_edit), false) AS stays,
         o.area_id IS NOT DISTINCT FROM n.area_id AND o.basis = n.basis AS inherits,
         o.layer_version, o.actor_id, o.reason,
         o.customer_id AS old_customer_id, o.site_id AS old_site_id, o.valid_from AS old_valid_from, o.recorded_at
  FROM ledger_new n FULL JOIN old o
    ON o.customer_id = n.customer_id AND o.site_id = n.site_id AND o.valid_from = n.valid_from),
superseded AS (
  UPDATE assignments a SET superseded_at = CAST(:recorded AS timestamptz)
  FROM paired p
  WHERE NOT p.stays AND a.customer_id = p.old_customer_id AND a.site_id = p.old_site_id
    AND a.layer_id = CAST(:layer AS bigint) AND a.valid_from = p.old_valid_from AND a.recorded_at = p.recorded_at)
INSERT INTO assignments (customer_id, site_id, layer_id, valid_from, valid_to, recorded_at, area_id, basis,
  layer_version, actor_id, reason, by_edit, ahead)
SELECT p.customer_id, p.site_id, CAST(:layer AS bigint), p.valid_from, nullif(p.valid_to, 'infinity'),
       CAST(:recorded AS timestamptz), p.area_id, p.basis,
       CASE WHEN p.inherits THEN p.layer_version ELSE (
         SELECT f.version FROM layer_periods f
         WHERE f.layer_id = CAST(:layer AS bigint) AND f.superseded_at IS NULL AND f.valid_from <= p.valid_from
           AND coalesce(f.valid_to, 'infinity') > p.valid_from) END,
       CASE WHEN p.inherits THEN p.actor_id ELSE CAST(:actor AS bigint) END,
       CASE WHEN p.inherits THEN p.reason ELSE CAST(:reason AS text) END,
       p.by_edit, p.valid_from > CAST(:now AS timestamptz)
FROM paired p WHERE p.customer_id IS NOT NULL AND NOT p.stays

-- name: write_new
-- The same for sites that the ledger does not know yet.
INSERT INTO assignments (customer_id, site_id, layer_id, valid_from, valid_to, recorded_at, area_id, basis,
  layer_version, actor_id, reason, ahead)
SELECT n.customer_id, n.site_id, CAST(:layer AS bigint), n.valid_from, nullif(n.valid_to, 'infinity'),
       CAST(:recorded AS timestamptz), n.area_id, n.basis, f.version, CAST(:actor AS bigint), CAST(:reason AS text),
       n.valid_from > CAST(:now AS timestamptz)
FROM ledger_new n JOIN layer_periods f
  ON f.layer_id = CAST(:layer AS bigint) AND f.superseded_at IS NULL AND f.valid_from <= n.valid_from
  AND coalesce(f.valid_to, 'infinity') > n.valid_from

-- name: found
-- Contradictions among the evaluated sites: a rule against the polygon, a rule without any polygon, no match at all.
INSERT INTO ledger_found (customer_id, site_id, kind, area_id, polygon_area_id)
WITH present AS (
  SELECT c.* FROM ledger_candidates c
  WHERE c.valid_from <= CAST(:now AS timestamptz) AND c.valid_to > CAST(:now AS timestamptz)),
won AS (
  SELECT DISTINCT ON (w.customer_id, w.site_id) w.customer_id, w.site_id, p.basis, p.area_id
  FROM ledger_work w LEFT JOIN present p ON p.customer_id = w.customer_id AND p.site_id = w.site_id
  ORDER BY w.customer_id, w.site_id, p.rank, p.priority DESC, p.area_id),
polygon AS (
  SELECT DISTINCT ON (p.customer_id, p.site_id) p.customer_id, p.site_id, p.area_id
  FROM present p WHERE p.rank = 3 ORDER BY p.customer_id, p.site_id, p.priority DESC, p.area_id)
SELECT w.customer_id, w.site_id,
       CASE WHEN w.basis IS NULL THEN 'nothing' WHEN g.area_id IS NULL THEN 'no_polygon' ELSE 'rule_against_polygon' END,
       w.area_id, g.area_id
FROM won w LEFT JOIN polygon g ON g.customer_id = w.customer_id AND g.site_id = w.site_id
WHERE CAST(:start AS timestamptz) <= CAST(:now AS timestamptz)
  AND (w.basis IS NULL OR (w.basis = 'rule' AND CASE
    WHEN g.area_id IS NULL THEN CAST(:has_polygons AS boolean) ELSE g.area_id <> w.area_id END))

-- name: queue
-- Make the queue follow; what was resolved stays so while it is the same contradiction.
WITH settled AS (
  DELETE FROM contradictions x USING ledger_work w
  WHERE x.customer_id = w.customer_id AND x.site_id = w.site_id AND x.layer_id = CAST(:layer AS bigint)
    AND NOT EXISTS (
      SELECT FROM ledger_found f WHERE f.customer_id = x.customer_id AND f.site_id = x.site_id))
INSERT INTO contradictions (customer_id, site_id, layer_id, kind, area_id, polygon_area_id, since)
SELECT f.customer_id, f.site_id, CAST(:layer AS bigint), f.kind, f.area_id, f.polygon_area_id, CAST(:now AS timestamptz)
FROM ledger_found f
WHERE NOT EXISTS (
  SELECT FROM contradictions x
  WHERE x.customer_id = f.customer_id AND x.site_id = f.site_id AND x.layer_id = CAST(:layer AS bigint)
    AND x.kind = f.kind AND x.area_id IS NOT DISTINCT FROM f.area_id
    AND x.polygon_area_id IS NOT DISTINCT FROM f.polygon_area_id)
ON CONFLICT (customer_id, site_id, layer_id) DO UPDATE
SET kind = excluded.kind, area_id = excluded.area_id, polygon_area_id = excluded.polygon_area_id,
    since = excluded.since, resolved_at = NULL, resolved_by = NULL, resolution = NULL

-- name: sites_follow
-- The territory of the primary layer stands on the site.
UPDATE sites s SET territory_id = x.area_id
FROM (
  SELECT w.customer_id, w.site_id, a.area_id
  FROM ledger_sites w LEFT JOIN assignments a ON a.customer_id = w.customer_id AND a.site_id = w.site_id
    AND a.layer_id = CAST(:layer AS bigint) AND a.superseded_at IS NULL
    AND a.valid_from <= CAST(:now AS timestamptz) AND coalesce(a.valid_to, 'infinity') > CAST(:now AS timestamptz)) x
WHERE s.customer_id = x.customer_id AND s.id = x.site_id AND s.territory_id IS DISTINCT FROM x.area_id

-- name: customers_follow
-- The territories of its sites stand on the customer. Also where its sites are gone.
UPDATE customers c SET territory_ids = x.territory_ids
FROM (
  SELECT k.customer_id, coalesce(
    array_agg(DISTINCT s.territory_id ORDER BY s.territory_id) FILTER (WHERE s.territory_id IS NOT NULL), '{}')
    AS territory_ids
  FROM ({customers}) AS k LEFT JOIN sites s ON s.customer_id = k.customer_id
  GROUP BY k.customer_id) x
WHERE c.id = x.customer_id AND c.territory_ids IS DISTINCT FROM x.territory_ids

-- name: sites_follow_and_tell
-- The same, and the customers concerned in `changed_customers`.
WITH changed AS (
  UPDATE sites s SET territory_id = x.area_id
  FROM (
    SELECT w.customer_id, w.site_id, a.area_id
    FROM ledger_sites w LEFT JOIN assignments a ON a.customer_id = w.customer_id AND a.site_id = w.site_id
      AND a.layer_id = CAST(:layer AS bigint) AND a.superseded_at IS NULL
      AND a.valid_from <= CAST(:now AS timestamptz) AND coalesce(a.valid_to, 'infinity') > CAST(:now AS timestamptz)) x
  WHERE s.customer_id = x.customer_id AND s.id = x.site_id AND s.territory_id IS DISTINCT FROM x.area_id
  RETURNING s.customer_id)
INSERT INTO changed_customers SELECT DISTINCT c.customer_id FROM changed c
