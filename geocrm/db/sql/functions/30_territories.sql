-- Territories: pieces of areas, named accounts of a version, the territory at a point on a day.

-- Within this distance of a border, in degrees (0.1 mm), a point is put to the whole geometry with exact predicates.
CREATE OR REPLACE FUNCTION geocrm_rim() RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT CAST(1e-9 AS double precision) $$;

-- Cut the areas of a layer version, or these of them, into pieces of at most 16 vertices, once.
DROP FUNCTION IF EXISTS geocrm_make_pieces(bigint, integer);
CREATE OR REPLACE FUNCTION geocrm_make_pieces(p_layer bigint, p_version integer, p_areas bigint[] DEFAULT NULL)
RETURNS bigint
LANGUAGE sql AS $$
  WITH lacking AS (
    SELECT v.area_id, v.version, v.geometry
    FROM layer_areas la JOIN area_versions v ON v.area_id = la.area_id AND v.version = la.area_version
    WHERE la.layer_id = p_layer AND la.layer_version = p_version AND v.geometry IS NOT NULL
      AND (p_areas IS NULL OR la.area_id = ANY (p_areas))
      AND NOT EXISTS (SELECT FROM area_pieces p WHERE p.area_id = v.area_id AND p.version = v.version)),
  pieces AS (
    SELECT l.area_id, l.version, d.geom
    FROM lacking l CROSS JOIN LATERAL ST_Subdivide(l.geometry, 16) AS s(part) CROSS JOIN LATERAL ST_Dump(s.part) AS d
    WHERE ST_Dimension(d.geom) = 2 AND NOT ST_IsEmpty(d.geom)),
  made AS (
    INSERT INTO area_pieces (area_id, version, piece, layer_id, geometry, core)
    SELECT p.area_id, p.version, row_number() OVER (PARTITION BY p.area_id, p.version), p_layer, p.geom, c.core
    FROM pieces p,
    LATERAL (SELECT ST_Buffer(p.geom, -geocrm_rim(), 'join=mitre') AS shrunk) b,
    LATERAL (SELECT CASE WHEN NOT ST_IsEmpty(b.shrunk) AND ST_Within(b.shrunk, p.geom) THEN b.shrunk END AS core) c
    RETURNING 1)
  SELECT count(*) FROM made
$$;

-- Statistics of the tables that evaluation joins; they belong to another role than the worker.
CREATE OR REPLACE FUNCTION geocrm_analyze_areas() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  ANALYZE area_pieces;
  ANALYZE area_periods;
END
$$;

-- What a layer version and the versions that it is based on say of names, the nearest first; also of areas that the
-- version does not hold.
CREATE OR REPLACE FUNCTION geocrm_names_said(p_layer bigint, p_version integer)
RETURNS TABLE (customer_id bigint, area_id bigint)
LANGUAGE sql STABLE AS $$
  WITH RECURSIVE chain AS (
    SELECT v.version, v.based_on, 0 AS depth FROM layer_versions v WHERE v.layer_id = p_layer AND v.version = p_version
    UNION ALL
    SELECT p.version, p.based_on, c.depth + 1
    FROM chain c JOIN layer_versions p ON p.layer_id = p_layer AND p.version = c.based_on),
  nearest AS (
    SELECT DISTINCT ON (n.customer_id) n.customer_id, n.area_id
    FROM chain c JOIN named_account_versions n ON n.layer_id = p_layer AND n.layer_version = c.version
    ORDER BY n.customer_id, c.depth)
  SELECT n.customer_id, n.area_id FROM nearest n WHERE n.area_id IS NOT NULL
$$;

-- The named accounts of a layer version.
CREATE OR REPLACE FUNCTION geocrm_named_accounts(p_layer bigint, p_version integer)
RETURNS TABLE (customer_id bigint, area_id bigint)
LANGUAGE sql STABLE AS $$
  SELECT n.customer_id, n.area_id FROM geocrm_names_said(p_layer, p_version) n
  WHERE EXISTS (
    SELECT FROM layer_areas la WHERE la.layer_id = p_layer AND la.layer_version = p_version AND la.area_id = n.area_id)
