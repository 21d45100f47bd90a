-- Nearby: the exact geodesic nearest sites, with the index.
--
-- 1. The n nearest by degrees come from the index; the largest of their geodesic distances bounds the answer.
-- 2. One box query of that radius holds every candidate; they are sorted by distance on the ellipsoid, then by site.
--
-- Readers who see a part of the rows are served by repeating the policy as one ordered index scan per owner and per
-- territory; row security stays the guarantee. Geometry conditions stand as && so that the index serves under it.

-- The territory that a reader without exact places is shown: named accounts and rules do not depend on the point,
-- a polygon is looked up at the snapped point.
CREATE OR REPLACE FUNCTION geocrm_snapped_territory(p_customer_id bigint, p_site_id bigint, p_location geometry)
RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN coalesce(
    (SELECT a.area_id FROM visible.assignments a JOIN layers y ON y.id = a.layer_id AND y.is_primary
     WHERE a.customer_id = p_customer_id AND a.site_id = p_site_id AND a.basis IN ('named', 'rule')
       AND a.superseded_at IS NULL AND a.valid_from <= now() AND (a.valid_to IS NULL OR a.valid_to > now())
     LIMIT 1),
    (SELECT v.area_id FROM layers y
     JOIN layer_areas la ON la.layer_id = y.id AND la.layer_version = y.current_version
     JOIN area_versions v ON v.area_id = la.area_id AND v.version = la.area_version
     WHERE y.is_primary AND v.geometry && geocrm_snap(p_location)
       AND ST_Intersects(v.geometry, geocrm_snap(p_location))
     ORDER BY v.priority DESC, v.area_id LIMIT 1));
END
$$;

-- Rows of the answer. `p_after_distance_m`, `p_after_site_id`, `p_seen`: the last row of the page before and how many
-- rows came before it. NULL in a list means: not restricted. The context must be set.
DROP FUNCTION IF EXISTS geocrm_near;
CREATE FUNCTION geocrm_near(
  p_lon double precision, p_lat double precision, p_radius_m double precision, p_limit integer,
  p_after_distance_m double precision, p_after_site_id bigint, p_seen integer,
  p_stages text[], p_kinds text[], p_owners bigint[], p_territories bigint[], p_segments bigint[])
RETURNS TABLE (site_id bigint, customer_id bigint, distance_m double precision, location geometry, stage text,
  kind text, owner_id bigint, territory_id bigint, segment_id bigint, is_primary boolean, location_precision text,
  precision_m double precision)
LANGUAGE plpgsql STABLE ROWS 20
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  here geometry := ST_SetSRID(ST_MakePoint(p_lon, p_lat), 4326);
  here_g geography := geography(here);
  shifted geometry;
  -- One ordered index scan for each of these; all NULL: one over all rows.
  by_owner bigint[];
  by_territory bigint[];
  by_segment bigint[];
  keyed boolean := true;
  want integer := p_limit + p_seen;
  reach double precision;
  many bigint;
  rare boolean := false;
  boxes geometry[];
  found integer;
