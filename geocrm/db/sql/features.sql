-- Features of customers, read in chunks by id. Placeholders in braces are our own fragments.

-- name: cutoff
SELECT id, cutoff, currency, channels, categories, version FROM feature_cutoffs WHERE cutoff = CAST(:cutoff AS timestamptz)

-- name: version
SELECT version FROM feature_cutoffs WHERE id = CAST(:cutoff_id AS bigint)

-- name: ids
-- Customers of the next chunk, eight bytes each, ascending.
SELECT string_agg(int8send(id), '') FROM (SELECT id FROM customers WHERE id > CAST(:after AS bigint)
  AND id <= CAST(:last AS bigint) AND erased_at IS NULL ORDER BY id LIMIT CAST(:rows AS bigint)) AS c

-- name: words
-- The words that stand in a field of customers, by name.
SELECT DISTINCT {field} FROM customers c WHERE c.erased_at IS NULL AND {field} IS NOT NULL ORDER BY 1 LIMIT CAST(:limit AS bigint)

-- name: are_numbers
SELECT coalesce(bool_and(jsonb_typeof(attributes -> CAST(:key AS text)) = 'number'), false) FROM customers
WHERE erased_at IS NULL AND jsonb_typeof(attributes -> CAST(:key AS text)) <> 'null'

-- name: read
-- One row for each customer of the chunk, in any order, fields of eight bytes.
SELECT c.id, {fields} FROM customers c {parts}
WHERE c.id > CAST(:after AS bigint) AND c.id <= CAST(:upto AS bigint) AND c.erased_at IS NULL

-- name: part_interactions
LEFT JOIN (
  SELECT customer_id, count(*) FILTER (WHERE kind <> 'note') AS contacts,
         count(*) FILTER (WHERE kind <> 'note' AND occurred_at >= CAST(:from_90 AS timestamptz)) AS contacts_90,
         count(*) FILTER (WHERE kind <> 'note' AND occurred_at >= CAST(:from_365 AS timestamptz)) AS contacts_365,
         count(*) FILTER (WHERE kind = 'complaint') AS complaints,
         count(*) FILTER (WHERE kind = 'complaint' AND occurred_at >= CAST(:from_90 AS timestamptz)) AS complaints_90,
         count(*) FILTER (WHERE kind = 'complaint' AND occurred_at >= CAST(:from_365 AS timestamptz)) AS complaints_365,
         count(*) FILTER (WHERE kind = 'visit') AS visits,
         count(*) FILTER (WHERE kind = 'visit' AND occurred_at >= CAST(:from_365 AS timestamptz)) AS visits_365,
         count(*) FILTER (WHERE kind = 'call') AS calls,
         count(*) FILTER (WHERE kind = 'call' AND occurred_at >= CAST(:from_365 AS timestamptz)) AS calls_365,
         CAST(timezone('UTC', max(occurred_at) FILTER (WHERE kind <> 'note')) AS date) AS last_contact,
         CAST(timezone('UTC', max(occurred_at)) AS date) AS last_note
  FROM interactions
  WHERE customer_id > CAST(:after AS bigint) AND customer_id <= CAST(:upto AS bigint)
    AND occurred_at < CAST(:cutoff AS timestamptz)
  GROUP BY customer_id
) AS i ON i.customer_id = c.id

-- name: part_children
LEFT JOIN (
  SELECT parent_id, count(*) AS children FROM customers
  WHERE parent_id > CAST(:after AS bigint) AND parent_id <= CAST(:upto AS bigint) AND erased_at IS NULL GROUP BY parent_id
) AS k ON k.parent_id = c.id

-- name: part_depth
LEFT JOIN (
  WITH RECURSIVE up AS (
    SELECT id, parent_id, 1 AS depth FROM customers
    WHERE id > CAST(:after AS bigint) AND id <= CAST(:upto AS bigint) AND parent_id IS NOT NULL
    UNION ALL
    SELECT up.id, p.parent_id, up.depth + 1 FROM up JOIN customers p ON p.id = up.parent_id
    WHERE p.parent_id IS NOT NULL AND up.depth < 100
  )
  SELECT id, max(depth) AS depth FROM up GROUP BY id
) AS d ON d.id = c.id

-- name: part_home
LEFT JOIN sites h ON h.customer_id = c.id AND h.is_primary

-- name: keys
-- The words that customers of a sector, of a region or of one kind have in common.
SELECT DISTINCT {key} FROM customers c {home} WHERE {key} IS NOT NULL AND c.erased_at IS NULL ORDER BY 1

-- name: bases
-- The places of ours from which visits set out, of those that had opened and not closed at the cutoff.
SELECT ST_X(location) AS lon, ST_Y(location) AS lat FROM places
WHERE kind IN ('own', 'depot', 'branch') AND placement = 'placed' AND location IS NOT NULL
  AND coalesce(nullif(attributes ->> 'closed_on', ''), '9') > CAST(CAST(:end_day AS date) AS text)
  AND coalesce(attributes ->> 'opened_on', '') <= CAST(CAST(:end_day AS date) AS text) ORDER BY id
