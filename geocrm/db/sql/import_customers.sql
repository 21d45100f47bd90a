-- Import of customers: from the temporary table import_stage (one row per good line of the file) into customers, sites and
-- contacts. Placeholders in braces are lists of our own column names, never anything from a file.

-- name: keys
-- Each external id of the file once, with the customer it means; ids of new customers are drawn here, in order of the file.
CREATE TEMP TABLE import_keys ON COMMIT DROP AS
SELECT o.external_id, o.first_line, o.lines, o.customer_id IS NULL AS is_new,
       COALESCE(o.customer_id, nextval(pg_get_serial_sequence('customers', 'id'))) AS customer_id
FROM (SELECT g.external_id, g.first_line, g.lines, known.customer_id
      FROM (SELECT external_id, min(line_no) AS first_line, count(*) AS lines FROM import_stage GROUP BY external_id) AS g
      LEFT JOIN customer_sources AS known ON known.source = CAST(:source AS text) AND known.external_id = g.external_id
      ORDER BY g.first_line) AS o

-- name: drop_erased
-- Rows of customers that were erased are not brought back.
SELECT s.line_no FROM import_stage s JOIN import_keys k USING (external_id)
JOIN customers c ON c.id = k.customer_id WHERE NOT k.is_new AND c.erased_at IS NOT NULL

-- name: drop_foreign
-- Rows of customers that the actor does not see.
SELECT s.line_no FROM import_stage s JOIN import_keys k USING (external_id)
JOIN customers c ON c.id = k.customer_id
WHERE NOT k.is_new AND NOT (COALESCE(c.owner_id = ANY (CAST(:owners AS bigint[])), false)
                            OR c.territory_ids && CAST(:territories AS bigint[]))

-- name: parents
-- The customer above each customer of the file, where the actor sees it.
CREATE TEMP TABLE import_parents ON COMMIT DROP AS
SELECT k.customer_id, COALESCE(above.customer_id, seen.id) AS parent_id, s.line_no
FROM import_keys k JOIN import_stage s ON s.line_no = k.first_line
LEFT JOIN import_keys above ON above.external_id = s.parent
LEFT JOIN customer_sources known ON known.source = CAST(:source AS text) AND known.external_id = s.parent
LEFT JOIN customers seen ON seen.id = known.customer_id
  AND (CAST(:sees_all AS boolean) OR COALESCE(seen.owner_id = ANY (CAST(:owners AS bigint[])), false)
       OR seen.territory_ids && CAST(:territories AS bigint[]))
WHERE s.parent IS NOT NULL

-- name: bad_parents
-- Lines whose parent is unknown, the customer itself, or below it.
WITH RECURSIVE wanted AS (
  SELECT p.customer_id, p.parent_id, p.line_no FROM import_parents p
), up AS (
  SELECT w.customer_id AS start_id, w.parent_id AS at_id, 1 AS steps FROM wanted w
  WHERE w.parent_id IS NOT NULL AND w.parent_id <> w.customer_id
  UNION ALL
  SELECT u.start_id, COALESCE(w.parent_id, c.parent_id), u.steps + 1
  FROM up u LEFT JOIN wanted w ON w.customer_id = u.at_id LEFT JOIN customers c ON c.id = u.at_id
  WHERE u.at_id <> u.start_id AND u.steps < 50 AND COALESCE(w.parent_id, c.parent_id) IS NOT NULL
)
SELECT w.line_no, w.customer_id,
       CASE WHEN w.parent_id IS NULL THEN 'parent_unknown' ELSE 'parent_circular' END AS flag
FROM wanted w
WHERE w.parent_id IS NULL OR w.parent_id = w.customer_id
   OR EXISTS (SELECT FROM up u WHERE u.start_id = w.customer_id AND (u.at_id = u.start_id OR u.steps >= 50))

-- name: insert_customers
-- New customers, straight with the territory that was foreseen for their sites.
INSERT INTO customers (id, kind, name, parent_id, stage, owner_id, territory_ids, industry, size_class, preferred_channel,
                       attributes, batch_id)