BEGIN
  IF cardinality(p_owners) <= 100 THEN
    by_owner := p_owners;
  ELSIF cardinality(p_territories) <= 100 THEN
    by_territory := p_territories;
  ELSIF cardinality(p_segments) <= 100 THEN
    by_segment := p_segments;
  ELSIF NOT geocrm_sees_all() THEN
    by_owner := geocrm_owners();
    by_territory := geocrm_territories();
  ELSE
    keyed := false;
    IF p_stages IS NOT NULL OR p_kinds IS NOT NULL THEN
      -- Sorting m matches costs about m, walking to the k-th match among N about 2 k N / m.
      SELECT sum(c.n) FILTER (WHERE (p_stages IS NULL OR c.stage = ANY (p_stages))
                                AND (p_kinds IS NULL OR c.kind = ANY (p_kinds))) ^ 2 < 2.0 * want * sum(c.n)
      INTO rare FROM lookup_counts c;
      rare := coalesce(rare, false);
    END IF;
  END IF;

  IF rare THEN
    RETURN QUERY SELECT r.* FROM geocrm_near_rare(
      here, p_radius_m, p_limit, p_after_distance_m, p_after_site_id, p_stages, p_kinds) AS r;
    RETURN;
  END IF;
  LOOP
    IF keyed THEN
      SELECT max(x.d), count(*) INTO reach, many FROM (
        SELECT ST_Distance(geography(u.location), here_g) AS d FROM (
          SELECT l.customer_id, l.site_id, l.location FROM unnest(by_owner) AS b(key) CROSS JOIN LATERAL (
            SELECT l.customer_id, l.site_id, l.location FROM site_lookup l
            WHERE l.owner_id = b.key
              AND (p_stages IS NULL OR l.stage = ANY (p_stages)) AND (p_kinds IS NULL OR l.kind = ANY (p_kinds))
              AND (p_territories IS NULL OR l.territory_id = ANY (p_territories))
              AND (p_segments IS NULL OR l.segment_id = ANY (p_segments))
            ORDER BY l.location <-> here LIMIT want) AS l
          UNION
          SELECT l.customer_id, l.site_id, l.location FROM unnest(by_territory) AS b(key) CROSS JOIN LATERAL (
            SELECT l.customer_id, l.site_id, l.location FROM site_lookup l
            WHERE l.territory_id = b.key
              AND (p_stages IS NULL OR l.stage = ANY (p_stages)) AND (p_kinds IS NULL OR l.kind = ANY (p_kinds))
              AND (p_owners IS NULL OR l.owner_id = ANY (p_owners))
              AND (p_segments IS NULL OR l.segment_id = ANY (p_segments))
            ORDER BY l.location <-> here LIMIT want) AS l
          UNION
          SELECT l.customer_id, l.site_id, l.location FROM unnest(by_segment) AS b(key) CROSS JOIN LATERAL (
            SELECT l.customer_id, l.site_id, l.location FROM site_lookup l
            WHERE l.segment_id = b.key
              AND (p_stages IS NULL OR l.stage = ANY (p_stages)) AND (p_kinds IS NULL OR l.kind = ANY (p_kinds))
              AND (p_owners IS NULL OR l.owner_id = ANY (p_owners))
              AND (p_territories IS NULL OR l.territory_id = ANY (p_territories))
            ORDER BY l.location <-> here LIMIT want) AS l
        ) AS u ORDER BY 1 LIMIT want) AS x;
    ELSE
      SELECT max(x.d), count(*) INTO reach, many FROM (
        SELECT ST_Distance(geography(l.location), here_g) AS d FROM site_lookup l
        WHERE (p_stages IS NULL OR l.stage = ANY (p_stages)) AND (p_kinds IS NULL OR l.kind = ANY (p_kinds))
          AND (p_owners IS NULL OR l.owner_id = ANY (p_owners))
          AND (p_territories IS NULL OR l.territory_id = ANY (p_territories))
          AND (p_segments IS NULL OR l.segment_id = ANY (p_segments))
        ORDER BY l.location <-> here LIMIT want) AS x;
      -- Across ±180° the nearest by degrees are far away: look from the other side too, and keep the better bound.
      IF many = want AND cardinality(geocrm_boxes(p_lon, p_lat, least(reach, p_radius_m))) > 1 THEN
        shifted := ST_SetSRID(ST_MakePoint(p_lon - 360 * sign(p_lon), p_lat), 4326);
        SELECT least(reach, max(x.d)) INTO reach FROM (
          SELECT ST_Distance(geography(l.location), here_g) AS d FROM site_lookup l
          WHERE (p_stages IS NULL OR l.stage = ANY (p_stages)) AND (p_kinds IS NULL OR l.kind = ANY (p_kinds))
            AND (p_owners IS NULL OR l.owner_id = ANY (p_owners))
            AND (p_territories IS NULL OR l.territory_id = ANY (p_territories))
            AND (p_segments IS NULL OR l.segment_id = ANY (p_segments))
          ORDER BY l.location <-> shifted LIMIT want) AS x;
      END IF;
    END IF;

    EXIT WHEN many = 0;
    boxes := geocrm_boxes(p_lon, p_lat, least(reach, p_radius_m));
    IF keyed THEN
      RETURN QUERY
      SELECT DISTINCT ON (y.d, y.site_id) y.site_id, y.customer_id, y.d, y.location, y.stage, y.kind, y.owner_id, y.territory_id, y.segment_id,
             y.is_primary, y.location_precision, y.precision_m
      FROM (
        SELECT u.*, ST_Distance(geography(u.location), here_g) AS d FROM (
          -- OFFSET 0 keeps the planner from scanning a box for everybody's rows and looking at the key afterwards.
          SELECT l.* FROM unnest(by_owner) AS b(key), unnest(boxes) AS x(box) CROSS JOIN LATERAL (
            SELECT l.* FROM site_lookup l
            WHERE l.owner_id = b.key AND l.location && x.box
              AND (p_stages IS NULL OR l.stage = ANY (p_stages)) AND (p_kinds IS NULL OR l.kind = ANY (p_kinds))
              AND (p_territories IS NULL OR l.territory_id = ANY (p_territories))
              AND (p_segments IS NULL OR l.segment_id = ANY (p_segments)) OFFSET 0) AS l
          UNION ALL
          -- Without the rows that the scans by owner already gave.
          SELECT l.* FROM unnest(by_territory) AS b(key), unnest(boxes) AS x(box) CROSS JOIN LATERAL (
            SELECT l.* FROM site_lookup l
            WHERE l.territory_id = b.key AND l.location && x.box
              AND (by_owner IS NULL OR (l.owner_id = ANY (by_owner)) IS NOT TRUE)
              AND (p_stages IS NULL OR l.stage = ANY (p_stages)) AND (p_kinds IS NULL OR l.kind = ANY (p_kinds))
              AND (p_owners IS NULL OR l.owner_id = ANY (p_owners))
              AND (p_segments IS NULL OR l.segment_id = ANY (p_segments)) OFFSET 0) AS l
          UNION ALL
          SELECT l.* FROM unnest(by_segment) AS b(key), unnest(boxes) AS x(box) CROSS JOIN LATERAL (
            SELECT l.* FROM site_lookup l
            WHERE l.segment_id = b.key AND l.location && x.box
              AND (p_stages IS NULL OR l.stage = ANY (p_stages)) AND (p_kinds IS NULL OR l.kind = ANY (p_kinds))
              AND (p_owners IS NULL OR l.owner_id = ANY (p_owners))
              AND (p_territories IS NULL OR l.territory_id = ANY (p_territories)) OFFSET 0) AS l
        ) AS u OFFSET 0) AS y
      WHERE y.d <= reach AND (p_radius_m IS NULL OR y.d <= p_radius_m)
        AND (p_after_distance_m IS NULL OR (y.d, y.site_id) > (p_after_distance_m, p_after_site_id))
      ORDER BY y.d, y.site_id LIMIT p_limit;
    ELSE
      RETURN QUERY
      SELECT DISTINCT ON (y.d, y.site_id) y.site_id, y.customer_id, y.d, y.location, y.stage, y.kind, y.owner_id, y.territory_id, y.segment_id,
             y.is_primary, y.location_precision, y.precision_m
      FROM (
        SELECT l.*, ST_Distance(geography(l.location), here_g) AS d
        FROM unnest(boxes) AS x(box), site_lookup l
        WHERE l.location && x.box
          AND (p_stages IS NULL OR l.stage = ANY (p_stages)) AND (p_kinds IS NULL OR l.kind = ANY (p_kinds))
          AND (p_owners IS NULL OR l.owner_id = ANY (p_owners))
          AND (p_territories IS NULL OR l.territory_id = ANY (p_territories))
          AND (p_segments IS NULL OR l.segment_id = ANY (p_segments))
        OFFSET 0) AS y
      WHERE y.d <= reach AND (p_radius_m IS NULL OR y.d <= p_radius_m)
        AND (p_after_distance_m IS NULL OR (y.d, y.site_id) > (p_after_distance_m, p_after_site_id))
      ORDER BY y.d, y.site_id LIMIT p_limit;
    END IF;
    GET DIAGNOSTICS found = ROW_COUNT;
    EXIT WHEN found = p_limit OR many < want OR reach >= p_radius_m;
    -- Rows went away before the cursor since the page before: everything in reach is given, go on beyond it.
    p_limit := p_limit - found;
    p_after_distance_m := reach;
    p_after_site_id := 9223372036854775807;
    want := want * 2;
  END LOOP;
