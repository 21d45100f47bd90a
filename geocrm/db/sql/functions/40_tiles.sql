-- Vector tiles: customers as points or as cells of a 64 × 64 grid, and areas.
--
-- Up to zoom 11 customers come from the pyramid as cells; from zoom 12 on as points, or as cells where a tile holds more
-- than 5,000. Every site belongs to exactly one tile of a zoom (floor of its place in the grid), so that the union of the
-- tiles is the query. Beyond ±85.05° there are no tiles.

-- West, south, east and north of a tile in degrees.
CREATE OR REPLACE FUNCTION geocrm_tile_box(p_z integer, p_x integer, p_y integer) RETURNS geometry
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT ST_MakeEnvelope(
    p_x * 360.0 / (1 << p_z) - 180, degrees(atan(sinh(pi() * (1 - 2.0 * (p_y + 1) / (1 << p_z))))),
    (p_x + 1) * 360.0 / (1 << p_z) - 180, degrees(atan(sinh(pi() * (1 - 2.0 * p_y / (1 << p_z))))), 4326)
$$;

-- What a reader sees in tiles, in one word: it changes with the rows and with the right to see them.
CREATE OR REPLACE FUNCTION geocrm_sight() RETURNS text
LANGUAGE sql STABLE AS $$
  SELECT md5(concat_ws('|', geocrm_lookup_version(), geocrm_sees_all(), geocrm_owners(), geocrm_territories(), geocrm_exact()))
$$;

-- Of so many customers each how many-th is looked at, so that it is 10,000 at most (of 40 million): there are partial
-- indexes of those whose id these numbers divide.
CREATE OR REPLACE FUNCTION geocrm_sample_step(p_n bigint) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN p_n <= 10000 THEN 1 WHEN p_n <= 160000 THEN 16 WHEN p_n <= 2560000 THEN 256 ELSE 4096 END
$$;

-- Cells of the pyramid in a range, and what changed since: for readers who see all of them, whom no index of owners or
-- territories helps.
DROP FUNCTION IF EXISTS geocrm_cells_of_all;
CREATE FUNCTION geocrm_cells_of_all(p_level integer, p_first bigint, p_past bigint)
RETURNS TABLE (cell bigint, stage text, kind text, owner_id bigint, territory_id bigint, segment_id bigint, n bigint)
LANGUAGE sql STABLE AS $$
  SELECT c.cell, c.stage, c.kind, c.owner_id, c.territory_id, c.segment_id, CAST(c.n AS bigint) FROM site_cells c
  WHERE c.level = p_level AND c.cell >= p_first AND c.cell < p_past
  UNION ALL
  SELECT d.cell, d.stage, d.kind, d.owner_id, d.territory_id, d.segment_id, CAST(d.n AS bigint) FROM site_cell_deltas d
  WHERE d.level = p_level AND d.cell >= p_first AND d.cell < p_past
$$;

-- The tile of customers; empty where there are none. `p_colour` names the dimension whose values colour the map: a cell
-- says how many sites it holds, which value is the most frequent and how many of each of the four most frequent.
--
-- `p_score` (KEY.NAME) colours by a score of a published run instead: `shade` says how many of `p_cuts` (ascending) are
-- not above it. Scores stand in no pyramid; a cell says how many sites it holds, at how many of these it looked, how
-- many of those have each shade ('' for no score), and which shade stands in the middle. A tile of 10,000 sites is
-- looked at whole, a fuller one by a sixteenth or less of its customers.
DROP FUNCTION IF EXISTS geocrm_customer_tile;
CREATE FUNCTION geocrm_customer_tile(
  p_z integer, p_x integer, p_y integer, p_colour text,
  p_stages text[], p_kinds text[], p_owners bigint[], p_territories bigint[], p_segments bigint[],
  p_filter text, p_values text[], p_score text, p_cuts real[])
