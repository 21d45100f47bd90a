-- Import of products, interactions and places. Placeholders in braces are lists of our own column names.

-- name: keys
-- Each external id once (the last line of it counts), with the row it means. {sources}, {id}, {sequence}: names of tables.
CREATE TEMP TABLE import_keys ON COMMIT DROP AS
SELECT o.external_id, o.last_line, o.{id} IS NULL AS is_new,
       COALESCE(o.{id}, nextval(pg_get_serial_sequence('{table}', 'id'))) AS object_id
FROM (SELECT g.external_id, g.last_line, known.{id}
      FROM (SELECT external_id, max(line_no) AS last_line FROM import_stage GROUP BY external_id) AS g
      LEFT JOIN {sources} AS known ON known.source = CAST(:source AS text) AND known.external_id = g.external_id
      ORDER BY g.last_line) AS o

-- name: change
-- Known rows whose given fields differ; what they were is kept for undo.
WITH wanted AS (
  SELECT k.object_id, {computed} s.* FROM import_keys k JOIN import_stage s ON s.line_no = k.last_line {join} WHERE NOT k.is_new
), differing AS (
  SELECT w.line_no, w.object_id, {before} AS before
  FROM wanted w JOIN {table} c ON c.id = w.object_id
  WHERE ({current}) IS DISTINCT FROM ({wanted})
  FOR UPDATE OF c
), kept AS (
  INSERT INTO import_before (line_no, part, object_id, before) SELECT line_no, '{part}', object_id, before FROM differing
)
UPDATE {table} c SET {assignments} {touched}, batch_id = CAST(:batch_id AS bigint)
FROM differing d JOIN wanted w USING (object_id)
WHERE c.id = d.object_id

-- name: insert_products
INSERT INTO products (id, sku, name, category, unit_price, unit_cost, currency, attributes, batch_id)
SELECT k.object_id, s.sku, s.name, s.category, s.unit_price, s.unit_cost, s.currency, COALESCE(s.attributes, '{}'),
       CAST(:batch_id AS bigint)
FROM import_keys k JOIN import_stage s ON s.line_no = k.last_line WHERE k.is_new ORDER BY k.last_line

-- name: insert_places
INSERT INTO places (id, kind, name, brand, line1, city, region, postal_code, country, location, location_precision, precision_m,
                    location_source, placement, flags, floor_area_m2, attributes, batch_id)
SELECT k.object_id, s.kind, s.name, s.brand, s.line1, s.city, s.region, s.postal_code, s.country,
       ST_SetSRID(ST_MakePoint(s.lon, s.lat), 4326), s.location_precision, s.precision_m, s.location_source, s.placement,
       COALESCE(s.site_flags, '{}'), s.floor_area_m2, COALESCE(s.attributes, '{}'), CAST(:batch_id AS bigint)
FROM import_keys k JOIN import_stage s ON s.line_no = k.last_line WHERE k.is_new ORDER BY k.last_line

-- name: insert_sources
INSERT INTO {sources} (source, external_id, {id})
SELECT CAST(:source AS text), external_id, object_id FROM import_keys WHERE is_new

-- name: rows
INSERT INTO import_rows (batch_id, line_no, outcome, object_id, flags, before)
SELECT CAST(:batch_id AS bigint), s.line_no,
       CASE WHEN k.is_new THEN 'new' WHEN b.before IS NOT NULL THEN 'changed' ELSE 'unchanged' END, k.object_id, s.flags, b.before
FROM import_stage s JOIN import_keys k USING (external_id)
LEFT JOIN (SELECT line_no, jsonb_agg(jsonb_build_object('part', part, 'id', object_id, 'before', before)) AS before
           FROM import_before GROUP BY line_no) AS b ON b.line_no = s.line_no

-- name: interaction_keys
CREATE TEMP TABLE import_keys ON COMMIT DROP AS
SELECT g.external_id, g.last_line, COALESCE(cs.customer_id, own.id) AS customer_id, known.interaction_id IS NULL AS is_new,
       known.customer_id AS old_customer_id,
       COALESCE(known.interaction_id, nextval(pg_get_serial_sequence('interactions', 'id'))) AS object_id