SELECT k.customer_id, s.kind, s.name, {parent}, COALESCE(s.stage, 'active'), s.owner_id,
       CASE WHEN k.lines > 1 THEN COALESCE(several.territory_ids, '{}')
            WHEN s.territory_id IS NULL THEN '{}' ELSE ARRAY[s.territory_id] END,
       s.industry, s.size_class, s.preferred_channel, COALESCE(s.attributes, '{}'), CAST(:batch_id AS bigint)
FROM import_keys k JOIN import_stage s ON s.line_no = k.first_line
LEFT JOIN (SELECT s2.external_id, array_agg(DISTINCT s2.territory_id ORDER BY s2.territory_id) AS territory_ids
           FROM import_stage s2 JOIN import_keys k2 USING (external_id)
           WHERE k2.lines > 1 AND s2.territory_id IS NOT NULL GROUP BY 1) AS several
  ON k.lines > 1 AND several.external_id = k.external_id
{parent_join}
WHERE k.is_new
ORDER BY k.first_line

-- name: insert_customer_sources
INSERT INTO customer_sources (source, external_id, customer_id)
SELECT CAST(:source AS text), external_id, customer_id FROM import_keys WHERE is_new
ORDER BY external_id COLLATE "C"  -- in the order of the key: neighbours fill the same page

-- name: change_customers
-- Known customers whose given fields differ; what they were is kept for undo. Returns their number.
WITH wanted AS (
  SELECT k.customer_id, {parent} AS parent_id, s.*
  FROM import_keys k JOIN import_stage s ON s.line_no = k.first_line {parent_join}
  WHERE NOT k.is_new
), differing AS (
  SELECT w.line_no, w.customer_id, to_jsonb(c) AS before
  FROM wanted w JOIN customers c ON c.id = w.customer_id
  WHERE ({current}) IS DISTINCT FROM ({wanted})
  FOR UPDATE OF c
), kept AS (
  INSERT INTO import_before (line_no, part, object_id, before)
  SELECT line_no, 'customer', customer_id, before FROM differing
)
UPDATE customers c SET {assignments}, version = c.version + 1, updated_at = now(), batch_id = CAST(:batch_id AS bigint)
FROM differing d JOIN wanted w USING (customer_id)
WHERE c.id = d.customer_id

-- name: site_groups
-- The addresses of each customer that need more thought: several lines, or a customer already known. One row per line:
-- `spot` is the address folded; lines with the same site id or the same address mean one site.
CREATE TEMP TABLE import_spots ON COMMIT DROP AS
SELECT s.line_no, k.customer_id, k.external_id, k.is_new, s.site_key,
       min(s.line_no) OVER (PARTITION BY k.customer_id, COALESCE('k' || s.site_key, 'a' || spot.spot)) AS site_line,
       spot.spot
FROM import_stage s JOIN import_keys k USING (external_id)
CROSS JOIN LATERAL (SELECT geocrm_import_spot(s.line1, s.line2, s.city, s.region, s.postal_code, s.country, s.lon, s.lat) AS spot) AS spot
WHERE s.has_site AND (k.lines > 1 OR NOT k.is_new)

-- name: groups
-- The sites of the file that need more thought, each once.
CREATE TEMP TABLE import_groups ON COMMIT DROP AS
SELECT DISTINCT ON (customer_id, site_line) customer_id, site_line, external_id, site_key, spot, is_new
FROM import_spots WHERE line_no = site_line

-- name: existing_sites
-- What the source already calls the sites of the known customers, with their addresses folded.
CREATE TEMP TABLE import_existing ON COMMIT DROP AS
SELECT ss.customer_id, ss.site_id, ss.external_id AS key,
       geocrm_import_spot(t.line1, t.line2, t.city, t.region, t.postal_code, t.country,
                          CAST(ST_X(t.location) AS float8), CAST(ST_Y(t.location) AS float8)) AS spot