END
$$;

-- The same among the few rows of a rare stage and kind: all of them, sorted.
DROP FUNCTION IF EXISTS geocrm_near_rare;
CREATE FUNCTION geocrm_near_rare(
  p_here geometry, p_radius_m double precision, p_limit integer, p_after_distance_m double precision,
  p_after_site_id bigint, p_stages text[], p_kinds text[])
RETURNS TABLE (site_id bigint, customer_id bigint, distance_m double precision, location geometry, stage text,
  kind text, owner_id bigint, territory_id bigint, segment_id bigint, is_primary boolean, location_precision text,
  precision_m double precision)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = on SET enable_sort = on SET jit = off AS $$
#variable_conflict use_column
BEGIN
  -- Not inside the query: row security does not let COALESCE into an index condition.
  p_stages := coalesce(p_stages, ARRAY['prospect', 'lead', 'active', 'lapsed']);
  p_kinds := coalesce(p_kinds, ARRAY['person', 'organisation']);
  RETURN QUERY
  WITH few AS MATERIALIZED (
    SELECT l.* FROM site_lookup l
    WHERE l.stage = ANY (p_stages) AND l.kind = ANY (p_kinds)),
  measured AS MATERIALIZED (SELECT f.*, ST_Distance(geography(f.location), geography(p_here)) AS d FROM few f)
  SELECT y.site_id, y.customer_id, y.d, y.location, y.stage, y.kind, y.owner_id, y.territory_id, y.segment_id,
         y.is_primary, y.location_precision, y.precision_m
  FROM measured y
  WHERE (p_radius_m IS NULL OR y.d <= p_radius_m)
    AND (p_after_distance_m IS NULL OR (y.d, y.site_id) > (p_after_distance_m, p_after_site_id))
  ORDER BY y.d, y.site_id LIMIT p_limit;