RETURNS bytea
LANGUAGE plpgsql STABLE SET jit = off AS $$
DECLARE
  depth integer := CASE WHEN p_z <= 2 THEN 8 WHEN p_z <= 5 THEN 11 WHEN p_z <= 8 THEN 14 ELSE 17 END;
  tile bigint := geocrm_weave(p_x, p_y);
  first bigint;
  past bigint;
  exact boolean := geocrm_exact();
  segment text := CASE WHEN geocrm_sees_segments() THEN 'i.segment_id' ELSE 'CAST(NULL AS bigint)' END;
  sees_all boolean := geocrm_sees_all();
  owners bigint[] := geocrm_owners();
  territories bigint[] := geocrm_territories();
  place text := CASE WHEN exact THEN 'l.location' ELSE 'geocrm_snap(l.location)' END;
  terms text := '';
  near_by geometry := geocrm_tile_box(p_z, p_x, p_y);
  rows_in_tile text;
  made bytea;
  many bigint;
  there bigint;
  run bigint;
  number integer;
  every integer;
  rough integer := CASE WHEN p_z <= 8 THEN 8 ELSE 11 END;
  scored text := 'LEFT JOIN LATERAL (
    SELECT nullif(s.numbers[$14], ''NaN'') AS score FROM visible.scores s
    WHERE s.customer_id = i.customer_id AND s.run_id = $13 %s LIMIT 1) AS m ON true';