FROM (SELECT DISTINCT customer_id FROM import_groups WHERE NOT is_new) AS g
JOIN site_sources ss ON ss.customer_id = g.customer_id AND ss.source = CAST(:source AS text)
JOIN sites t ON t.customer_id = ss.customer_id AND t.id = ss.site_id

-- name: settled_sites
-- Known sites that a group means: by the source's own key, else by the same address.
CREATE TEMP TABLE import_settled ON COMMIT DROP AS
SELECT g.customer_id, g.site_line, e.site_id, e.key
FROM import_groups g JOIN import_existing e ON e.customer_id = g.customer_id AND e.key = g.site_key
UNION ALL
(SELECT DISTINCT ON (e.customer_id, e.site_id) g.customer_id, g.site_line, e.site_id, e.key
 FROM import_groups g JOIN import_existing e ON e.customer_id = g.customer_id AND e.spot = g.spot
 WHERE g.site_key IS NULL
 ORDER BY e.customer_id, e.site_id, g.site_line)

-- name: sites
-- Each line's site: a settled one, else the next free one in the order of the file (which may be known too: its address changed).
CREATE TEMP TABLE import_sites ON COMMIT DROP AS
WITH open_groups AS (
  SELECT g.*, row_number() OVER (PARTITION BY g.customer_id ORDER BY g.site_line) AS nth
  FROM import_groups g WHERE g.site_key IS NULL
    AND NOT EXISTS (SELECT FROM import_settled s WHERE s.customer_id = g.customer_id AND s.site_line = g.site_line)
), free_keys AS (
  SELECT o.customer_id, o.external_id || CASE WHEN n = 1 THEN '' ELSE '#' || n END AS key,
         row_number() OVER (PARTITION BY o.customer_id ORDER BY n) AS nth
  FROM (SELECT g.customer_id, g.external_id, count(*) AS wanted FROM open_groups g GROUP BY 1, 2) AS o
  CROSS JOIN LATERAL generate_series(
    1, o.wanted + (SELECT count(*) FROM import_settled s WHERE s.customer_id = o.customer_id)
                + (SELECT count(*) FROM import_groups g WHERE g.customer_id = o.customer_id)) AS n
  WHERE NOT EXISTS (SELECT FROM import_settled s WHERE s.customer_id = o.customer_id
                    AND s.key = o.external_id || CASE WHEN n = 1 THEN '' ELSE '#' || n END)
    AND NOT EXISTS (SELECT FROM import_groups g WHERE g.customer_id = o.customer_id
                    AND g.site_key = o.external_id || CASE WHEN n = 1 THEN '' ELSE '#' || n END)
), chosen AS (
  SELECT customer_id, site_line, key, site_id FROM import_settled
  UNION ALL
  SELECT g.customer_id, g.site_line, f.key, e.site_id
  FROM open_groups g JOIN free_keys f ON f.customer_id = g.customer_id AND f.nth = g.nth
  LEFT JOIN import_existing e ON e.customer_id = g.customer_id AND e.key = f.key
  UNION ALL
  SELECT g.customer_id, g.site_line, g.site_key, NULL FROM import_groups g
  WHERE g.site_key IS NOT NULL
    AND NOT EXISTS (SELECT FROM import_settled s WHERE s.customer_id = g.customer_id AND s.site_line = g.site_line)
)
SELECT c.customer_id, c.site_line, c.key, c.site_id IS NULL AS is_new,
       COALESCE(c.site_id, nextval(pg_get_serial_sequence('sites', 'id'))) AS site_id,
       false AS is_primary
FROM chosen c
UNION ALL
SELECT k.customer_id, s.line_no, COALESCE(s.site_key, k.external_id), true,
       nextval(pg_get_serial_sequence('sites', 'id')), true
FROM import_keys k JOIN import_stage s ON s.line_no = k.first_line
WHERE k.is_new AND k.lines = 1 AND s.has_site

