-- Reading the ledger. {schema} is `visible` under row security and `public` for the worker.

-- name: at_points
SELECT g.number, t.*
FROM unnest(CAST(:lon AS double precision[]), CAST(:lat AS double precision[])) WITH ORDINALITY AS g (lon, lat, number)
CROSS JOIN LATERAL geocrm_point_territories(
  CASE WHEN geocrm_exact() THEN ST_SetSRID(ST_MakePoint(g.lon, g.lat), 4326)
       ELSE geocrm_snap(ST_SetSRID(ST_MakePoint(g.lon, g.lat), 4326)) END,
  coalesce(CAST(:as_of AS timestamptz), now())) t
ORDER BY g.number, t.is_primary DESC, t.layer_id

-- name: of_customer
-- What the ledger said, as known at `known_at`, of a customer's sites at `as_of`.
SELECT a.site_id, a.layer_id, y.key AS layer_key, y.name AS layer_name, y.is_primary, a.area_id,
       coalesce(v.name, r.name) AS name, o.owner_id, u.name AS owner_name, o.team_id, t.name AS team_name, a.basis,
       a.valid_from, a.valid_to, a.recorded_at, a.superseded_at, a.layer_version, a.actor_id, b.name AS actor_name,
       a.reason, a.by_edit
FROM {schema}.assignments a JOIN layers y ON y.id = a.layer_id
LEFT JOIN areas r ON r.id = a.area_id
LEFT JOIN area_periods d ON d.layer_id = a.layer_id AND d.area_id = a.area_id
  AND d.valid_from <= coalesce(CAST(:as_of AS timestamptz), now()) AND d.valid_to > coalesce(CAST(:as_of AS timestamptz), now())
LEFT JOIN area_versions v ON v.area_id = d.area_id AND v.version = d.area_version
LEFT JOIN area_owners o ON o.area_id = a.area_id AND o.valid_from <= coalesce(CAST(:as_of AS timestamptz), now())
  AND (o.valid_to IS NULL OR o.valid_to > coalesce(CAST(:as_of AS timestamptz), now()))
LEFT JOIN users u ON u.id = o.owner_id LEFT JOIN teams t ON t.id = o.team_id LEFT JOIN users b ON b.id = a.actor_id
WHERE a.customer_id = CAST(:customer AS bigint)
  AND a.valid_from <= coalesce(CAST(:as_of AS timestamptz), now())
  AND (a.valid_to IS NULL OR a.valid_to > coalesce(CAST(:as_of AS timestamptz), now()))
  AND CASE WHEN CAST(:known_at AS timestamptz) IS NULL THEN a.superseded_at IS NULL
      ELSE a.recorded_at <= CAST(:known_at AS timestamptz)
        AND (a.superseded_at IS NULL OR a.superseded_at > CAST(:known_at AS timestamptz)) END
ORDER BY y.is_primary DESC, a.layer_id, a.site_id

-- name: history
-- The ledger of a customer, newest first: as known now, as known at `known_at`, or all rows that ever were.
SELECT a.site_id, a.layer_id, y.key AS layer_key, y.name AS layer_name, y.is_primary, a.area_id, r.name,
       o.owner_id, u.name AS owner_name, o.team_id, t.name AS team_name, a.basis, a.valid_from, a.valid_to,
       a.recorded_at, a.superseded_at, a.layer_version, a.actor_id, b.name AS actor_name, a.reason, a.by_edit
FROM {schema}.assignments a JOIN layers y ON y.id = a.layer_id
LEFT JOIN areas r ON r.id = a.area_id
LEFT JOIN area_owners o ON o.area_id = a.area_id AND o.valid_from <= greatest(a.valid_from, '-infinity')
  AND (o.valid_to IS NULL OR o.valid_to > a.valid_from)
LEFT JOIN users u ON u.id = o.owner_id LEFT JOIN teams t ON t.id = o.team_id LEFT JOIN users b ON b.id = a.actor_id
WHERE a.customer_id = CAST(:customer AS bigint)
  AND (CAST(:layer AS bigint) IS NULL OR a.layer_id = CAST(:layer AS bigint))
  AND CASE WHEN CAST(:superseded AS boolean) THEN true
      WHEN CAST(:known_at AS timestamptz) IS NULL THEN a.superseded_at IS NULL
      ELSE a.recorded_at <= CAST(:known_at AS timestamptz)
        AND (a.superseded_at IS NULL OR a.superseded_at > CAST(:known_at AS timestamptz)) END
ORDER BY a.valid_from DESC, a.recorded_at DESC, y.is_primary DESC, a.layer_id, a.site_id

-- name: sales_by_territory
-- Sales of a time span by territory: of the one valid at the sale, or at one moment. A sale without a site is that of the
-- customer's primary site: of the one at the sale, or of today's.
WITH primaries AS (
  SELECT f.customer_id, f.site_id, f.until, lag(f.until, 1, '-infinity') OVER (PARTITION BY f.customer_id ORDER BY f.until) AS since
  FROM {schema}.former_primary_sites f WHERE CAST(:moment AS timestamptz) IS NULL)