$$;

-- What the polygons of the exclusive layers say of a point, over all time: one row per layer and period.
-- A layer has rows from its first version on; area_id is NULL where no polygon covers the point.
CREATE OR REPLACE FUNCTION geocrm_point_timeline(p_point geometry)
RETURNS TABLE (layer_id bigint, area_id bigint, area_version integer, valid_from timestamptz, valid_to timestamptz)
LANGUAGE sql STABLE AS $$
  WITH starts AS (
    SELECT p.layer_id, min(p.valid_from) AS starts
    FROM layer_periods p JOIN layers y ON y.id = p.layer_id AND y.kind = 'territories'
    WHERE p.superseded_at IS NULL GROUP BY p.layer_id),
  candidates AS (
    SELECT DISTINCT d.layer_id, d.area_id, d.area_version, d.priority, d.valid_from, d.valid_to
    FROM area_pieces p JOIN area_periods d ON d.area_id = p.area_id AND d.area_version = p.version
    JOIN starts y ON y.layer_id = d.layer_id
    WHERE p.geometry && ST_Expand(p_point, 1e-9)
      AND (ST_Intersects(p.core, p_point) OR (ST_DWithin(p.geometry, p_point, 1e-9) AND NOT ST_Disjoint(
        (SELECT v.geometry FROM area_versions v WHERE v.area_id = p.area_id AND v.version = p.version), p_point)))),
  bounds AS (
    SELECT y.layer_id, y.starts AS t FROM starts y
    UNION SELECT c.layer_id, c.valid_from FROM candidates c
    UNION SELECT c.layer_id, c.valid_to FROM candidates c WHERE c.valid_to < 'infinity'),
  segments AS (
    SELECT b.layer_id, b.t AS valid_from, lead(b.t, 1, 'infinity') OVER (PARTITION BY b.layer_id ORDER BY b.t) AS valid_to
    FROM bounds b),
  best AS (
    SELECT DISTINCT ON (g.layer_id, g.valid_from) g.layer_id, g.valid_from, g.valid_to, c.area_id, c.area_version
    FROM segments g LEFT JOIN candidates c
      ON c.layer_id = g.layer_id AND c.valid_from <= g.valid_from AND c.valid_to >= g.valid_to
    ORDER BY g.layer_id, g.valid_from, c.priority DESC, c.area_id),
  marked AS (
    SELECT b.*, row_number() OVER w = 1 OR lag(b.area_id) OVER w IS DISTINCT FROM b.area_id AS begins
    FROM best b WINDOW w AS (PARTITION BY b.layer_id ORDER BY b.valid_from))
  SELECT m.layer_id, m.area_id, m.area_version, m.valid_from,
         lead(m.valid_from, 1, 'infinity') OVER (PARTITION BY m.layer_id ORDER BY m.valid_from)
  FROM marked m WHERE m.begins
$$;

-- The territory at a point at a moment, one row per exclusive layer in force then, primary layer first. The name is
-- the area's of then, the owner the one of then, the reason that of the version which began the period. Where no polygon
-- covers the point there is no area, and nothing that would be said of one.
DROP FUNCTION IF EXISTS geocrm_point_territories;
CREATE FUNCTION geocrm_point_territories(p_point geometry, p_as_of timestamptz)
RETURNS TABLE (layer_id bigint, layer_key text, layer_name text, is_primary boolean, area_id bigint, name text,
  owner_id bigint, owner_name text, team_id bigint, team_name text, basis text, valid_from timestamptz,
  valid_to timestamptz, reason text, layer_version integer)
