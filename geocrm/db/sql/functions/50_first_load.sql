-- The first load of customers: their tables are written without indexes and foreign keys, which are made afterwards, by
-- sorting and by one join. All in one transaction: where it fails, everything is as before.

-- Lock the tables of customers and set aside what slows their filling; false where there are customers already, or where
-- somebody else is at work on the tables. Primary keys that other tables refer to stay.
CREATE OR REPLACE FUNCTION geocrm_first_load_begin() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  tables CONSTANT text[] := '{customers,sites,contacts,customer_sources,site_sources,assignments,contradictions}';
  loaded text;
  part record;
  filled boolean;
BEGIN
  CREATE TEMP TABLE set_aside (n serial, statement text NOT NULL) ON COMMIT DROP;
  FOREACH loaded IN ARRAY tables LOOP
    EXECUTE format('LOCK TABLE public.%I IN ACCESS EXCLUSIVE MODE', loaded);
  END LOOP;
  -- row security, and the row by row checks of foreign keys that it entails, are not for the owner meanwhile
  ALTER TABLE public.customers NO FORCE ROW LEVEL SECURITY;
  FOREACH loaded IN ARRAY tables LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', loaded) INTO filled;
    IF filled THEN
      RAISE lock_not_available;
    END IF;
  END LOOP;
  FOR part IN
    SELECT c.conrelid::regclass AS loaded, c.conname AS name, pg_get_constraintdef(c.oid) AS definition
    FROM pg_constraint c WHERE c.contype = 'f' AND c.conrelid = ANY (tables::regclass[])
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', part.loaded, part.name);
    INSERT INTO pg_temp.set_aside (n, statement)  -- made last, when the keys that they refer to stand again
    VALUES (1000000 + nextval('pg_temp.set_aside_n_seq'),
            format('ALTER TABLE %s ADD CONSTRAINT %I %s', part.loaded, part.name, part.definition));
  END LOOP;
  FOR part IN
    SELECT x.indrelid::regclass AS loaded, x.indexrelid::regclass AS index, pg_get_indexdef(x.indexrelid) AS definition,
           k.conname AS key, pg_get_constraintdef(k.oid) AS key_definition
    FROM pg_index x
    LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x')
    WHERE x.indrelid = ANY (tables::regclass[])
      AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = x.indexrelid)
    ORDER BY x.indexrelid
  LOOP
    IF part.key IS NULL THEN
      EXECUTE format('DROP INDEX %s', part.index);
      INSERT INTO pg_temp.set_aside (statement) VALUES (part.definition);
    ELSE
      EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', part.loaded, part.key);
      INSERT INTO pg_temp.set_aside (statement)
      VALUES (format('ALTER TABLE %s ADD CONSTRAINT %I %s', part.loaded, part.key, part.key_definition));
    END IF;
  END LOOP;
  RETURN true;
EXCEPTION WHEN lock_not_available THEN
  RETURN false;
END
$$;

-- Make again what was set aside. A unique violation says that the load was wrong.
CREATE OR REPLACE FUNCTION geocrm_first_load_end() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET maintenance_work_mem = '256MB'
SET default_statistics_target = 100 AS $$
DECLARE
  part record;
BEGIN
  IF (SELECT relowner FROM pg_class WHERE oid = to_regclass('pg_temp.set_aside')) IS DISTINCT FROM 'geocrm_owner'::regrole THEN
    RAISE EXCEPTION 'no first load was begun';
  END IF;
  FOR part IN SELECT statement FROM pg_temp.set_aside ORDER BY n LOOP
    EXECUTE part.statement;
  END LOOP;
  ALTER TABLE public.customers FORCE ROW LEVEL SECURITY;
  DROP TABLE pg_temp.set_aside;
  ANALYZE public.customers, public.sites, public.customer_sources, public.site_sources, public.assignments;
END
$$;

REVOKE ALL ON FUNCTION geocrm_first_load_begin(), geocrm_first_load_end() FROM PUBLIC;