SELECT CAST(date_trunc(CAST(:period AS text), s.occurred_at AT TIME ZONE 'UTC') AS date) AS period, a.area_id,
       min(r.name) AS name, s.currency, sum(s.amount) AS amount, count(*) AS sales, count(DISTINCT s.customer_id) AS customers
FROM {schema}.sales s
LEFT JOIN {schema}.sites p ON p.customer_id = s.customer_id AND p.is_primary AND s.site_id IS NULL AND NOT {hidden}
LEFT JOIN primaries f ON f.customer_id = s.customer_id AND s.site_id IS NULL AND NOT {hidden}
  AND s.occurred_at >= f.since AND s.occurred_at < f.until
LEFT JOIN {schema}.assignments a ON a.customer_id = s.customer_id AND a.site_id = coalesce(s.site_id, f.site_id, p.id)
  AND a.layer_id = CAST(:layer AS bigint) AND a.superseded_at IS NULL
  AND a.valid_from <= coalesce(CAST(:moment AS timestamptz), s.occurred_at)
  AND coalesce(a.valid_to, 'infinity') > coalesce(CAST(:moment AS timestamptz), s.occurred_at)
LEFT JOIN areas r ON r.id = a.area_id
WHERE s.occurred_at >= CAST(:start AS timestamptz) AND s.occurred_at < CAST(:end AS timestamptz)
GROUP BY 1, a.area_id, s.currency ORDER BY 1, a.area_id NULLS LAST, s.currency

-- name: contradictions
SELECT x.customer_id, c.name AS customer_name, x.site_id, x.layer_id, y.key AS layer_key, x.kind, x.area_id,
       r.name AS area_name, x.polygon_area_id, g.name AS polygon_area_name, x.since, x.resolved_at, x.resolved_by,
       x.resolution
FROM {schema}.contradictions x JOIN customers c ON c.id = x.customer_id JOIN layers y ON y.id = x.layer_id
LEFT JOIN areas r ON r.id = x.area_id LEFT JOIN areas g ON g.id = x.polygon_area_id
WHERE (CAST(:layer AS bigint) IS NULL OR x.layer_id = CAST(:layer AS bigint))
  AND (CAST(:kind AS text) IS NULL OR x.kind = CAST(:kind AS text))
  AND (x.resolved_at IS NOT NULL) = CAST(:resolved AS boolean)
  AND (x.customer_id, x.site_id, x.layer_id)
    > (CAST(:after_customer AS bigint), CAST(:after_site AS bigint), CAST(:after_layer AS bigint))
ORDER BY x.customer_id, x.site_id, x.layer_id LIMIT CAST(:limit AS integer)

-- name: contradiction_counts
SELECT x.layer_id, x.kind, count(*) AS open FROM {schema}.contradictions x
WHERE x.resolved_at IS NULL AND (CAST(:layer AS bigint) IS NULL OR x.layer_id = CAST(:layer AS bigint))
GROUP BY x.layer_id, x.kind ORDER BY x.layer_id, x.kind

-- name: overlaps
-- Where areas of a version lie over one another, the largest first.
WITH held AS (
  SELECT v.area_id, v.name, v.priority, v.geometry
  FROM layer_areas la JOIN area_versions v ON v.area_id = la.area_id AND v.version = la.area_version
  WHERE la.layer_id = CAST(:layer AS bigint) AND la.layer_version = CAST(:version AS integer) AND v.geometry IS NOT NULL),
shared AS (
  SELECT a.area_id AS area_id, a.name, b.area_id AS other_area_id, b.name AS other_name,
         CASE WHEN a.priority >= b.priority THEN a.area_id ELSE b.area_id END AS wins_area_id,
         ST_CollectionExtract(ST_Intersection(a.geometry, b.geometry), 3) AS geometry
  FROM held a JOIN held b ON a.area_id < b.area_id AND a.geometry && b.geometry AND ST_Intersects(a.geometry, b.geometry)),
measured AS (
  SELECT s.*, ST_Area(geography(s.geometry)) AS area_m2 FROM shared s WHERE NOT ST_IsEmpty(s.geometry))
SELECT m.area_id, m.name, m.other_area_id, m.other_name, m.wins_area_id, m.area_m2,
       ST_X(ST_PointOnSurface(m.geometry)) AS lon, ST_Y(ST_PointOnSurface(m.geometry)) AS lat,
       ST_AsGeoJSON(m.geometry) AS geometry, count(*) OVER () AS found
FROM measured m WHERE m.area_m2 >= CAST(:least_m2 AS double precision)
ORDER BY m.area_m2 DESC, m.area_id, m.other_area_id LIMIT CAST(:limit AS integer)

-- name: gaps
-- Holes between the areas of a version that no area covers, the largest first.
WITH together AS (
  SELECT ST_Union(v.geometry) AS geometry
  FROM layer_areas la JOIN area_versions v ON v.area_id = la.area_id AND v.version = la.area_version
  WHERE la.layer_id = CAST(:layer AS bigint) AND la.layer_version = CAST(:version AS integer) AND v.geometry IS NOT NULL),