-- name: choose_primary
-- The main site of each customer that has none yet: the line that says so, else the first one.
UPDATE import_sites t SET is_primary = true
FROM (SELECT DISTINCT ON (i.customer_id) i.customer_id, i.site_line
      FROM import_sites i JOIN import_stage s ON s.line_no = i.site_line
      WHERE i.is_new AND i.customer_id IN (SELECT customer_id FROM import_spots)
        AND NOT EXISTS (SELECT FROM sites old WHERE old.customer_id = i.customer_id AND old.is_primary)
      ORDER BY i.customer_id, s.is_primary DESC NULLS LAST, i.site_line) AS first
WHERE first.customer_id = t.customer_id AND first.site_line = t.site_line

-- name: taken_sites
-- Site ids that the source already gave to a site of another customer.
SELECT i.site_line AS line_no FROM import_sites i
JOIN site_sources ss ON ss.source = CAST(:source AS text) AND ss.external_id = i.key AND ss.customer_id <> i.customer_id
WHERE i.is_new
UNION
SELECT line_no FROM (SELECT site_line AS line_no, count(*) OVER (PARTITION BY key) AS n FROM import_sites WHERE is_new) AS d
WHERE n > 1

-- name: insert_sites
INSERT INTO sites (customer_id, id, label, line1, line2, city, region, postal_code, country, location, location_precision,
                   precision_m, location_source, placement, flags, is_primary, territory_id)
SELECT i.customer_id, i.site_id, s.label, s.line1, s.line2, s.city, s.region, s.postal_code, s.country,
       ST_SetSRID(ST_MakePoint(s.lon, s.lat), 4326), s.location_precision, s.precision_m, s.location_source, s.placement,
       COALESCE(s.site_flags, '{}'), i.is_primary, s.territory_id
FROM import_sites i JOIN import_stage s ON s.line_no = i.site_line
WHERE i.is_new
ORDER BY i.site_line

-- name: insert_site_sources
INSERT INTO site_sources (source, external_id, customer_id, site_id)
SELECT CAST(:source AS text), key, customer_id, site_id FROM import_sites WHERE is_new ORDER BY key COLLATE "C"

-- name: keep_new_sites
-- New sites of known customers are a change of those customers.
INSERT INTO import_before (line_no, part, object_id, before)
SELECT i.site_line, 'site', i.site_id, NULL FROM import_sites i JOIN import_keys k USING (customer_id)
WHERE i.is_new AND NOT k.is_new

-- name: change_sites
-- Known sites whose given fields differ. A point that is flagged, and the centre of a postal code, do not replace a placed
-- point while the address stays; a point of the file does.
WITH wanted AS (
  SELECT i.customer_id AS of_customer, i.site_id, s.*,
         ST_SetSRID(ST_MakePoint(s.lon, s.lat), 4326) AS location
  FROM import_sites i JOIN import_stage s ON s.line_no = i.site_line WHERE NOT i.is_new
), differing AS (
  SELECT w.line_no, w.of_customer, w.site_id, moved.moved,
         to_jsonb(t) || jsonb_build_object('location', CAST(t.location AS text)) AS before
  FROM wanted w JOIN sites t ON t.customer_id = w.of_customer AND t.id = w.site_id
  CROSS JOIN LATERAL (SELECT ({address_current}) IS DISTINCT FROM ({address_wanted}) AS address_changed) AS a
  CROSS JOIN LATERAL (SELECT CASE
      WHEN w.placement = 'placed' AND w.location_precision = 'given' THEN
        (t.location, t.location_precision, t.precision_m, t.placement, t.flags)
        IS DISTINCT FROM (w.location, w.location_precision, w.precision_m, w.placement, COALESCE(w.site_flags, '{}'))
      WHEN NOT {touches_place} THEN false
      WHEN a.address_changed THEN true
      WHEN t.placement = 'placed' THEN false
      ELSE (t.location, t.placement, t.flags) IS DISTINCT FROM (w.location, w.placement, COALESCE(w.site_flags, '{}'))
           AND NOT (t.placement IN ('pending', 'failed') AND w.placement = 'pending')
    END AS moved) AS moved
  WHERE a.address_changed OR moved.moved {label_differs}
  FOR UPDATE OF t
), kept AS (
  INSERT INTO import_before (line_no, part, object_id, before)
  SELECT line_no, 'site', site_id, before FROM differing
)
UPDATE sites t SET
  {assignments}
  location = CASE WHEN d.moved THEN w.location ELSE t.location END,
  location_precision = CASE WHEN d.moved THEN w.location_precision ELSE t.location_precision END,
  precision_m = CASE WHEN d.moved THEN w.precision_m ELSE t.precision_m END,
  location_source = CASE WHEN d.moved THEN w.location_source ELSE t.location_source END,
  placement = CASE WHEN d.moved THEN w.placement ELSE t.placement END,
  flags = CASE WHEN d.moved THEN COALESCE(w.site_flags, '{}') ELSE t.flags END,
  placing_attempts = CASE WHEN d.moved THEN 0 ELSE t.placing_attempts END,
  placing_next_at = CASE WHEN d.moved THEN NULL ELSE t.placing_next_at END,
  placing_error = CASE WHEN d.moved THEN NULL ELSE t.placing_error END,
  updated_at = now()