BEGIN
  IF p_score IS NOT NULL THEN
    run := geocrm_published_run(split_part(p_score, '.', 1));
    number := geocrm_score_place(split_part(p_score, '.', 1), split_part(p_score, '.', 2));
  END IF;
  IF p_z <= 11 THEN
    first := tile << (2 * (depth - p_z));
    past := (tile + 1) << (2 * (depth - p_z));
  END IF;
  IF p_z <= 11 AND p_filter IS NULL AND exact AND p_score IS NULL THEN
    WITH counted AS (
      SELECT c.cell, c.stage, c.kind, c.owner_id, c.territory_id, c.segment_id, c.n FROM site_cells c
      WHERE sees_all AND c.level = depth AND c.cell >= first AND c.cell < past
      UNION ALL
      SELECT c.cell, c.stage, c.kind, c.owner_id, c.territory_id, c.segment_id, c.n FROM site_cells c
      WHERE NOT sees_all AND c.owner_id = ANY (owners)
        AND c.level = depth AND c.cell >= first AND c.cell < past
      UNION ALL
      SELECT c.cell, c.stage, c.kind, c.owner_id, c.territory_id, c.segment_id, c.n FROM site_cells c
      WHERE NOT sees_all AND c.territory_id = ANY (territories) AND (c.owner_id = ANY (owners)) IS NOT TRUE
        AND c.level = depth AND c.cell >= first AND c.cell < past
      UNION ALL
      SELECT c.cell, c.stage, c.kind, c.owner_id, c.territory_id, c.segment_id, c.n FROM site_cell_deltas c
      WHERE c.level = depth AND c.cell >= first AND c.cell < past),
    keyed AS (
      SELECT c.cell >> (2 * (depth - p_z - 6)) AS cell,
             CASE p_colour WHEN 'kind' THEN c.kind WHEN 'owner' THEN coalesce('usr_' || c.owner_id, '')
               WHEN 'territory' THEN coalesce('ter_' || c.territory_id, '')
               WHEN 'segment' THEN coalesce('seg_' || c.segment_id, '') ELSE c.stage END AS key,
             sum(c.n) AS n
      FROM counted c
      WHERE (p_stages IS NULL OR c.stage = ANY (p_stages)) AND (p_kinds IS NULL OR c.kind = ANY (p_kinds))
        AND (p_owners IS NULL OR c.owner_id = ANY (p_owners))
        AND (p_territories IS NULL OR c.territory_id = ANY (p_territories))
        AND (p_segments IS NULL OR c.segment_id = ANY (p_segments))
      GROUP BY 1, 2),
    ranked AS (
      SELECT k.cell, k.key, k.n, row_number() OVER (PARTITION BY k.cell ORDER BY k.n DESC, k.key) AS place
      FROM keyed k WHERE k.n > 0)
    SELECT ST_AsMVT(f, 'customers', 4096, 'geom') INTO made FROM (
      SELECT ST_MakePoint((geocrm_unweave(r.cell) - p_x * 64) * 64 + 32,
                          (geocrm_unweave(r.cell >> 1) - p_y * 64) * 64 + 32) AS geom,
             CAST(sum(r.n) AS bigint) AS n, max(r.key) FILTER (WHERE r.place = 1) AS key,
             CAST(json_object_agg(r.key, r.n ORDER BY r.place) FILTER (WHERE r.place <= 4) AS text) AS counts
      FROM ranked r GROUP BY r.cell ORDER BY r.cell) AS f;
    RETURN made;
  END IF;

  IF p_stages IS NOT NULL THEN terms := terms || ' AND l.stage = ANY ($4)'; END IF;
  IF p_kinds IS NOT NULL THEN terms := terms || ' AND l.kind = ANY ($5)'; END IF;
  IF p_owners IS NOT NULL THEN terms := terms || ' AND l.owner_id = ANY ($6)'; END IF;
  IF p_territories IS NOT NULL THEN
    terms := terms || CASE WHEN exact THEN ' AND l.territory_id = ANY ($7)'
      ELSE ' AND geocrm_snapped_territory(l.customer_id, l.site_id, l.location) = ANY ($7)' END;
  END IF;
  IF p_segments IS NOT NULL THEN
    terms := terms || CASE WHEN geocrm_sees_segments() THEN ' AND l.segment_id = ANY ($8)' ELSE ' AND false' END;
  END IF;
  IF p_filter IS NOT NULL THEN terms := terms || ' AND ' || p_filter; END IF;
  -- A rim, because of rounding in the index and because snapping moves points by up to 360 m.
  near_by := ST_Expand(near_by, CASE WHEN exact THEN 1e-6 ELSE 0.05 END);
  rows_in_tile := format(
    'SELECT l.*, p.lon, p.lat FROM (%s) AS l CROSS JOIN LATERAL (SELECT ST_X(%s) AS lon, ST_Y(%2$s) AS lat) AS p
     WHERE p.lat BETWEEN -85.0511287798066 AND 85.0511287798066
       AND geocrm_column(p.lon, $1) = $2 AND geocrm_row(p.lat, $1) = $3 %s',
    CASE WHEN sees_all THEN 'SELECT l.* FROM site_lookup l WHERE l.location && $10'
      ELSE 'SELECT l.* FROM unnest($11) AS b(key) CROSS JOIN LATERAL (
              SELECT l.* FROM site_lookup l WHERE l.owner_id = b.key AND l.location && $10 OFFSET 0) AS l
            UNION ALL
            SELECT l.* FROM unnest($12) AS b(key) CROSS JOIN LATERAL (
              SELECT l.* FROM site_lookup l WHERE l.territory_id = b.key AND l.location && $10
                AND (l.owner_id = ANY ($11)) IS NOT TRUE OFFSET 0) AS l' END, place, terms);
  IF p_z >= 12 THEN
    EXECUTE format('SELECT count(*) FROM (SELECT FROM (%s) AS i LIMIT 5001) AS c', rows_in_tile) INTO many
    USING p_z, p_x, p_y, p_stages, p_kinds, p_owners, p_territories, p_segments, p_values, near_by, owners, territories;
    IF many = 0 THEN
      RETURN '';
    END IF;
  END IF;
  IF p_score IS NOT NULL AND p_z <= 11 AND p_filter IS NULL AND exact AND sees_all THEN
    -- What others see is read whole: there are indexes for that, and theirs is not the whole.
    SELECT sum(c.n), coalesce(sum(c.n) FILTER (WHERE
      (p_stages IS NULL OR c.stage = ANY (p_stages)) AND (p_kinds IS NULL OR c.kind = ANY (p_kinds))
      AND (p_owners IS NULL OR c.owner_id = ANY (p_owners))
      AND (p_territories IS NULL OR c.territory_id = ANY (p_territories))
      AND (p_segments IS NULL OR c.segment_id = ANY (p_segments))), 0) INTO there, many
    FROM geocrm_cells_of_all(rough, tile << (2 * (rough - p_z)), (tile + 1) << (2 * (rough - p_z))) AS c;
    IF many = 0 THEN
      RETURN '';
    END IF;
    IF many > 10000 OR there > 400000 THEN
      every := greatest(geocrm_sample_step(many), 16);
      rows_in_tile := rows_in_tile || format(' AND l.customer_id %% %s = 0', every);
    END IF;
    many := 5001;
  END IF;
  IF many <= 5000 THEN
    EXECUTE format(
      'SELECT ST_AsMVT(f, ''customers'', 4096, ''geom'') FROM (
         SELECT ST_MakePoint(
                  least(4095, greatest(0, floor(((i.lon + 180) / 360 * (1 << $1) - $2) * 4096))),
                  least(4095, greatest(0, floor(((1 - asinh(tan(radians(i.lat))) / pi()) / 2 * (1 << $1) - $3) * 4096)))
                ) AS geom,
                ''cus_'' || i.customer_id AS id, ''sit_'' || i.site_id AS site_id, i.stage, i.kind,
                ''usr_'' || i.owner_id AS owner, ''ter_'' || %s AS territory, ''seg_'' || %s AS segment,
                i.is_primary, i.location_precision %s
         FROM (%s) AS i %s ORDER BY i.site_id) AS f',
      CASE WHEN exact THEN 'i.territory_id' ELSE 'geocrm_snapped_territory(i.customer_id, i.site_id, i.location)' END,
      segment, CASE WHEN p_score IS NOT NULL THEN ', m.score, width_bucket(m.score, $15) AS shade' END, rows_in_tile,
      CASE WHEN p_score IS NOT NULL THEN format(scored, '') END) INTO made
    USING p_z, p_x, p_y, p_stages, p_kinds, p_owners, p_territories, p_segments, p_values, near_by, owners, territories,
      run, number, p_cuts;
    RETURN made;
  END IF;
  IF p_score IS NOT NULL THEN
    EXECUTE format(
      'WITH i AS MATERIALIZED (
         SELECT i.customer_id, geocrm_column(i.lon, $1 + 6) - $2 * 64 AS gx, geocrm_row(i.lat, $1 + 6) - $3 * 64 AS gy
         FROM (%s) AS i),
       step AS MATERIALIZED (
         SELECT CASE WHEN %L THEN 1 ELSE geocrm_sample_step(count(*)) END AS every FROM i),
       shaded AS MATERIALIZED (
         SELECT i.gx, i.gy, i.customer_id %% step.every = 0 AS looked, width_bucket(m.score, $15) AS shade
         FROM i CROSS JOIN step %s),
       keyed AS MATERIALIZED (%s),
       placed AS (
         SELECT k.*, sum(k.looked) OVER (PARTITION BY k.gx, k.gy, k.shade IS NULL ORDER BY k.shade) AS upto,
                sum(k.looked) OVER (PARTITION BY k.gx, k.gy, k.shade IS NULL) AS known
         FROM keyed k)
       SELECT ST_AsMVT(f, ''customers'', 4096, ''geom'') FROM (
         SELECT ST_MakePoint(p.gx * 64 + 32, p.gy * 64 + 32) AS geom, CAST(sum(p.n) AS bigint) AS n,
                CAST(sum(p.looked) AS bigint) AS looked_at,
                CASE WHEN sum(p.looked) > 0 THEN coalesce(CAST(
                  min(p.shade) FILTER (WHERE p.shade IS NOT NULL AND 2 * p.upto >= p.known) AS text), '''') END AS key,
                coalesce(CAST(json_object_agg(coalesce(CAST(p.shade AS text), ''''), p.looked ORDER BY p.shade)
                  FILTER (WHERE p.looked > 0) AS text), ''{}'') AS counts
         FROM placed p GROUP BY p.gx, p.gy HAVING sum(p.n) > 0 ORDER BY p.gy, p.gx) AS f',
      rows_in_tile, every IS NOT NULL, format(scored, 'AND i.customer_id % step.every = 0'),
      CASE WHEN every IS NULL THEN
        'SELECT s.gx, s.gy, s.shade, count(*) AS n, count(*) FILTER (WHERE s.looked) AS looked FROM shaded s GROUP BY 1, 2, 3'
      ELSE
        'SELECT s.gx, s.gy, s.shade, CAST(0 AS bigint) AS n, count(*) AS looked FROM shaded s GROUP BY 1, 2, 3
         UNION ALL
         SELECT geocrm_unweave(g.cell) - $2 * 64, geocrm_unweave(g.cell >> 1) - $3 * 64, NULL, g.n, 0
         FROM (SELECT c.cell >> (2 * ($16 - $1 - 6)) AS cell, CAST(sum(c.n) AS bigint) AS n
               FROM geocrm_cells_of_all($16, $17, $18) AS c
               WHERE ($4 IS NULL OR c.stage = ANY ($4)) AND ($5 IS NULL OR c.kind = ANY ($5))
                 AND ($6 IS NULL OR c.owner_id = ANY ($6)) AND ($7 IS NULL OR c.territory_id = ANY ($7))
                 AND ($8 IS NULL OR c.segment_id = ANY ($8))
               GROUP BY 1 HAVING sum(c.n) > 0) AS g' END) INTO made
    USING p_z, p_x, p_y, p_stages, p_kinds, p_owners, p_territories, p_segments, p_values, near_by, owners, territories,
      run, number, p_cuts, depth, first, past;
    RETURN made;
  END IF;
  EXECUTE format(
    'WITH keyed AS (
       SELECT geocrm_column(i.lon, $1 + 6) - $2 * 64 AS gx, geocrm_row(i.lat, $1 + 6) - $3 * 64 AS gy, %s AS key,
              count(*) AS n
       FROM (%s) AS i GROUP BY 1, 2, 3),
     ranked AS (SELECT k.*, row_number() OVER (PARTITION BY k.gx, k.gy ORDER BY k.n DESC, k.key) AS place FROM keyed k)
     SELECT ST_AsMVT(f, ''customers'', 4096, ''geom'') FROM (
       SELECT ST_MakePoint(r.gx * 64 + 32, r.gy * 64 + 32) AS geom, CAST(sum(r.n) AS bigint) AS n,
              max(r.key) FILTER (WHERE r.place = 1) AS key,
              CAST(json_object_agg(r.key, r.n ORDER BY r.place) FILTER (WHERE r.place <= 4) AS text) AS counts
       FROM ranked r GROUP BY r.gx, r.gy ORDER BY r.gy, r.gx) AS f',
    CASE p_colour WHEN 'kind' THEN 'i.kind' WHEN 'owner' THEN 'coalesce(''usr_'' || i.owner_id, '''')'
      WHEN 'territory' THEN CASE WHEN exact THEN 'coalesce(''ter_'' || i.territory_id, '''')'
        ELSE 'coalesce(''ter_'' || geocrm_snapped_territory(i.customer_id, i.site_id, i.location), '''')' END
      WHEN 'segment' THEN format('coalesce(''seg_'' || %s, '''')', segment) ELSE 'i.stage' END,
    rows_in_tile) INTO made
  USING p_z, p_x, p_y, p_stages, p_kinds, p_owners, p_territories, p_segments, p_values, near_by, owners, territories;
  RETURN made;
