-- Keeping site_lookup and the cell pyramid in step with customers and sites. `{changed}` is a list of ids or the
-- temporary table changed_customers(customer_id).

-- name: lock_customers
-- Customers about to be refreshed, locked in one order, so that two refreshes of one customer follow each other and
-- the second sees what the first wrote.
SELECT c.id FROM customers c WHERE c.id = ANY (CAST(:ids AS bigint[])) ORDER BY c.id FOR NO KEY UPDATE

-- name: refresh
-- Make the lookup rows of the changed customers what they should be; write the differences of the counts per cell.
-- Returns how many rows were removed, changed and added.
WITH changed AS (SELECT customer_id FROM {changed}),
present AS (
  SELECT l.* FROM changed JOIN site_lookup l ON l.customer_id = changed.customer_id
),
wanted AS (
  SELECT s.customer_id, s.id AS site_id, s.location, c.stage, c.kind, c.owner_id, s.territory_id,
         m.segment_id, s.is_primary, s.location_precision, s.precision_m
  FROM changed
  JOIN customers c ON c.id = changed.customer_id
  JOIN sites s ON s.customer_id = c.id
  LEFT JOIN segment_members m
    ON m.customer_id = c.id AND m.run_id = (SELECT current_run_id FROM segmentations WHERE is_active)
  WHERE s.placement = 'placed' AND c.erased_at IS NULL
),
-- A full join, so that no estimate can turn the comparison into a nested loop.
compared AS (
  SELECT coalesce(w.customer_id, p.customer_id) AS customer_id, coalesce(w.site_id, p.site_id) AS site_id,
         p.site_id IS NULL AS is_new, w.site_id IS NULL AS is_gone,
         w.location, w.stage, w.kind, w.owner_id, w.territory_id, w.segment_id, w.is_primary, w.location_precision,
         w.precision_m,
         p.location AS old_location, p.stage AS old_stage, p.kind AS old_kind, p.owner_id AS old_owner_id,
         p.territory_id AS old_territory_id, p.segment_id AS old_segment_id, p.is_primary AS old_is_primary,
         p.location_precision AS old_location_precision, p.precision_m AS old_precision_m
  FROM present p FULL JOIN wanted w ON w.customer_id = p.customer_id AND w.site_id = p.site_id
),
different AS MATERIALIZED (
  SELECT * FROM compared
  WHERE is_new OR is_gone
     OR (ST_AsEWKB(location), stage, kind, owner_id, territory_id, segment_id, is_primary, location_precision,
         precision_m)
        IS DISTINCT FROM
        (ST_AsEWKB(old_location), old_stage, old_kind, old_owner_id, old_territory_id, old_segment_id, old_is_primary,
         old_location_precision, old_precision_m)
),
gone AS (
  DELETE FROM site_lookup l USING different d
  WHERE d.is_gone AND l.customer_id = d.customer_id AND l.site_id = d.site_id
),
moved AS (
  UPDATE site_lookup l SET location = d.location, stage = d.stage, kind = d.kind, owner_id = d.owner_id,
    territory_id = d.territory_id, segment_id = d.segment_id, is_primary = d.is_primary,
    location_precision = d.location_precision, precision_m = d.precision_m
  FROM different d
  WHERE NOT d.is_new AND NOT d.is_gone AND l.customer_id = d.customer_id AND l.site_id = d.site_id
),
added AS (
  INSERT INTO site_lookup (customer_id, site_id, location, stage, kind, owner_id, territory_id, segment_id, is_primary,
                           location_precision, precision_m)
  SELECT customer_id, site_id, location, stage, kind, owner_id, territory_id, segment_id, is_primary,
         location_precision, precision_m
  FROM different WHERE is_new ORDER BY location
),
counted AS (
  SELECT level, cell >> (2 * (17 - level)) AS cell, stage, kind, owner_id, territory_id, segment_id, sum(n) AS n
  FROM (
    SELECT geocrm_cell(old_location, 17) AS cell, old_stage AS stage, old_kind AS kind, old_owner_id AS owner_id,
           old_territory_id AS territory_id, old_segment_id AS segment_id, -1 AS n
    FROM different WHERE NOT is_new
    UNION ALL
    SELECT geocrm_cell(location, 17), stage, kind, owner_id, territory_id, segment_id, 1
    FROM different WHERE NOT is_gone
  ) AS step
  CROSS JOIN (VALUES (8), (11), (14), (17)) AS pyramid(level)
  WHERE cell IS NOT NULL
  GROUP BY level, cell >> (2 * (17 - level)), stage, kind, owner_id, territory_id, segment_id
  HAVING sum(n) <> 0
),
delta AS (
  INSERT INTO site_cell_deltas (level, cell, stage, kind, owner_id, territory_id, segment_id, n)
  SELECT level, cell, stage, kind, owner_id, territory_id, segment_id, n FROM counted
),
version AS (
  INSERT INTO lookup_changes (id)
  SELECT nextval(pg_get_serial_sequence('lookup_changes', 'id')) WHERE EXISTS (SELECT FROM different)
)
SELECT count(*) FILTER (WHERE is_gone) AS gone, count(*) FILTER (WHERE NOT is_new AND NOT is_gone) AS moved,
       count(*) FILTER (WHERE is_new) AS added