FROM differing d JOIN wanted w ON w.of_customer = d.of_customer AND w.site_id = d.site_id
WHERE t.customer_id = d.of_customer AND t.id = d.site_id

-- name: contacts
-- The people of the file at known customers, or at customers of several lines, each once: by e-mail, else by name, else by phone.
CREATE TEMP TABLE import_contacts ON COMMIT DROP AS
SELECT DISTINCT ON (k.customer_id, COALESCE(lower(s.email), lower(s.contact_name), s.phone))
       s.line_no, k.customer_id, k.is_new AS customer_is_new, CAST(NULL AS bigint) AS contact_id,
       s.contact_name AS name, s.contact_role AS role, s.email, s.phone
FROM import_stage s JOIN import_keys k USING (external_id)
WHERE (k.lines > 1 OR NOT k.is_new) AND COALESCE(s.email, s.contact_name, s.phone) IS NOT NULL
ORDER BY k.customer_id, COALESCE(lower(s.email), lower(s.contact_name), s.phone), s.line_no

-- name: match_contacts
UPDATE import_contacts i SET contact_id = found.id
FROM (SELECT DISTINCT ON (i2.customer_id, i2.line_no) i2.customer_id, i2.line_no, c.id
      FROM import_contacts i2 JOIN contacts c ON c.customer_id = i2.customer_id
       AND (lower(c.email) = lower(i2.email) OR lower(c.name) = lower(i2.name)
            OR (i2.email IS NULL AND i2.name IS NULL AND c.phone = i2.phone))
      WHERE NOT i2.customer_is_new
      ORDER BY i2.customer_id, i2.line_no, (lower(c.email) = lower(i2.email)) DESC NULLS LAST,
               (lower(c.name) = lower(i2.name)) DESC NULLS LAST, c.id) AS found
WHERE found.customer_id = i.customer_id AND found.line_no = i.line_no

-- name: insert_contacts
INSERT INTO contacts (customer_id, name, role, email, phone, is_primary, batch_id)
SELECT k.customer_id, s.contact_name, s.contact_role, s.email, s.phone, true, CAST(:batch_id AS bigint)
FROM import_keys k JOIN import_stage s ON s.line_no = k.first_line
WHERE k.is_new AND k.lines = 1 AND COALESCE(s.email, s.contact_name, s.phone) IS NOT NULL
ORDER BY k.first_line

-- name: insert_more_contacts
WITH made AS (
  INSERT INTO contacts (customer_id, name, role, email, phone, is_primary, batch_id)
  SELECT customer_id, name, role, email, phone,
         customer_is_new AND row_number() OVER (PARTITION BY customer_id ORDER BY line_no) = 1, CAST(:batch_id AS bigint)
  FROM import_contacts WHERE contact_id IS NULL ORDER BY line_no
  RETURNING customer_id, id, name, email, phone
)
INSERT INTO import_before (line_no, part, object_id, before)
SELECT i.line_no, 'contact', m.id, NULL
FROM made m JOIN import_contacts i ON i.customer_id = m.customer_id AND i.contact_id IS NULL AND NOT i.customer_is_new
 AND (m.name, m.email, m.phone) IS NOT DISTINCT FROM (i.name, i.email, i.phone)

