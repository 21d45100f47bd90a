-- Boxes and cells of the lookups, and the exchange of a table for a new generation of itself.

-- Boxes in degrees that together hold every point within p_radius_m metres of (p_lon, p_lat), split at ±180°.
-- On the ellipsoid a step measures at least M_min times the same step on the unit sphere, M_min = a(1-e²) = 6,335,439 m
-- being the smallest radius of curvature (WGS 84, at the equator); so the spherical cap of radius / M_min holds the
-- geodesic circle. A wide circle is covered by strips of latitude, each as wide as the cap is there:
-- cos Δλ = (cos c - sin φ0 sin φ) / (cos φ0 cos φ), widest at sin φ = sin φ0 / cos c. Neighbouring boxes touch: a point may
-- be in two of them.
CREATE OR REPLACE FUNCTION geocrm_boxes(p_lon double precision, p_lat double precision, p_radius_m double precision)
RETURNS geometry[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  cap double precision := p_radius_m / 6335439.0 * (1 + 1e-9) + 1e-10;  -- radians
  south double precision;
  north double precision;
  strips integer := least(24, 1 + floor(p_radius_m / 100000));
  low double precision;
  high double precision;
  half double precision;
  widest double precision;
  edge double precision;
  cosine double precision;
  made geometry[] := '{}';
BEGIN
  IF cap >= 1.4 THEN
    south := CASE WHEN cap >= pi() THEN -90 ELSE greatest(-90, p_lat - degrees(cap)) END;
    north := CASE WHEN cap >= pi() THEN 90 ELSE least(90, p_lat + degrees(cap)) END;
    RETURN ARRAY[ST_MakeEnvelope(-180, south, 180, north, 4326)];
  END IF;
  south := greatest(-90, p_lat - degrees(cap));
  north := least(90, p_lat + degrees(cap));
  widest := sin(radians(p_lat)) / cos(cap);
  widest := CASE WHEN abs(widest) <= 1 THEN degrees(asin(widest)) END;
  FOR i IN 1 .. strips LOOP
    low := south + (north - south) * (i - 1) / strips;
    high := south + (north - south) * i / strips;
    half := 0;
    IF (low <= -90 OR high >= 90) AND (p_lat - degrees(cap) <= -90 OR p_lat + degrees(cap) >= 90)
       OR abs(p_lat) > 89.9999999 THEN
      half := 180;
    ELSIF strips = 1 THEN
      half := degrees(asin(least(1.0, sin(cap) / cos(radians(p_lat))))) + 1e-9;
    ELSE
      FOREACH edge IN ARRAY ARRAY[low, high, coalesce(greatest(low, least(high, widest)), low)] LOOP
        IF abs(edge) >= 89.9999999 THEN
          half := 180;
        ELSE
          cosine := (cos(cap) - sin(radians(p_lat)) * sin(radians(edge))) / (cos(radians(p_lat)) * cos(radians(edge)));
          half := greatest(half, CASE WHEN cosine <= -1 THEN 180 WHEN cosine < 1 THEN degrees(acos(cosine)) ELSE 0 END);
        END IF;
      END LOOP;
      half := half + 1e-6 * half + 1e-9;
    END IF;
    low := greatest(-90, low - 1e-9);
    high := least(90, high + 1e-9);
    IF half >= 179.9 THEN
      made := made || ST_MakeEnvelope(-180, low, 180, high, 4326);
    ELSIF p_lon - half < -180 THEN
      made := made || ST_MakeEnvelope(-180, low, p_lon + half, high, 4326)
                   || ST_MakeEnvelope(p_lon - half + 360, low, 180, high, 4326);
    ELSIF p_lon + half > 180 THEN
      made := made || ST_MakeEnvelope(p_lon - half, low, 180, high, 4326)
                   || ST_MakeEnvelope(-180, low, p_lon + half - 360, high, 4326);
    ELSE
      made := made || ST_MakeEnvelope(p_lon - half, low, p_lon + half, high, 4326);
    END IF;
  END LOOP;
  RETURN made;
END
$$;

-- Column and row of the web Mercator grid with 2^p_level cells a side; row 0 is north. A point on ±180° or beyond the
-- square falls into the outermost cell.
CREATE OR REPLACE FUNCTION geocrm_column(p_lon double precision, p_level integer) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CAST(least(greatest(floor((p_lon + 180) / 360 * (1 << p_level)), 0), (1 << p_level) - 1) AS bigint)
$$;

CREATE OR REPLACE FUNCTION geocrm_row(p_lat double precision, p_level integer) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CAST(least(greatest(floor(
    (1 - asinh(tan(radians(least(greatest(p_lat, -89.9), 89.9)))) / pi()) / 2 * (1 << p_level)), 0), (1 << p_level) - 1)
    AS bigint)
$$;

-- The bits of two numbers below 2^31 woven together, y before x: the quadkey as a number, so that a tile is one range.
CREATE OR REPLACE FUNCTION geocrm_weave(p_x bigint, p_y bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  x bigint := p_x;
  y bigint := p_y;
BEGIN
  x := (x | (x << 16)) & 281470681808895;  y := (y | (y << 16)) & 281470681808895;
  x := (x | (x << 8)) & 71777214294589695;  y := (y | (y << 8)) & 71777214294589695;
  x := (x | (x << 4)) & 1085102592571150095;  y := (y | (y << 4)) & 1085102592571150095;
  x := (x | (x << 2)) & 3689348814741910323;  y := (y | (y << 2)) & 3689348814741910323;
  x := (x | (x << 1)) & 6148914691236517205;  y := (y | (y << 1)) & 6148914691236517205;
  RETURN x | (y << 1);
END
$$;

-- One of the two numbers again: p_cell gives x, p_cell >> 1 gives y.
CREATE OR REPLACE FUNCTION geocrm_unweave(p_cell bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  x bigint := p_cell & 6148914691236517205;
BEGIN
  x := (x | (x >> 1)) & 3689348814741910323;
  x := (x | (x >> 2)) & 1085102592571150095;
  x := (x | (x >> 4)) & 71777214294589695;
  x := (x | (x >> 8)) & 281470681808895;
  RETURN (x | (x >> 16)) & 4294967295;
END
$$;

-- The cell of a point in the pyramid; NULL beyond ±85.05°, where there are no tiles.
CREATE OR REPLACE FUNCTION geocrm_cell(p_location geometry, p_level integer) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN ST_Y(p_location) BETWEEN -85.0511287798066 AND 85.0511287798066
    THEN geocrm_weave(geocrm_column(ST_X(p_location), p_level), geocrm_row(ST_Y(p_location), p_level)) END
$$;

-- The version of what lookups and tiles show: it differs between any two states that a reader can see.
CREATE OR REPLACE FUNCTION geocrm_lookup_version() RETURNS text
LANGUAGE sql STABLE AS $$ SELECT coalesce(max(id), 0) || '.' || count(*) FROM lookup_changes $$;

-- Let writers of the present generations wait until the transaction ends; readers do not.
CREATE OR REPLACE FUNCTION geocrm_generation_lock() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '60s' AS $$
BEGIN
  LOCK TABLE public.site_lookup, public.site_cells IN SHARE ROW EXCLUSIVE MODE;
END
$$;

-- The name of a table's new generation, until it is flipped.
CREATE OR REPLACE FUNCTION geocrm_generation_next(p_table text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF p_table NOT IN ('site_lookup', 'site_cells') THEN
    RAISE EXCEPTION 'no generations of %', p_table;
  END IF;
  RETURN p_table || '_next';
END
$$;

-- A new generation beside a table: empty, without indexes. Whoever will flip it holds the lock.
CREATE OR REPLACE FUNCTION geocrm_generation_new(p_table text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '60s' AS $$
DECLARE
  next text := public.geocrm_generation_next(p_table);
BEGIN
  EXECUTE format('DROP TABLE IF EXISTS public.%I', next);
  EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING DEFAULTS INCLUDING IDENTITY)', next, p_table);
  EXECUTE format('GRANT SELECT, INSERT ON public.%I TO geocrm_worker', next);
END
$$;

-- The indexes of a table by name, those that take longest to build first.
CREATE OR REPLACE FUNCTION geocrm_generation_indexes(p_table text) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
  SELECT CAST(i.relname AS text) FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
  WHERE x.indrelid = to_regclass(format('public.%I', p_table))
  ORDER BY m.amname = 'gist' DESC, x.indnatts DESC, i.relname
$$;

-- Give the new generation one index like that of the old one. Several connections may do so at once.
CREATE OR REPLACE FUNCTION geocrm_generation_index(p_table text, p_index text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '60s'
SET maintenance_work_mem = '256MB' AS $$
DECLARE
  next text := public.geocrm_generation_next(p_table);
BEGIN
  IF NOT EXISTS (SELECT FROM public.geocrm_generation_indexes(p_table) AS known WHERE known = p_index) THEN
    RAISE EXCEPTION '% has no index %', p_table, p_index;
  END IF;
  EXECUTE replace(replace(pg_get_indexdef(format('public.%I', p_index)::regclass),
                          format(' INDEX %I ON', p_index), format(' INDEX %I ON', p_index || '_n')),
                  format(' ON public.%I ', p_table), format(' ON public.%I ', next));
END
$$;

-- Give the new generation the indexes that it still lacks, the key, policies and grants of the old one.
CREATE OR REPLACE FUNCTION geocrm_generation_finish(p_table text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '60s' AS $$
DECLARE
  made record;
  next text := public.geocrm_generation_next(p_table);
BEGIN
  FOR made IN
    SELECT g.name, c.conname AS key FROM public.geocrm_generation_indexes(p_table) AS g(name)
    LEFT JOIN pg_constraint c ON c.conindid = format('public.%I', g.name)::regclass AND c.contype = 'p'
  LOOP
    IF to_regclass(format('public.%I', made.name || '_n')) IS NULL THEN
      PERFORM public.geocrm_generation_index(p_table, made.name);
    END IF;
    IF made.key IS NOT NULL THEN
      EXECUTE format('ALTER TABLE public.%I ADD CONSTRAINT %I PRIMARY KEY USING INDEX %I',
                     next, made.name || '_n', made.name || '_n');
    END IF;
  END LOOP;
  EXECUTE format('ANALYZE public.%I', next);
  EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', next);
  FOR made IN SELECT * FROM pg_policies WHERE schemaname = 'public' AND tablename = p_table LOOP
    EXECUTE format('CREATE POLICY %I ON public.%I FOR %s TO %s USING (%s)', made.policyname, next, made.cmd,
                   array_to_string(made.roles, ', '), made.qual);
  END LOOP;
  FOR made IN
    SELECT a.grantee::regrole::text AS grantee, string_agg(a.privilege_type, ', ') AS privileges
    FROM pg_class t, aclexplode(t.relacl) a
    WHERE t.oid = format('public.%I', p_table)::regclass AND a.grantee <> t.relowner AND a.grantee <> 0
    GROUP BY a.grantee
  LOOP
    EXECUTE format('GRANT %s ON public.%I TO %s', made.privileges, next, made.grantee);
  END LOOP;
END
$$;

-- Let the finished generation take the name of the old one. Readers wait from here to the end of the transaction, so it
-- is the last step.
CREATE OR REPLACE FUNCTION geocrm_generation_flip(p_table text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '60s' AS $$
DECLARE
  made record;
  next text := public.geocrm_generation_next(p_table);
BEGIN
  IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = format('public.%I', next)::regclass AND indisprimary) THEN
    RAISE EXCEPTION 'the new generation of % is not finished', p_table;
  END IF;
  FOR made IN
    SELECT i.relname AS name FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = format('public.%I', next)::regclass
  LOOP
    EXECUTE format('ALTER INDEX public.%I RENAME TO %I', made.name, left(made.name, -2) || '_m');
  END LOOP;
  EXECUTE format('DROP TABLE public.%I', p_table);
  EXECUTE format('ALTER TABLE public.%I RENAME TO %I', next, p_table);
  FOR made IN
    SELECT i.relname AS name FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = format('public.%I', p_table)::regclass
  LOOP
    EXECUTE format('ALTER INDEX public.%I RENAME TO %I', made.name, left(made.name, -2));
  END LOOP;
  IF to_regclass(format('public.%I', next || '_id_seq')) IS NOT NULL THEN
    EXECUTE format('ALTER SEQUENCE public.%I RENAME TO %I', next || '_id_seq', p_table || '_id_seq');
    EXECUTE format('GRANT USAGE, SELECT, UPDATE ON SEQUENCE public.%I TO geocrm_worker', p_table || '_id_seq');
  END IF;
END
$$;

REVOKE ALL ON FUNCTION geocrm_generation_lock(), geocrm_generation_new(text), geocrm_generation_indexes(text),
  geocrm_generation_index(text, text), geocrm_generation_finish(text), geocrm_generation_flip(text) FROM PUBLIC;
