-- name: lock_revision
-- The count of writes of fences, held until the transaction ends.
SELECT revision FROM geofence_revision FOR UPDATE

-- name: count_revision
-- One write more; the row is locked already.
UPDATE geofence_revision SET revision = revision + 1

-- name: revision
-- The count of writes of fences.
SELECT revision FROM geofence_revision

-- name: one_by_name
-- A fence by tag and external id, deleted or not.
SELECT f.id, f.tag, f.external_id, f.name, f.kind, CAST(ST_AsGeoJSON(f.geometry, 9) AS jsonb) AS geometry,
  ST_X(f.center) AS lon, ST_Y(f.center) AS lat, f.radius_m, f.dwell_s, f.hours, f.time_zone, f.metadata, f.version,
  f.created_at, f.updated_at, f.deleted_at, f.digest
FROM geofences f WHERE f.tag = CAST(:tag AS text) AND f.external_id = CAST(:external_id AS text)

-- name: hold
-- A fence, held until the transaction ends.
SELECT f.id FROM geofences f WHERE f.id = CAST(:id AS bigint) FOR UPDATE

-- name: named
-- The ids of fences by tag and external id, those that are there.
SELECT f.id, f.tag, f.external_id
FROM unnest(CAST(:tags AS text[]), CAST(:external_ids AS text[])) AS u(tag, external_id)
JOIN geofences f ON f.tag = u.tag AND f.external_id = u.external_id AND f.deleted_at IS NULL

-- name: overlapping
-- Other fences that share more than a border with a fence, those of its tag first.
SELECT o.tag || '/' || o.external_id
FROM geofences f JOIN geofences o ON o.geometry && f.geometry AND o.id <> f.id AND o.deleted_at IS NULL
WHERE f.id = CAST(:id AS bigint) AND CASE
  WHEN f.kind = 'circle' AND o.kind = 'circle'
    THEN ST_Distance(geography(f.center), geography(o.center)) < f.radius_m + o.radius_m
  WHEN f.kind = 'circle' THEN ST_Distance(geography(o.geometry), geography(f.center)) < f.radius_m
  WHEN o.kind = 'circle' THEN ST_Distance(geography(f.geometry), geography(o.center)) < o.radius_m
  ELSE ST_Relate(f.geometry, o.geometry, 'T********') END
ORDER BY o.tag <> f.tag, o.id LIMIT CAST(:limit AS bigint)

-- name: overlapping_pairs
-- Some of the fences that overlap another one of their tag.
SELECT f.tag || '/' || f.external_id AS one, f.tag || '/' || o.external_id AS other
FROM unnest(CAST(:ids AS bigint[])) AS u(id) JOIN geofences f ON f.id = u.id
JOIN geofences o ON o.geometry && f.geometry AND o.id <> f.id AND o.deleted_at IS NULL AND o.tag = f.tag
WHERE CASE
  WHEN f.kind = 'circle' AND o.kind = 'circle'
    THEN ST_Distance(geography(f.center), geography(o.center)) < f.radius_m + o.radius_m
  WHEN f.kind = 'circle' THEN ST_Distance(geography(o.geometry), geography(f.center)) < f.radius_m
  WHEN o.kind = 'circle' THEN ST_Distance(geography(f.geometry), geography(o.center)) < o.radius_m
  ELSE ST_Relate(f.geometry, o.geometry, 'T********') END
LIMIT CAST(:limit AS bigint)

-- name: find
-- Fences by id, of a tag and in a box where these are given.
SELECT f.id, f.tag, f.external_id, f.name, f.kind, CAST(ST_AsGeoJSON(f.geometry, 9) AS jsonb) AS geometry,
  ST_X(f.center) AS lon, ST_Y(f.center) AS lat, f.radius_m, f.dwell_s, f.hours, f.time_zone, f.metadata, f.version,
  f.created_at, f.updated_at
FROM geofences f
WHERE f.deleted_at IS NULL AND f.id > CAST(:after AS bigint)
  AND (CAST(:tag AS text) IS NULL OR f.tag = CAST(:tag AS text))
  AND (CAST(:west AS float8) IS NULL
    OR f.geometry && ST_MakeEnvelope(CAST(:west AS float8), CAST(:south AS float8),
         CASE WHEN CAST(:west AS float8) > CAST(:east AS float8) THEN 180 ELSE CAST(:east AS float8) END,
         CAST(:north AS float8), 4326)
    OR (CAST(:west AS float8) > CAST(:east AS float8)
      AND f.geometry && ST_MakeEnvelope(-180, CAST(:south AS float8), CAST(:east AS float8), CAST(:north AS float8), 4326)))
ORDER BY f.id LIMIT CAST(:limit AS bigint)

-- name: put
-- Writes a fence, new, changed, or back from having been deleted.
INSERT INTO geofences AS f (tag, external_id, name, kind, geometry, center, radius_m, dwell_s, hours, time_zone, metadata,
  digest, revision)
VALUES (CAST(:tag AS text), CAST(:external_id AS text), CAST(:name AS text), CAST(:kind AS text),
  ST_SetSRID(CAST(CAST(:outline AS text) AS geometry), 4326),
  CASE CAST(:kind AS text) WHEN 'circle'
    THEN ST_SetSRID(ST_MakePoint(CAST(:lon AS float8), CAST(:lat AS float8)), 4326) END,
  CAST(:radius_m AS float8), CAST(:dwell_s AS float8), CAST(:hours AS jsonb), CAST(:time_zone AS text),
  CAST(:metadata AS jsonb), CAST(:digest AS text), CAST(:revision AS bigint))
ON CONFLICT (tag, external_id) DO UPDATE SET name = excluded.name, kind = excluded.kind, geometry = excluded.geometry,
  center = excluded.center, radius_m = excluded.radius_m, dwell_s = excluded.dwell_s, hours = excluded.hours,
  time_zone = excluded.time_zone, metadata = excluded.metadata, digest = excluded.digest, revision = excluded.revision,
  version = f.version + 1, deleted_at = NULL, updated_at = now()
RETURNING f.id, f.version

-- name: delete
-- Marks a fence as deleted; the count of writes is held.
UPDATE geofences SET deleted_at = now(), updated_at = now(), version = version + 1,
  revision = (SELECT g.revision + 1 FROM geofence_revision g)
WHERE id = CAST(:id AS bigint)

-- name: delete_states
-- Where customers stand to a fence, forgotten.
DELETE FROM geofence_states WHERE geofence_id = CAST(:id AS bigint)

-- name: written_since
-- The fences written after a revision, deleted ones too.
SELECT f.id, f.tag, f.external_id, f.name, f.kind,
  CASE f.kind WHEN 'polygon' THEN ST_AsBinary(f.geometry) END AS outline,
  ST_X(f.center) AS lon, ST_Y(f.center) AS lat, f.radius_m, f.dwell_s, f.hours, f.time_zone, f.metadata, f.deleted_at
FROM geofences f
WHERE f.revision > CAST(:revision AS bigint) AND (f.deleted_at IS NULL OR CAST(:revision AS bigint) >= 0)

-- name: tell_import
-- How many rows of a file the import that runs has read: one runs at a time.
UPDATE jobs SET result = jsonb_build_object('processed', CAST(:rows AS bigint))
WHERE name = 'geofences.import' AND status = 'running'