-- name: change_contacts
WITH differing AS (
  SELECT DISTINCT ON (c.customer_id, c.id) i.line_no, c.customer_id, c.id, to_jsonb(c) AS before
  FROM import_contacts i JOIN contacts c ON c.customer_id = i.customer_id AND c.id = i.contact_id
  WHERE ({current}) IS DISTINCT FROM ({wanted})
  ORDER BY c.customer_id, c.id, i.line_no
), kept AS (
  INSERT INTO import_before (line_no, part, object_id, before) SELECT line_no, 'contact', id, before FROM differing
)
UPDATE contacts c SET {assignments}, batch_id = CAST(:batch_id AS bigint)
FROM differing d JOIN import_contacts w ON w.customer_id = d.customer_id AND w.line_no = d.line_no
WHERE c.customer_id = d.customer_id AND c.id = d.id

-- name: touch_customers
-- A customer whose sites or contacts changed has changed too: its version moves on, so that an edit in between is noticed.
WITH touched AS (
  SELECT DISTINCT k.customer_id, k.first_line FROM import_before b
  JOIN import_stage s USING (line_no) JOIN import_keys k USING (external_id)
  WHERE b.part <> 'customer' AND NOT k.is_new
    AND NOT EXISTS (SELECT FROM import_before b2 WHERE b2.part = 'customer' AND b2.object_id = k.customer_id)
), kept AS (
  INSERT INTO import_before (line_no, part, object_id, before)
  SELECT t.first_line, 'customer', c.id, to_jsonb(c) FROM touched t JOIN customers c ON c.id = t.customer_id
)
UPDATE customers c SET version = c.version + 1, updated_at = now(), batch_id = CAST(:batch_id AS bigint)
FROM touched t WHERE c.id = t.customer_id

-- name: rows
-- What became of each line.
INSERT INTO import_rows (batch_id, line_no, outcome, customer_id, object_id, flags, before)
SELECT CAST(:batch_id AS bigint), s.line_no,
       CASE WHEN k.is_new THEN 'new' WHEN b.before IS NOT NULL THEN 'changed' ELSE 'unchanged' END,
       k.customer_id, COALESCE(i.site_id, i1.site_id), s.flags, b.before
FROM import_stage s JOIN import_keys k USING (external_id)
LEFT JOIN import_sites i1 ON i1.site_line = s.line_no
LEFT JOIN import_spots p ON p.line_no = s.line_no
LEFT JOIN import_sites i ON i.customer_id = p.customer_id AND i.site_line = p.site_line AND p.site_line <> s.line_no
LEFT JOIN (SELECT line_no, jsonb_agg(jsonb_build_object('part', part, 'id', object_id, 'before', before) ORDER BY part, object_id)
           AS before FROM import_before GROUP BY line_no) AS b ON b.line_no = s.line_no

-- name: rows_of_new
-- The same where every line is a customer of its own that was not known before.
INSERT INTO import_rows (batch_id, line_no, outcome, customer_id, object_id, flags)
SELECT CAST(:batch_id AS bigint), s.line_no, 'new', k.customer_id, i.site_id, s.flags
FROM import_keys k JOIN import_stage s ON s.line_no = k.first_line
LEFT JOIN import_sites i ON i.site_line = k.first_line
ORDER BY s.line_no

-- name: changed
-- The customers whose territory and lookup rows must follow.
CREATE TEMP TABLE changed_customers ON COMMIT DROP AS
SELECT DISTINCT customer_id FROM import_rows
WHERE batch_id = CAST(:batch_id AS bigint) AND outcome IN ('new', 'changed')
