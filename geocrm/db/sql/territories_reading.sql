-- Reading the ledger. {schema} is `visible` under row security and `public` for the worker.

-- name: at_points
SELECT g.number, t.layer_id, t.layer_key, t.is_primary, t.area_id, t.name, t.owner_id, t.team_id, t.basis,
       t.valid_from, t.valid_to, t.reason, t.layer_version
FROM unnest(CAST(:lon AS double precision[]), CAST(:lat AS double precision[])) WITH ORDINALITY AS g (lon, lat, number)
CROSS JOIN LATERAL geocrm_point_territories(
  CASE WHEN geocrm_exact() THEN ST_SetSRID(ST_MakePoint(g.lon, g.lat), 4326)
       ELSE geocrm_snap(ST_SetSRID(ST_MakePoint(g.lon, g.lat), 4326)) END,
  coalesce(CAST(:as_of AS timestamptz), now())) t
ORDER BY g.number, t.is_primary DESC, t.layer_id

-- name: of_customer
-- What the ledger said, as known at `known_at`, of a customer's sites at `as_of`.
SELECT a.site_id, a.layer_id, y.key AS layer_key, y.is_primary, a.area_id, coalesce(v.name, r.name) AS name,
       o.owner_id, o.team_id, a.basis, a.valid_from, a.valid_to, a.recorded_at, a.superseded_at, a.layer_version,
       a.actor_id, a.reason, a.by_edit
FROM {schema}.assignments a JOIN layers y ON y.id = a.layer_id
LEFT JOIN areas r ON r.id = a.area_id
LEFT JOIN area_periods d ON d.layer_id = a.layer_id AND d.area_id = a.area_id
  AND d.valid_from <= coalesce(CAST(:as_of AS timestamptz), now()) AND d.valid_to > coalesce(CAST(:as_of AS timestamptz), now())
LEFT JOIN area_versions v ON v.area_id = d.area_id AND v.version = d.area_version
LEFT JOIN area_owners o ON o.area_id = a.area_id AND o.valid_from <= coalesce(CAST(:as_of AS timestamptz), now())
  AND (o.valid_to IS NULL OR o.valid_to > coalesce(CAST(:as_of AS timestamptz), now()))
WHERE a.customer_id = CAST(:customer AS bigint)
  AND a.valid_from <= coalesce(CAST(:as_of AS timestamptz), now())
  AND (a.valid_to IS NULL OR a.valid_to > coalesce(CAST(:as_of AS timestamptz), now()))
  AND CASE WHEN CAST(:known_at AS timestamptz) IS NULL THEN a.superseded_at IS NULL
      ELSE a.recorded_at <= CAST(:known_at AS timestamptz)
        AND (a.superseded_at IS NULL OR a.superseded_at > CAST(:known_at AS timestamptz)) END
ORDER BY y.is_primary DESC, a.layer_id, a.site_id

-- name: history
-- The ledger of a customer, newest first: as known now, as known at `known_at`, or all rows that ever were.
SELECT a.site_id, a.layer_id, y.key AS layer_key, y.is_primary, a.area_id, r.name,
       o.owner_id, o.team_id, a.basis, a.valid_from, a.valid_to, a.recorded_at, a.superseded_at, a.layer_version,
       a.actor_id, a.reason, a.by_edit
FROM {schema}.assignments a JOIN layers y ON y.id = a.layer_id
LEFT JOIN areas r ON r.id = a.area_id
LEFT JOIN area_owners o ON o.area_id = a.area_id AND o.valid_from <= greatest(a.valid_from, '-infinity')
  AND (o.valid_to IS NULL OR o.valid_to > a.valid_from)
WHERE a.customer_id = CAST(:customer AS bigint)
  AND (CAST(:layer AS bigint) IS NULL OR a.layer_id = CAST(:layer AS bigint))
  AND CASE WHEN CAST(:superseded AS boolean) THEN true
      WHEN CAST(:known_at AS timestamptz) IS NULL THEN a.superseded_at IS NULL
      ELSE a.recorded_at <= CAST(:known_at AS timestamptz)
        AND (a.superseded_at IS NULL OR a.superseded_at > CAST(:known_at AS timestamptz)) END
ORDER BY a.valid_from DESC, a.recorded_at DESC, y.is_primary DESC, a.layer_id, a.site_id