END
$$;

-- The same with an ad-hoc condition (SQL made by geocrm.filters over the row `l`, its values in `p_values`), and for
-- readers without exact places: everything then happens at the snapped points. The condition is tried on the 5,000
-- nearest first; where they do not fill the page, on all rows the reader may see, within the statement timeout.
DROP FUNCTION IF EXISTS geocrm_near_filtered;
CREATE FUNCTION geocrm_near_filtered(
  p_lon double precision, p_lat double precision, p_radius_m double precision, p_limit integer,
  p_after_distance_m double precision, p_after_site_id bigint, p_seen integer,
  p_stages text[], p_kinds text[], p_owners bigint[], p_territories bigint[], p_segments bigint[],
  p_filter text, p_values text[])
RETURNS TABLE (site_id bigint, customer_id bigint, distance_m double precision, location geometry, stage text,
  kind text, owner_id bigint, territory_id bigint, segment_id bigint, is_primary boolean, location_precision text,
  precision_m double precision)
LANGUAGE plpgsql STABLE ROWS 20 AS $$
#variable_conflict use_column
DECLARE
  here geometry := ST_SetSRID(ST_MakePoint(p_lon, p_lat), 4326);
  exact boolean := geocrm_exact();
  shown text := CASE WHEN exact THEN 'l.location' ELSE 'geocrm_snap(l.location)' END;
  territory text := CASE WHEN exact THEN 'l.territory_id'
                         ELSE 'geocrm_snapped_territory(l.customer_id, l.site_id, l.location)' END;
  slack double precision := CASE WHEN exact THEN 0 ELSE 500 END;  -- no point is snapped further than 360 m
  by_owner bigint[] := CASE WHEN p_owners IS NOT NULL THEN p_owners WHEN NOT geocrm_sees_all() THEN geocrm_owners() END;
  by_territory bigint[] := CASE WHEN p_owners IS NULL AND NOT geocrm_sees_all() THEN geocrm_territories() END;
  terms text := 'true';
  source text;
  near_by text;
  reach double precision;
  many bigint;
  boxes geometry[];
