-- Where customers are at a cutoff, for features of place, read in chunks by id.

-- name: sites
-- The site that was a customer's primary one at the cutoff, where it has a point: customer, lon, lat, precision_m, whether
-- the point stands for a postal code, town or region, and the letters of the country as a number.
SELECT s.customer_id AS id, ST_X(s.location) AS lon, ST_Y(s.location) AS lat, coalesce(s.precision_m, 'NaN') AS precision_m,
       CASE WHEN s.location_precision IN ('postcode', 'locality', 'region') THEN 1 ELSE 0 END AS is_centroid,
       coalesce(ascii(s.country) * 256 + ascii(right(s.country, 1)), 0) AS country
FROM sites s
LEFT JOIN (
  SELECT DISTINCT ON (customer_id) customer_id, site_id FROM former_primary_sites
  WHERE until >= CAST(:cutoff AS timestamptz) AND customer_id > CAST(:after AS bigint) AND customer_id <= CAST(:upto AS bigint)
  ORDER BY customer_id, until
) f ON f.customer_id = s.customer_id
WHERE s.customer_id > CAST(:after AS bigint) AND s.customer_id <= CAST(:upto AS bigint)
  AND CASE WHEN f.customer_id IS NULL THEN s.is_primary ELSE s.id = f.site_id END
  AND s.placement = 'placed' AND s.location IS NOT NULL

-- name: read_sites
SELECT id, {fields} FROM ({sites}) AS p ORDER BY id

-- name: places
-- Our shops and those of competitors, with the days from and to which they were open, where that is known.
SELECT kind, ST_X(location) AS lon, ST_Y(location) AS lat, precision_m, location_precision,
       attributes ->> 'opened_on' AS opened_on, attributes ->> 'closed_on' AS closed_on
FROM places WHERE kind IN ('own', 'competitor') AND placement = 'placed' AND location IS NOT NULL ORDER BY id

-- name: areas
-- The areas of reference layers in force at the cutoff that have one of these attributes.
SELECT v.area_id, v.attributes, ST_AsBinary(v.geometry) AS geometry, ST_Area(geography(v.geometry)) AS area_m2
FROM area_periods d JOIN layers y ON y.id = d.layer_id
JOIN area_versions v ON v.area_id = d.area_id AND v.version = d.area_version
WHERE y.kind = 'reference' AND v.geometry IS NOT NULL AND jsonb_exists_any(v.attributes, CAST(:wanted AS text[]))
  AND d.valid_from < CAST(:cutoff AS timestamptz) AND d.valid_to >= CAST(:cutoff AS timestamptz)
ORDER BY v.area_id