END
$$;

-- The hot route: authenticate, and the tile unless the reader has it already (`p_etag`). An ad-hoc filter looks at data
-- that has no version; its tag is made of the tile itself.
DROP FUNCTION IF EXISTS geocrm_hot_customer_tile;
CREATE FUNCTION geocrm_hot_customer_tile(
  p_digest bytea, p_etag text, p_z integer, p_x integer, p_y integer, p_colour text,
  p_stages text[], p_kinds text[], p_owners bigint[], p_territories bigint[], p_segments bigint[],
  p_filter text, p_values text[], p_score text, p_cuts real[], OUT etag text, OUT tile bytea)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM geocrm_enter(p_digest);
  IF p_filter IS NULL AND (p_territories IS NULL OR geocrm_exact()) THEN
    etag := geocrm_sight();
    IF p_score IS NOT NULL THEN
      etag := md5(etag || '|' || coalesce(geocrm_published_run(split_part(p_score, '.', 1)), 0));
    END IF;
    IF etag = p_etag THEN
      RETURN;
    END IF;
  END IF;
  tile := geocrm_customer_tile(
    p_z, p_x, p_y, p_colour, p_stages, p_kinds, p_owners, p_territories, p_segments, p_filter, p_values,
    p_score, p_cuts);
  IF etag IS NULL THEN
    etag := md5(tile);
    IF etag = p_etag THEN
      tile := NULL;
    END IF;
  END IF;