BEGIN
  IF p_stages IS NOT NULL THEN terms := terms || ' AND l.stage = ANY ($4)'; END IF;
  IF p_kinds IS NOT NULL THEN terms := terms || ' AND l.kind = ANY ($5)'; END IF;
  IF p_owners IS NOT NULL THEN terms := terms || ' AND l.owner_id = ANY ($6)'; END IF;
  IF p_segments IS NOT NULL THEN
    terms := terms || CASE WHEN geocrm_sees_segments() THEN ' AND l.segment_id = ANY ($8)' ELSE ' AND false' END;
  END IF;
  IF p_territories IS NOT NULL THEN
    IF exact THEN
      terms := terms || ' AND l.territory_id = ANY ($7)';
    ELSE
      p_filter := concat_ws(' AND ', '(' || p_filter || ')', format('%s = ANY ($7)', territory));
    END IF;
  END IF;
  p_filter := coalesce(p_filter, 'true');

  -- The nearest by degrees, bounded; then the condition.
  IF by_owner IS NULL AND by_territory IS NULL THEN
    near_by := format('SELECT l.* FROM site_lookup l WHERE %s ORDER BY l.location <-> $1 LIMIT 5000', terms);
  ELSE
    near_by := format(
      'SELECT l.* FROM unnest($16) AS b(key) CROSS JOIN LATERAL (SELECT l.* FROM site_lookup l
         WHERE l.owner_id = b.key AND %1$s ORDER BY l.location <-> $1 LIMIT 5000) AS l
       UNION ALL
       SELECT l.* FROM unnest($17) AS b(key) CROSS JOIN LATERAL (SELECT l.* FROM site_lookup l
         WHERE l.territory_id = b.key AND ($16 IS NULL OR (l.owner_id = ANY ($16)) IS NOT TRUE) AND %1$s
         ORDER BY l.location <-> $1 LIMIT 5000) AS l', terms);
  END IF;
  SELECT r.reach, r.many INTO reach, many FROM geocrm_near_reach(
    format('SELECT max(x.d), count(*) FROM (
              SELECT ST_Distance(geography(%s), $2) AS d FROM (
                SELECT l.* FROM (%s) AS l WHERE %s ORDER BY l.location <-> $1 LIMIT $3) AS l) AS x',
           shown, near_by, p_filter),
    here, p_limit + p_seen, p_stages, p_kinds, p_owners, p_territories, p_segments, p_values, by_owner, by_territory
  ) AS r;
  IF many < p_limit + p_seen THEN
    reach := NULL;
  END IF;
  boxes := geocrm_boxes(p_lon, p_lat, least(reach, p_radius_m) + slack);

  -- Everything in reach, or everything.
  IF by_owner IS NULL AND by_territory IS NULL THEN
    source := CASE WHEN boxes IS NULL THEN format('SELECT l.* FROM site_lookup l WHERE %s', terms)
      ELSE format('SELECT l.* FROM unnest($10) AS x(box), site_lookup l WHERE l.location && x.box AND %s', terms) END;
  ELSE
    source := format(
      'SELECT l.* FROM unnest($16) AS b(key), unnest($10) AS x(box) CROSS JOIN LATERAL (
         SELECT l.* FROM site_lookup l WHERE l.owner_id = b.key AND l.location && x.box AND %1$s OFFSET 0) AS l
       UNION ALL
       SELECT l.* FROM unnest($17) AS b(key), unnest($10) AS x(box) CROSS JOIN LATERAL (
         SELECT l.* FROM site_lookup l WHERE l.territory_id = b.key AND l.location && x.box
           AND ($16 IS NULL OR (l.owner_id = ANY ($16)) IS NOT TRUE) AND %1$s OFFSET 0) AS l', terms);
    boxes := coalesce(boxes, ARRAY[ST_MakeEnvelope(-180, -90, 180, 90, 4326)]);
  END IF;
  RETURN QUERY EXECUTE format(
    'SELECT DISTINCT ON (y.d, y.site_id) y.site_id, y.customer_id, y.d, y.shown, y.stage, y.kind, y.owner_id, y.place,
            y.segment_id, y.is_primary, y.location_precision, y.error_m
     FROM (SELECT l.site_id, l.customer_id, ST_Distance(geography(%1$s), geography($1)) AS d, %1$s AS shown, l.stage,
                  l.kind, l.owner_id, %2$s AS place, l.segment_id, l.is_primary, l.location_precision,
                  %3$s AS error_m
           FROM (%4$s) AS l WHERE %5$s OFFSET 0) AS y
     WHERE ($12 IS NULL OR y.d <= $12)
       AND ($13 IS NULL OR (y.d, y.site_id) > ($13, $14))
     ORDER BY y.d, y.site_id LIMIT $15',
    shown, territory, CASE WHEN exact THEN 'l.precision_m' ELSE 'greatest(l.precision_m, 500)' END, source, p_filter)
  USING here, geography(here), p_limit + p_seen, p_stages, p_kinds, p_owners, p_territories, p_segments, p_values,
        boxes, reach, p_radius_m, p_after_distance_m, p_after_site_id, p_limit, by_owner, by_territory;
