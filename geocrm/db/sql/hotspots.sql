-- name: cells
-- Customers with a point of their own by cell of the web Mercator grid at a zoom, and those of them for whom the
-- condition {events} holds; those left out without a cell, by why. The primary site stands for the customer.
WITH seen AS MATERIALIZED (
  SELECT ST_X(p.point) AS lon, ST_Y(p.point) AS lat, ({events}) AS is_event,
         CASE WHEN abs(ST_Y(p.point)) > 85.0511287798066 THEN 'beyond'
              WHEN l.location_precision IN ('postcode', 'locality', 'region') THEN 'centroid'
              WHEN greatest(l.precision_m, CAST(:least_m AS double precision))
                   > 40075016.68557849 / (1 << CAST(:zoom AS integer)) * cos(radians(ST_Y(p.point))) / 2 THEN 'coarse'
              ELSE 'fits' END AS verdict
  FROM site_lookup l CROSS JOIN LATERAL (SELECT {point} AS point) p
  WHERE l.is_primary AND l.location && ST_MakeEnvelope(
      CAST(:west AS double precision), CAST(:south AS double precision),
      CAST(:east AS double precision), CAST(:north AS double precision), 4326)
    AND geocrm_column(ST_X(p.point), CAST(:zoom AS integer)) BETWEEN CAST(:first_x AS bigint) AND CAST(:last_x AS bigint)
    AND geocrm_row(ST_Y(p.point), CAST(:zoom AS integer)) BETWEEN CAST(:first_y AS bigint) AND CAST(:last_y AS bigint)
    AND ({base})
)
SELECT s.verdict, k.x, k.y, count(*) AS customers, count(*) FILTER (WHERE s.is_event) AS events
FROM seen s LEFT JOIN LATERAL (
  SELECT geocrm_column(s.lon, CAST(:zoom AS integer)) AS x, geocrm_row(s.lat, CAST(:zoom AS integer)) AS y
  WHERE s.verdict = 'fits') k ON true
GROUP BY s.verdict, k.x, k.y
ORDER BY s.verdict, k.y, k.x

-- name: areas
-- The areas of a layer as published now that have a polygon, with their size.
SELECT v.area_id AS id, v.version, v.name, v.attributes, ST_AsBinary(v.geometry) AS geometry, ST_Area(geography(v.geometry)) AS area_m2
FROM layers y
JOIN layer_areas la ON la.layer_id = y.id AND la.layer_version = y.current_version
JOIN area_versions v ON v.area_id = la.area_id AND v.version = la.area_version
WHERE y.id = CAST(:layer AS bigint) AND v.geometry IS NOT NULL
ORDER BY v.area_id

-- name: customers_of_areas
-- Customers by area of a layer, those of them for whom {events} holds, and what all of them bought in a window of time;
-- a customer counts in one area, of several at its point the one of higher priority, then of lower id. Those left out
-- have no area. Their points must be known better than half the edge of a square as large as the area.
WITH sized AS MATERIALIZED (
  SELECT k.area_id, k.version, k.reach_m
  FROM unnest(CAST(:areas AS bigint[]), CAST(:versions AS integer[]), CAST(:reaches AS double precision[]))
    AS k(area_id, version, reach_m)
),
seen AS MATERIALIZED (
  SELECT l.customer_id, p.point, ({events}) AS is_event, greatest(l.precision_m, CAST(:least_m AS double precision)) AS precision_m,
         l.location_precision IN ('postcode', 'locality', 'region') AS is_centroid
  FROM site_lookup l CROSS JOIN LATERAL (SELECT {point} AS point) p
  WHERE l.is_primary AND ({base})
),
judged AS MATERIALIZED (
  SELECT s.customer_id, s.is_event, i.area_id,
         CASE WHEN s.is_centroid AND NOT CAST(:centroids AS boolean) THEN 'centroid'
              WHEN i.area_id IS NULL THEN 'outside'
              WHEN s.precision_m > i.reach_m THEN 'coarse'
              ELSE 'fits' END AS verdict
  FROM seen s LEFT JOIN LATERAL (
    SELECT k.area_id, k.reach_m
    FROM area_versions v JOIN sized k ON k.area_id = v.area_id AND k.version = v.version
    WHERE v.geometry && s.point AND ST_Intersects(v.geometry, s.point)
    ORDER BY v.priority DESC, v.area_id LIMIT 1) i ON true
)
SELECT j.verdict, CASE WHEN j.verdict = 'fits' THEN j.area_id END AS area_id, count(*) AS customers,
       count(*) FILTER (WHERE j.is_event) AS events, coalesce(sum(b.amount), 0) AS sales, count(b.amount) AS buyers
FROM judged j LEFT JOIN LATERAL (
  SELECT sum(x.amount) AS amount FROM visible.sales x
  WHERE CAST(:currency AS text) IS NOT NULL AND x.currency = CAST(:currency AS text)
    AND x.customer_id = j.customer_id AND j.verdict = 'fits'
    AND x.occurred_at >= CAST(:since AS timestamptz) AND x.occurred_at < CAST(:until AS timestamptz)) b ON true
GROUP BY 1, 2
ORDER BY 1, 2

-- name: places_of_chunk
-- Primary sites of a chunk of customers, for the worker: point, its column and row at a zoom, how well it is known,
-- whether {events} holds, and 1 for a centroid, 2 where there are no cells.
SELECT c.id, ST_X(l.location), ST_Y(l.location), geocrm_column(ST_X(l.location), CAST(:zoom AS integer)),
       geocrm_row(ST_Y(l.location), CAST(:zoom AS integer)), coalesce(l.precision_m, 0), CASE WHEN {events} THEN 1 ELSE 0 END,
       CASE WHEN l.location_precision IN ('postcode', 'locality', 'region') THEN 1
            WHEN abs(ST_Y(l.location)) > 85.0511287798066 THEN 2 ELSE 0 END
FROM customers c JOIN site_lookup l ON l.customer_id = c.id AND l.is_primary
WHERE c.id >= CAST(:first AS bigint) AND c.id <= CAST(:last AS bigint) AND c.erased_at IS NULL
ORDER BY c.id

-- name: areas_by_rank
-- The areas of a layer as published now that have a polygon, the one first that holds a point which lies in several.
SELECT v.area_id AS id, v.name, ST_AsBinary(v.geometry) AS geometry, ST_Area(geography(v.geometry)) AS area_m2
FROM layers y
JOIN layer_areas la ON la.layer_id = y.id AND la.layer_version = y.current_version
JOIN area_versions v ON v.area_id = la.area_id AND v.version = la.area_version
WHERE y.id = CAST(:layer AS bigint) AND v.geometry IS NOT NULL
ORDER BY v.priority DESC, v.area_id