LANGUAGE sql STABLE AS $$
  SELECT y.id, y.key, y.name, y.is_primary, t.area_id, now_.name, o.owner_id, u.name, o.team_id, m.name,
         CASE WHEN t.area_id IS NULL THEN 'none' ELSE 'polygon' END,
         told.valid_from, nullif(told.valid_to, 'infinity'), told.reason, told.version
  FROM geocrm_point_timeline(p_point) t
  JOIN layers y ON y.id = t.layer_id
  JOIN layer_periods p ON p.layer_id = t.layer_id AND p.superseded_at IS NULL AND p.valid_from <= t.valid_from
    AND coalesce(p.valid_to, 'infinity') > t.valid_from
  JOIN layer_versions v ON v.layer_id = p.layer_id AND v.version = p.version
  LEFT JOIN LATERAL (SELECT t.valid_from, t.valid_to, v.reason, p.version WHERE t.area_id IS NOT NULL) told ON true
  LEFT JOIN LATERAL (
    SELECT n.name FROM area_periods d JOIN area_versions n ON n.area_id = d.area_id AND n.version = d.area_version
    WHERE d.layer_id = t.layer_id AND d.area_id = t.area_id AND d.valid_from <= p_as_of AND d.valid_to > p_as_of) now_
    ON true
  LEFT JOIN LATERAL (
    SELECT w.owner_id, w.team_id FROM area_owners w
    WHERE w.area_id = t.area_id AND w.valid_from <= p_as_of AND (w.valid_to IS NULL OR w.valid_to > p_as_of)
    ORDER BY w.valid_from DESC LIMIT 1) o ON true
  LEFT JOIN users u ON u.id = o.owner_id
  LEFT JOIN teams m ON m.id = o.team_id
  WHERE t.valid_from <= p_as_of AND t.valid_to > p_as_of
  ORDER BY y.is_primary DESC, y.id
$$;

-- A moment as JSON shows it.
CREATE OR REPLACE FUNCTION geocrm_moment(p_moment timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT to_char(p_moment AT TIME ZONE 'UTC', CASE WHEN p_moment = date_trunc('second', p_moment)
    THEN 'YYYY-MM-DD"T"HH24:MI:SS"Z"' ELSE 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"' END)
$$;

-- Something by its prefixed id and name; NULL where there is none.
CREATE OR REPLACE FUNCTION geocrm_reference(p_prefix text, p_id bigint, p_name text) RETURNS json
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN p_id IS NOT NULL THEN json_build_object('id', p_prefix || p_id, 'name', p_name) END
$$;

-- The hot lookup: the territory at a point as JSON. A reader without exact places is answered for the snapped point.
CREATE OR REPLACE FUNCTION geocrm_territories_at(
  p_digest bytea, p_lon double precision, p_lat double precision, p_as_of timestamptz DEFAULT NULL)
RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
  here geometry := ST_SetSRID(ST_MakePoint(p_lon, p_lat), 4326);
BEGIN
  PERFORM geocrm_enter(p_digest);
  IF NOT geocrm_exact() THEN
    here := geocrm_snap(here);
  END IF;
  RETURN (
    SELECT json_build_object('data', coalesce(json_agg(json_build_object(
      'layer', json_build_object(
        'id', 'lay_' || t.layer_id, 'key', t.layer_key, 'name', t.layer_name, 'is_primary', t.is_primary),
      'area', geocrm_reference('ter_', t.area_id, t.name),
      'owner', geocrm_reference('usr_', t.owner_id, t.owner_name),
      'team', geocrm_reference('tea_', t.team_id, t.team_name),
      'basis', t.basis,
      'reason', t.reason,
      'since', geocrm_moment(t.valid_from),
      'until', geocrm_moment(t.valid_to),
      'layer_version', t.layer_version) ORDER BY t.is_primary DESC, t.layer_id), '[]'::json))
    FROM geocrm_point_territories(here, coalesce(p_as_of, now())) t);
END
$$;