END
$$;

-- The first step of it: planned so that the nearest come from the index in order, whatever the planner believes about
-- the visible rows.
DROP FUNCTION IF EXISTS geocrm_near_reach;
CREATE FUNCTION geocrm_near_reach(
  p_query text, p_here geometry, p_n integer, p_stages text[], p_kinds text[], p_owners bigint[],
  p_territories bigint[], p_segments bigint[], p_values text[], p_by_owner bigint[], p_by_territory bigint[],
  OUT reach double precision, OUT many bigint)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
BEGIN
  EXECUTE p_query INTO reach, many
  USING p_here, geography(p_here), p_n, p_stages, p_kinds, p_owners, p_territories, p_segments, p_values,
        NULL, NULL, NULL, NULL, NULL, NULL, p_by_owner, p_by_territory;
END
$$;

-- The one door: which of the two serves.
DROP FUNCTION IF EXISTS geocrm_near_rows;
CREATE FUNCTION geocrm_near_rows(
  p_lon double precision, p_lat double precision, p_radius_m double precision, p_limit integer,
  p_after_distance_m double precision, p_after_site_id bigint, p_seen integer,
  p_stages text[], p_kinds text[], p_owners bigint[], p_territories bigint[], p_segments bigint[],
  p_filter text, p_values text[])
RETURNS TABLE (site_id bigint, customer_id bigint, distance_m double precision, location geometry, stage text,
  kind text, owner_id bigint, territory_id bigint, segment_id bigint, is_primary boolean, location_precision text,
  precision_m double precision)
LANGUAGE plpgsql STABLE ROWS 20 AS $$
BEGIN
  IF p_filter IS NULL AND geocrm_exact() THEN
    RETURN QUERY SELECT * FROM geocrm_near(
      p_lon, p_lat, p_radius_m, p_limit, p_after_distance_m, p_after_site_id, p_seen,
      p_stages, p_kinds, p_owners, p_territories, p_segments);
  ELSE
    RETURN QUERY SELECT * FROM geocrm_near_filtered(
      p_lon, p_lat, p_radius_m, p_limit, p_after_distance_m, p_after_site_id, p_seen,
      p_stages, p_kinds, p_owners, p_territories, p_segments, p_filter, p_values);
  END IF;
END
$$;