holes AS (
  SELECT ST_Difference(ST_MakePolygon(ST_ExteriorRing(r.geom)), t.geometry) AS geometry
  FROM together t CROSS JOIN LATERAL ST_Dump(t.geometry) AS d CROSS JOIN LATERAL ST_DumpRings(d.geom) AS r
  WHERE r.path[1] > 0),
parts AS (SELECT p.geom AS geometry, ST_Area(geography(p.geom)) AS area_m2 FROM holes h CROSS JOIN LATERAL ST_Dump(h.geometry) p)
SELECT m.area_m2, ST_X(ST_PointOnSurface(m.geometry)) AS lon, ST_Y(ST_PointOnSurface(m.geometry)) AS lat,
       ST_AsGeoJSON(m.geometry) AS geometry, count(*) OVER () AS found
FROM parts m WHERE ST_Dimension(m.geometry) = 2 AND m.area_m2 >= CAST(:least_m2 AS double precision)
ORDER BY m.area_m2 DESC, 2, 3 LIMIT CAST(:limit AS integer)

-- name: preview_moves
-- Who moves, as far as the reader sees it. Areas are called as in the draft, where they stand in it.
WITH drafted AS (
  SELECT v.area_id, v.name FROM layer_areas la JOIN area_versions v ON v.area_id = la.area_id AND v.version = la.area_version
  WHERE la.layer_id = CAST(:layer AS bigint) AND la.layer_version = CAST(:version AS integer))
SELECT m.customer_id, c.name AS customer_name, m.site_id, m.from_area_id, coalesce(fd.name, f.name) AS from_name, m.from_basis,
       m.to_area_id, coalesce(td.name, t.name) AS to_name, m.to_basis
FROM ledger_moves m JOIN visible.sites s ON s.customer_id = m.customer_id AND s.id = m.site_id
JOIN customers c ON c.id = m.customer_id
LEFT JOIN areas f ON f.id = m.from_area_id LEFT JOIN areas t ON t.id = m.to_area_id
LEFT JOIN drafted fd ON fd.area_id = m.from_area_id LEFT JOIN drafted td ON td.area_id = m.to_area_id
WHERE m.from_area_id IS DISTINCT FROM m.to_area_id
ORDER BY m.customer_id, m.site_id LIMIT CAST(:limit AS integer)

-- name: preview_counts
-- Sites that leave and enter each area, by its name in the draft.
SELECT x.area_id, a.name, a.owner_id, a.team_id, sum(x.leaving) AS leaving, sum(x.entering) AS entering
FROM (
  SELECT from_area_id AS area_id, count(*) AS leaving, 0 AS entering FROM ledger_moves
  WHERE from_area_id IS DISTINCT FROM to_area_id GROUP BY 1
  UNION ALL
  SELECT to_area_id, 0, count(*) FROM ledger_moves WHERE from_area_id IS DISTINCT FROM to_area_id GROUP BY 1) x
LEFT JOIN LATERAL (
  SELECT coalesce(d.name, r.name) AS name, coalesce(o.owner_id, r.owner_id) AS owner_id,
    coalesce(o.team_id, r.team_id) AS team_id
  FROM areas r
  LEFT JOIN layer_areas la ON la.area_id = r.id AND la.layer_id = CAST(:layer AS bigint)
    AND la.layer_version = CAST(:version AS integer)
  LEFT JOIN area_versions d ON d.area_id = la.area_id AND d.version = la.area_version
  LEFT JOIN area_owners o ON o.area_id = r.id AND o.valid_from <= CAST(:moment AS timestamptz)
    AND (o.valid_to IS NULL OR o.valid_to > CAST(:moment AS timestamptz))
  WHERE r.id = x.area_id) a ON true
GROUP BY x.area_id, a.name, a.owner_id, a.team_id ORDER BY x.area_id NULLS LAST

-- name: preview_sales
-- Sales of the last twelve months that move with the sites, as far as the reader sees them.
SELECT m.from_area_id, m.to_area_id, f.currency, sum(f.amount) AS amount
FROM ledger_moves m JOIN visible.sites s ON s.customer_id = m.customer_id AND s.id = m.site_id
JOIN visible.sales f ON f.customer_id = m.customer_id AND (f.site_id = m.site_id OR (f.site_id IS NULL AND s.is_primary AND NOT f.site_hidden))
WHERE m.from_area_id IS DISTINCT FROM m.to_area_id
  AND f.occurred_at >= CAST(:now AS timestamptz) - interval '12 months' AND f.occurred_at <= CAST(:now AS timestamptz)
GROUP BY m.from_area_id, m.to_area_id, f.currency ORDER BY 1, 2, 3

-- name: preview_seen
SELECT count(*) FROM ledger_moves m JOIN visible.sites s ON s.customer_id = m.customer_id AND s.id = m.site_id
WHERE m.from_area_id IS DISTINCT FROM m.to_area_id