END
$$;

-- The tile of a layer's areas as published now, clipped with a rim of 64 of 4096 units.
DROP FUNCTION IF EXISTS geocrm_area_tile;
CREATE FUNCTION geocrm_area_tile(p_layer_id bigint, p_z integer, p_x integer, p_y integer) RETURNS bytea
LANGUAGE sql STABLE AS $$
  WITH frame AS (
    SELECT ST_TileEnvelope(p_z, p_x, p_y) AS square,
           ST_Intersection(ST_Expand(geocrm_tile_box(p_z, p_x, p_y), 16.0 / (1 << p_z)),
                           ST_MakeEnvelope(-180, -85.06, 180, 85.06, 4326)) AS clip)
  SELECT ST_AsMVT(f, 'areas', 4096, 'geom') FROM (
    SELECT ST_AsMVTGeom(
             ST_Transform(ST_ClipByBox2D(ST_Simplify(v.geometry, 360.0 / (1 << p_z) / 8192, true), box2d(frame.clip)), 3857),
             frame.square, 4096, 64, true) AS geom,
           CASE WHEN y.kind = 'territories' THEN 'ter_' ELSE 'are_' END || a.id AS id, a.name,
           'usr_' || a.owner_id AS owner, 'tea_' || a.team_id AS team
    FROM frame, layers y
    JOIN layer_areas la ON la.layer_id = y.id AND la.layer_version = y.current_version
    JOIN area_versions v ON v.area_id = la.area_id AND v.version = la.area_version
    JOIN areas a ON a.id = la.area_id
    WHERE y.id = p_layer_id AND v.geometry && frame.clip
    ORDER BY a.id) AS f
  WHERE f.geom IS NOT NULL