-- One page as the JSON text of the API, and the cursor of the next one (NULL on the last page). The rows are already in
-- order of distance and site. `p_tag` names the question; it leads the cursor, so that a cursor serves its question only.
DROP FUNCTION IF EXISTS geocrm_nearby;
CREATE FUNCTION geocrm_nearby(
  p_lon double precision, p_lat double precision, p_radius_m double precision, p_limit integer,
  p_after_distance_m double precision, p_after_site_id bigint, p_seen integer,
  p_stages text[], p_kinds text[], p_owners bigint[], p_territories bigint[], p_segments bigint[],
  p_filter text, p_values text[], p_tag text)
RETURNS TABLE (body text, next_cursor text)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
  here geography := geography(ST_SetSRID(ST_MakePoint(p_lon, p_lat), 4326));
BEGIN
  RETURN QUERY
  WITH page AS MATERIALIZED (
    SELECT n.*, row_number() OVER () AS place
    FROM geocrm_near_rows(p_lon, p_lat, p_radius_m, p_limit + 1, p_after_distance_m, p_after_site_id, p_seen,
                          p_stages, p_kinds, p_owners, p_territories, p_segments, p_filter, p_values) AS n),
  told AS (
    SELECT string_agg(concat(
      '{"id":"cus_', p.customer_id, '","site_id":"sit_', p.site_id, '","name":', to_json(c.name),
      ',"kind":"', p.kind, '","stage":"', p.stage, '","distance_m":', round(p.distance_m::numeric, 1),
      ',"bearing_deg":', CASE WHEN p.distance_m = 0 THEN 0
        ELSE round(degrees(ST_Azimuth(here, geography(p.location)))::numeric, 1) % 360 END,
      ',"location":{"lon":', ST_X(p.location), ',"lat":', ST_Y(p.location),
      '},"location_precision":"', p.location_precision, '","precision_m":', p.precision_m,
      ',"is_primary":', CASE WHEN p.is_primary THEN 'true' ELSE 'false' END,
      ',"owner":', CASE WHEN p.owner_id IS NULL THEN 'null'
        ELSE '{"id":"usr_' || p.owner_id || '","name":' || coalesce(to_json(u.name)::text, 'null') || '}' END,
      ',"territory":', CASE WHEN a.id IS NULL THEN 'null'
        ELSE '{"id":"ter_' || a.id || '","name":' || to_json(a.name) || '}' END, '}'),
      ',' ORDER BY p.place) AS items
    FROM page p JOIN customers c ON c.id = p.customer_id LEFT JOIN areas a ON a.id = p.territory_id
    LEFT JOIN users u ON u.id = p.owner_id
    WHERE p.place <= p_limit),
  further AS (
    SELECT p_tag || '.' || translate(encode(convert_to(
      l.distance_m || ' ' || l.site_id || ' ' || (p_seen + p_limit), 'UTF8'), 'base64'), E'+/=\n', '-_') AS token
    FROM page l WHERE l.place = p_limit AND EXISTS (SELECT FROM page m WHERE m.place > p_limit))
  SELECT '{"data":[' || coalesce(t.items, '') || '],"has_more":' || (f.token IS NOT NULL)
         || ',"next_cursor":' || coalesce('"' || f.token || '"', 'null') || '}', f.token
  FROM told t LEFT JOIN further f ON true;
END
$$;

-- The hot route: authenticate, set the context and answer in one round trip.
DROP FUNCTION IF EXISTS geocrm_hot_nearby;
CREATE FUNCTION geocrm_hot_nearby(
  p_digest bytea,
  p_lon double precision, p_lat double precision, p_radius_m double precision, p_limit integer,
  p_after_distance_m double precision, p_after_site_id bigint, p_seen integer,
  p_stages text[], p_kinds text[], p_owners bigint[], p_territories bigint[], p_segments bigint[],
  p_filter text, p_values text[], p_tag text)
RETURNS TABLE (body text, next_cursor text)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM geocrm_enter(p_digest);
  RETURN QUERY SELECT * FROM geocrm_nearby(
    p_lon, p_lat, p_radius_m, p_limit, p_after_distance_m, p_after_site_id, p_seen,
    p_stages, p_kinds, p_owners, p_territories, p_segments, p_filter, p_values, p_tag);
END
$$;