FROM (SELECT external_id, max(line_no) AS last_line FROM import_stage GROUP BY external_id ORDER BY min(line_no)) AS g
JOIN import_stage s ON s.line_no = g.last_line
LEFT JOIN customer_sources cs ON cs.source = CAST(:source AS text) AND cs.external_id = s.customer
LEFT JOIN customers own ON own.id = CASE WHEN s.customer ~ '^cus_[1-9][0-9]{0,17}$' THEN CAST(substr(s.customer, 5) AS bigint) END
LEFT JOIN interaction_sources known ON known.source = CAST(:source AS text) AND known.external_id = g.external_id

-- name: interaction_unknown
SELECT s.line_no, s.customer FROM import_stage s JOIN import_keys k USING (external_id) WHERE k.customer_id IS NULL

-- name: interaction_foreign
-- Lines of customers that the actor does not see, and (theirs: false) lines of what is such a customer's so far.
SELECT s.line_no, s.customer, COALESCE(bool_or(c.id = k.customer_id), false) AS theirs
FROM import_stage s JOIN import_keys k USING (external_id) JOIN customers c ON c.id IN (k.customer_id, k.old_customer_id)
WHERE NOT (COALESCE(c.owner_id = ANY (CAST(:owners AS bigint[])), false) OR c.territory_ids && CAST(:territories AS bigint[]))
GROUP BY s.line_no, s.customer

-- name: interaction_changed
-- Known interactions that differ, with what they were; they are written anew under their own id.
CREATE TEMP TABLE import_changed ON COMMIT DROP AS
SELECT k.object_id, k.last_line, k.old_customer_id, k.customer_id,
       to_jsonb(c) || jsonb_build_object('location', CAST(c.location AS text)) AS before
FROM import_keys k JOIN import_stage s ON s.line_no = k.last_line
JOIN interactions c ON c.customer_id = k.old_customer_id AND c.id = k.object_id
WHERE NOT k.is_new AND (k.customer_id <> k.old_customer_id OR ({current}) IS DISTINCT FROM ({wanted}))

-- name: interaction_keep
INSERT INTO import_before (line_no, part, object_id, before) SELECT last_line, 'interaction', object_id, before FROM import_changed

-- name: interaction_move
-- A new row takes over what the file does not give.
INSERT INTO interactions (customer_id, id, kind, channel, direction, department, user_id, occurred_at, subject, body, outcome, score,
                          location, follow_up_at, campaign_id, version, batch_id, created_at)
SELECT k.customer_id, k.object_id, s.kind, {channel}, {direction}, {department}, {user_id}, s.occurred_at, {subject}, {body},
       {outcome}, {score}, {location}, {follow_up_at}, old.campaign_id, COALESCE(old.version + 1, 1), CAST(:batch_id AS bigint),
       COALESCE(old.created_at, now())
FROM import_keys k JOIN import_stage s ON s.line_no = k.last_line
LEFT JOIN import_changed c ON c.object_id = k.object_id
LEFT JOIN LATERAL (SELECT (jsonb_populate_record(NULL::interactions, c.before)).*) AS old ON c.object_id IS NOT NULL
WHERE k.is_new OR c.object_id IS NOT NULL
ORDER BY k.last_line

-- name: interaction_delete
DELETE FROM interactions i USING import_changed c WHERE i.customer_id = c.old_customer_id AND i.id = c.object_id

-- name: interaction_sources
INSERT INTO interaction_sources (source, external_id, customer_id, interaction_id)
SELECT CAST(:source AS text), external_id, customer_id, object_id FROM import_keys WHERE is_new

-- name: interaction_move_sources
UPDATE interaction_sources s SET customer_id = c.customer_id FROM import_changed c
WHERE c.customer_id <> c.old_customer_id AND s.customer_id = c.old_customer_id AND s.interaction_id = c.object_id

-- name: interaction_rows
INSERT INTO import_rows (batch_id, line_no, outcome, customer_id, object_id, flags, before)
SELECT CAST(:batch_id AS bigint), s.line_no,
       CASE WHEN k.is_new THEN 'new' WHEN c.object_id IS NOT NULL THEN 'changed' ELSE 'unchanged' END,
       k.customer_id, k.object_id, s.flags, b.before
FROM import_stage s JOIN import_keys k USING (external_id)
LEFT JOIN import_changed c ON c.object_id = k.object_id
LEFT JOIN (SELECT line_no, jsonb_agg(jsonb_build_object('part', part, 'id', object_id, 'before', before)) AS before
           FROM import_before GROUP BY line_no) AS b ON b.line_no = s.line_no
