-- name: customers
-- One chunk of customers with one row for each visible site, or with the primary one only, by customer and site id.
WITH page AS MATERIALIZED (
  SELECT c.* FROM customers c
  WHERE c.id > CAST(:after AS bigint) AND c.erased_at IS NULL AND {condition}
  ORDER BY c.id LIMIT CAST(:limit AS bigint)
)
SELECT c.id, s.id AS site_id, c.name, c.kind, c.stage, c.owner_id, u.name AS owner, c.industry, c.size_class,
       c.preferred_channel, c.attributes, c.created_at, s.label, s.is_primary, s.city, s.region, s.postal_code, s.country,
       s.placement, s.flags, s.location_precision, s.precision_m, s.location_source, s.territory_id, t.name AS territory,
       CASE WHEN s.placement = 'placed' THEN ST_X(s.location) END AS lon,
       CASE WHEN s.placement = 'placed' THEN ST_Y(s.location) END AS lat
FROM page c
LEFT JOIN visible.sites s ON s.customer_id = c.id AND (s.is_primary OR CAST(:all_sites AS boolean))
LEFT JOIN users u ON u.id = c.owner_id
LEFT JOIN areas t ON t.id = s.territory_id
ORDER BY c.id, s.is_primary DESC, s.id

-- name: sales
-- One chunk of the sales of some customers, those of a customer together, with the point of the sale's site.
WITH page AS MATERIALIZED (
  SELECT c.id FROM customers c
  WHERE c.id > CAST(:after AS bigint) AND c.erased_at IS NULL AND {condition}
  ORDER BY c.id LIMIT CAST(:limit AS bigint)
)
SELECT c.id AS customer_id, x.id, x.occurred_at, x.site_id, x.place_id, x.channel, x.currency, x.amount, x.cost,
       x.discount, x.returned,
       CASE WHEN s.placement = 'placed' THEN ST_X(s.location) END AS lon,
       CASE WHEN s.placement = 'placed' THEN ST_Y(s.location) END AS lat
FROM page c
LEFT JOIN visible.sales x ON x.customer_id = c.id
     AND x.occurred_at >= CAST(:since AS timestamptz) AND x.occurred_at < CAST(:until AS timestamptz)
LEFT JOIN LATERAL (
  SELECT v.placement, v.location FROM visible.sites v
  WHERE v.customer_id = x.customer_id AND (v.id = x.site_id OR x.site_id IS NULL AND NOT x.site_hidden AND v.is_primary)
  LIMIT 1) s ON true
ORDER BY c.id, x.occurred_at, x.id

-- name: areas
-- The areas of a layer in force at a moment.
SELECT a.id, v.name, a.owner_id, u.name AS owner, v.priority, v.rule, v.attributes, p.valid_from,
       nullif(p.valid_to, 'infinity') AS valid_to, ST_AsBinary(v.geometry) AS geometry
FROM area_periods p
JOIN areas a ON a.id = p.area_id
JOIN area_versions v ON v.area_id = p.area_id AND v.version = p.area_version
LEFT JOIN users u ON u.id = a.owner_id
WHERE p.layer_id = CAST(:layer AS bigint)
  AND p.valid_from <= coalesce(CAST(:as_of AS timestamptz), now())
  AND p.valid_to > coalesce(CAST(:as_of AS timestamptz), now())
ORDER BY a.id

-- name: areas_of_sites
-- The area that each visible site is assigned to now in a layer of territories.
SELECT site_id, area_id FROM visible.assignments
WHERE layer_id = CAST(:layer AS bigint) AND area_id IS NOT NULL AND superseded_at IS NULL
  AND valid_from <= now() AND coalesce(valid_to, 'infinity') > now()