$$;

DROP FUNCTION IF EXISTS geocrm_hot_area_tile;
CREATE FUNCTION geocrm_hot_area_tile(
  p_digest bytea, p_etag text, p_layer text, p_z integer, p_x integer, p_y integer,
  OUT known boolean, OUT etag text, OUT tile bytea)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  layer bigint;
BEGIN
  PERFORM geocrm_enter(p_digest);
  SELECT y.id, md5(concat_ws('|', y.id, y.current_version, count(a.id), max(a.id), sum(a.version)))
  INTO layer, etag
  FROM layers y LEFT JOIN areas a ON a.layer_id = y.id
  WHERE y.key = p_layer GROUP BY y.id, y.current_version;
  known := layer IS NOT NULL;
  IF known AND etag IS DISTINCT FROM p_etag THEN
    tile := geocrm_area_tile(layer, p_z, p_x, p_y);
  END IF;
END
$$;

-- What the TileJSON of customers says of the reader's rows: bounds by the coarsest cells, how many there are, how many
-- lie beyond ±85.05° and are in no tile, and how many of each stage, owner, territory and segment are in tiles (null for
-- readers of snapped places: the snapped points may lie in other territories).
DROP FUNCTION IF EXISTS geocrm_hot_customer_tilejson;
CREATE FUNCTION geocrm_hot_customer_tilejson(
  p_digest bytea, OUT west double precision, OUT south double precision, OUT east double precision,
  OUT north double precision, OUT sites bigint, OUT outside bigint, OUT keys text)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM geocrm_enter(p_digest);
  WITH cells AS (
    SELECT c.cell, sum(c.n) AS n FROM (
      SELECT cell, n FROM site_cells WHERE level = 8 UNION ALL SELECT cell, n FROM site_cell_deltas WHERE level = 8) AS c
    GROUP BY c.cell HAVING sum(c.n) > 0)
  SELECT min(geocrm_unweave(cell)) * 360.0 / 256 - 180, (max(geocrm_unweave(cell)) + 1) * 360.0 / 256 - 180,
         degrees(atan(sinh(pi() * (1 - 2.0 * (max(geocrm_unweave(cell >> 1)) + 1) / 256)))),
         degrees(atan(sinh(pi() * (1 - 2.0 * min(geocrm_unweave(cell >> 1)) / 256)))), sum(n)
  INTO west, east, south, north, sites FROM cells;
  IF geocrm_exact() THEN
    WITH counted AS (
      SELECT c.stage, c.owner_id, c.territory_id, c.segment_id, sum(c.n) AS n FROM (
        SELECT stage, owner_id, territory_id, segment_id, n FROM site_cells WHERE level = 8 UNION ALL
        SELECT stage, owner_id, territory_id, segment_id, n FROM site_cell_deltas WHERE level = 8) AS c
      GROUP BY 1, 2, 3, 4)
    SELECT json_build_object(
      'stage', (SELECT json_object_agg(k.key, k.n) FROM (
        SELECT stage AS key, CAST(sum(n) AS bigint) AS n FROM counted GROUP BY 1 HAVING sum(n) > 0 ORDER BY 1) AS k),
      'owner', (SELECT json_object_agg(k.key, k.n) FROM (
        SELECT coalesce('usr_' || owner_id, '') AS key, CAST(sum(n) AS bigint) AS n FROM counted GROUP BY 1 HAVING sum(n) > 0 ORDER BY 1) AS k),
      'territory', (SELECT json_object_agg(k.key, k.n) FROM (
        SELECT coalesce('ter_' || territory_id, '') AS key, CAST(sum(n) AS bigint) AS n FROM counted GROUP BY 1 HAVING sum(n) > 0 ORDER BY 1) AS k),
      'segment', (SELECT json_object_agg(k.key, k.n) FROM (
        SELECT coalesce('seg_' || segment_id, '') AS key, CAST(sum(n) AS bigint) AS n FROM counted GROUP BY 1 HAVING sum(n) > 0 ORDER BY 1) AS k))
    INTO keys;
  END IF;
  SELECT count(*) INTO outside FROM site_lookup l
  WHERE l.location && ANY (ARRAY[ST_MakeEnvelope(-180, 85.0511, 180, 90, 4326), ST_MakeEnvelope(-180, -90, 180, -85.0511, 4326)])
    AND abs(ST_Y(CASE WHEN geocrm_exact() THEN l.location ELSE geocrm_snap(l.location) END)) > 85.0511287798066;
  sites := coalesce(sites, 0) + outside;
END
$$;

-- What the TileJSON of a layer says.
DROP FUNCTION IF EXISTS geocrm_hot_area_tilejson;
CREATE FUNCTION geocrm_hot_area_tilejson(
  p_digest bytea, p_layer text, OUT name text, OUT west double precision, OUT south double precision,
  OUT east double precision, OUT north double precision)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM geocrm_enter(p_digest);
  SELECT y.name, ST_XMin(e.box), greatest(ST_YMin(e.box), -85.0511287798066), ST_XMax(e.box),
         least(ST_YMax(e.box), 85.0511287798066)
  INTO name, west, south, east, north
  FROM layers y CROSS JOIN LATERAL (
    SELECT ST_Extent(v.geometry) AS box FROM layer_areas la
    JOIN area_versions v ON v.area_id = la.area_id AND v.version = la.area_version
    WHERE la.layer_id = y.id AND la.layer_version = y.current_version) AS e
  WHERE y.key = p_layer;
END
$$;