FROM different

-- name: fill_next
-- Every placed site into the new generation, in an order along a space-filling curve.
INSERT INTO site_lookup_next (customer_id, site_id, location, stage, kind, owner_id, territory_id, segment_id,
                              is_primary, location_precision, precision_m)
SELECT s.customer_id, s.id, s.location, c.stage, c.kind, c.owner_id, s.territory_id, m.segment_id,
       s.is_primary, s.location_precision, s.precision_m
FROM sites s JOIN customers c ON c.id = s.customer_id
LEFT JOIN segment_members m
  ON m.customer_id = c.id AND m.run_id = (SELECT current_run_id FROM segmentations WHERE is_active)
WHERE s.placement = 'placed' AND c.erased_at IS NULL
ORDER BY s.location

-- name: fill_next_from_rows
-- The same from rows that were brought by COPY.
INSERT INTO site_lookup_next SELECT * FROM lookup_rows ORDER BY location

-- name: fill_cells
-- The finest level of the pyramid from the new generation; each coarser level, below, from the one three levels finer.
INSERT INTO site_cells_next (level, cell, stage, kind, owner_id, territory_id, segment_id, n)
SELECT 17, cell, stage, kind, owner_id, territory_id, segment_id, count(*)
FROM (SELECT geocrm_cell(location, 17) AS cell, stage, kind, owner_id, territory_id, segment_id
      FROM site_lookup_next OFFSET 0) AS placed  -- OFFSET: the cell is computed once
WHERE cell IS NOT NULL
GROUP BY 2, 3, 4, 5, 6, 7
ORDER BY 2

-- name: fill_cells_14
INSERT INTO site_cells_next (level, cell, stage, kind, owner_id, territory_id, segment_id, n)
SELECT 14, cell >> 6, stage, kind, owner_id, territory_id, segment_id, sum(n)
FROM site_cells_next WHERE level = 17 GROUP BY 2, 3, 4, 5, 6, 7 ORDER BY 2

-- name: fill_cells_11
INSERT INTO site_cells_next (level, cell, stage, kind, owner_id, territory_id, segment_id, n)
SELECT 11, cell >> 6, stage, kind, owner_id, territory_id, segment_id, sum(n)
FROM site_cells_next WHERE level = 14 GROUP BY 2, 3, 4, 5, 6, 7 ORDER BY 2

-- name: fill_cells_8
INSERT INTO site_cells_next (level, cell, stage, kind, owner_id, territory_id, segment_id, n)
SELECT 8, cell >> 6, stage, kind, owner_id, territory_id, segment_id, sum(n)
FROM site_cells_next WHERE level = 11 GROUP BY 2, 3, 4, 5, 6, 7 ORDER BY 2

-- name: merge_cells
-- Fold the deltas that this statement sees into the counts per cell.
WITH taken AS (DELETE FROM site_cell_deltas RETURNING level, cell, stage, kind, owner_id, territory_id, segment_id, n),
touched AS (SELECT DISTINCT level, cell FROM taken),
former AS (
  DELETE FROM site_cells c USING touched t WHERE c.level = t.level AND c.cell = t.cell
  RETURNING c.level, c.cell, c.stage, c.kind, c.owner_id, c.territory_id, c.segment_id, c.n
),
summed AS (
  INSERT INTO site_cells (level, cell, stage, kind, owner_id, territory_id, segment_id, n)
  SELECT level, cell, stage, kind, owner_id, territory_id, segment_id, sum(n)
  FROM (SELECT * FROM former UNION ALL SELECT * FROM taken) AS both_of_them
  GROUP BY level, cell, stage, kind, owner_id, territory_id, segment_id
  HAVING sum(n) <> 0
  ORDER BY level, cell
)
SELECT count(*) FROM taken

-- name: merge_changes
-- One row for all changes so far, with a number that was never used before, once there are many.
WITH former AS (DELETE FROM lookup_changes WHERE (SELECT count(*) FROM lookup_changes) > 200 RETURNING id)
INSERT INTO lookup_changes (id)
SELECT nextval(pg_get_serial_sequence('lookup_changes', 'id')) FROM former HAVING count(*) > 0

-- name: count_stages
-- How many sites of each stage and kind, for choosing plans.
INSERT INTO lookup_counts (stage, kind, n)
SELECT stage, kind, sum(n) FROM site_cells WHERE level = 8 GROUP BY stage, kind
ON CONFLICT (stage, kind) DO UPDATE SET n = excluded.n
