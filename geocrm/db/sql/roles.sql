-- The database roles. Run by the administrator before migrations; safe to repeat.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'geocrm_owner') THEN
    CREATE ROLE geocrm_owner NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'geocrm_views') THEN
    CREATE ROLE geocrm_views NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'geocrm_api') THEN
    CREATE ROLE geocrm_api LOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'geocrm_worker') THEN
    CREATE ROLE geocrm_worker LOGIN BYPASSRLS;
  END IF;
EXCEPTION WHEN unique_violation OR duplicate_object THEN
  NULL; -- another start-up made them at the same moment
END
$$;
