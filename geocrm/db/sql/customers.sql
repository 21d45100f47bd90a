-- name: page
-- One page of customers, each with its first visible site; run as the reader. {condition} is the filter's.
WITH page AS MATERIALIZED (
  SELECT c.* FROM customers c
  WHERE c.id > CAST(:after AS bigint) AND {condition}
  ORDER BY c.id LIMIT CAST(:limit AS bigint)
)
SELECT {columns}, NULL::real AS score FROM page c {joins} ORDER BY c.id

-- name: search
-- One page of customers whose name is like a text, most alike first; typing errors are forgiven.
WITH page AS MATERIALIZED (
  SELECT c.*, found.score
  FROM customers c, LATERAL (SELECT greatest(
      word_similarity(CAST(:q AS text), c.name),
      CASE WHEN c.name ILIKE CAST(:pattern AS text) THEN 1 ELSE 0 END)::real AS score) AS found
  WHERE (c.name %> CAST(:q AS text) OR c.name ILIKE CAST(:pattern AS text)) AND {condition}
    AND (CAST(:after_score AS real) IS NULL
         OR (found.score, -c.id) < (CAST(:after_score AS real), -CAST(:after AS bigint)))
  ORDER BY found.score DESC, c.id LIMIT CAST(:limit AS bigint)
)
SELECT {columns}, c.score FROM page c {joins} ORDER BY c.score DESC, c.id

-- name: columns
-- What a customer shows in a list.
c.id, c.kind, c.name, c.stage, c.parent_id, c.owner_id, u.name AS owner_name, c.industry, c.size_class,
c.preferred_channel, c.attributes, c.version, c.created_at, c.updated_at, s.territories,
s.id AS site_id, s.label, s.line1, s.line2, s.city, s.region, s.postal_code, s.country,
ST_X(s.location) AS lon, ST_Y(s.location) AS lat, s.location_precision, s.precision_m, s.location_source, s.placement,
s.flags, s.is_primary, s.territory_id, s.territory_name

-- name: joins
-- Its owner, and the first of its visible sites with the territories of all of them.
LEFT JOIN users u ON u.id = c.owner_id
LEFT JOIN LATERAL (
  SELECT v.*, t.name AS territory_name,
         (SELECT jsonb_agg(jsonb_build_object('id', 'ter_' || a.id, 'name', a.name) ORDER BY a.id) FROM areas a
          WHERE a.id IN (SELECT w.territory_id FROM visible.sites w WHERE w.customer_id = c.id)) AS territories
  FROM visible.sites v LEFT JOIN areas t ON t.id = v.territory_id
  WHERE v.customer_id = c.id
  ORDER BY v.is_primary DESC, v.id LIMIT 1) s ON true

-- name: sites
-- The visible sites of a customer, with the territory of each and why.
SELECT s.id, s.label, s.line1, s.line2, s.city, s.region, s.postal_code, s.country,
       ST_X(s.location) AS lon, ST_Y(s.location) AS lat, s.location_precision, s.precision_m, s.location_source,
       s.placement, s.flags, s.is_primary, s.territory_id, t.name AS territory_name,
       a.basis, a.reason, a.valid_from AS since, to_.id AS territory_owner_id, to_.name AS territory_owner_name
FROM visible.sites s
LEFT JOIN areas t ON t.id = s.territory_id
LEFT JOIN users to_ ON to_.id = t.owner_id
LEFT JOIN LATERAL (
  SELECT x.basis, x.reason, x.valid_from FROM visible.assignments x JOIN layers l ON l.id = x.layer_id AND l.is_primary
  WHERE x.customer_id = s.customer_id AND x.site_id = s.id AND x.superseded_at IS NULL
    AND x.valid_from <= now() AND (x.valid_to IS NULL OR x.valid_to > now())
  ORDER BY x.valid_from DESC LIMIT 1) a ON true
WHERE s.customer_id = CAST(:customer_id AS bigint)
ORDER BY s.is_primary DESC, s.id

-- name: contacts
-- The contacts of a customer; what the reader may not see is masked.
SELECT k.id, k.name, k.role, k.email, k.phone, k.email_masked, k.phone_masked, k.is_primary
FROM visible.contacts k WHERE k.customer_id = CAST(:customer_id AS bigint) ORDER BY k.is_primary DESC, k.id

-- name: consents
-- What a customer allowed, newest first.
SELECT n.purpose, n.channel, n.granted_at, n.withdrawn_at, n.source
FROM visible.consents n WHERE n.customer_id = CAST(:customer_id AS bigint) ORDER BY n.granted_at DESC, n.purpose, n.channel

-- name: sources
-- What source systems call a customer.
SELECT x.source, x.external_id FROM visible.customer_sources x
WHERE x.customer_id = CAST(:customer_id AS bigint) ORDER BY x.source, x.external_id

-- name: counts
-- How many customers, by stage and kind; run as the reader. {condition} is the filter's.
SELECT c.stage, c.kind, count(*) AS n FROM customers c WHERE {condition} GROUP BY c.stage, c.kind ORDER BY 1, 2

-- name: export
-- One chunk of an export: the visible sites of customers by id, with the first contact of each.
WITH page AS MATERIALIZED (
  SELECT c.* FROM customers c WHERE c.id > CAST(:after AS bigint) AND {condition}
  ORDER BY c.id LIMIT CAST(:limit AS bigint)
)
SELECT c.id, 'cus_' || c.id, c.name, c.kind, c.stage, u.name, c.industry, c.size_class, c.preferred_channel,
       'sit_' || s.id, s.label, s.line1, s.line2, s.city, s.region, s.postal_code, s.country,
       ST_X(s.location), ST_Y(s.location), s.location_precision, s.precision_m, s.placement, t.name,
       k.name, k.role, k.email, k.phone, c.created_at
FROM page c
LEFT JOIN users u ON u.id = c.owner_id
LEFT JOIN LATERAL (
  SELECT v.* FROM visible.sites v WHERE v.customer_id = c.id ORDER BY v.is_primary DESC, v.id) s ON true
LEFT JOIN areas t ON t.id = s.territory_id
LEFT JOIN LATERAL (
  SELECT v.* FROM visible.contacts v WHERE v.customer_id = c.id ORDER BY v.is_primary DESC, v.id LIMIT 1) k ON true
ORDER BY c.id, s.is_primary DESC, s.id
