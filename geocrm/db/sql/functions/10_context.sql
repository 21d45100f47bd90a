-- Who acts, and what the row-security policies may ask about it.

-- The grid of keys without the scope `locations:exact`: about 500 m, the same point for every question asked.
CREATE OR REPLACE FUNCTION geocrm_snap(location geometry) RETURNS geometry
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT ST_SetSRID(ST_MakePoint(
    least(180, greatest(-180, round(ST_X(location) / step.lon) * step.lon)),
    grid.lat), 4326)
  FROM (SELECT least(90, greatest(-90, (round(ST_Y(location) / 0.0045) * 0.0045)))) AS grid(lat),
  LATERAL (SELECT 0.0045 / greatest(cos(radians(grid.lat)), 0.0045)) AS step(lon)
$$;

-- The rows that a user may see, by role: own, of the team and the teams below it, or all.
CREATE OR REPLACE FUNCTION geocrm_actor(
  p_user_id bigint,
  OUT user_id bigint, OUT name text, OUT role text, OUT team_ids bigint[],
  OUT owners bigint[], OUT territories bigint[], OUT sees_all boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$  -- asked by every request: no planning, no scan
DECLARE
  rows_seen text;
  own_team bigint;
BEGIN
  SELECT u.id, u.name, u.role, u.team_id, r.rows INTO user_id, name, role, own_team, rows_seen
  FROM users u JOIN roles r ON r.name = u.role
  WHERE u.id = p_user_id AND u.active;
  IF user_id IS NULL THEN
    RETURN;
  END IF;
  sees_all := rows_seen = 'all';
  IF rows_seen = 'team' THEN
    WITH RECURSIVE below AS (
      SELECT t.id FROM teams t WHERE t.id = own_team
      UNION SELECT t.id FROM teams t JOIN below b ON t.parent_id = b.id)
    SELECT coalesce(array_agg(b.id), '{}') INTO team_ids FROM below b;
    SELECT array_agg(u.id) INTO owners FROM users u WHERE u.team_id = ANY (team_ids) OR u.id = p_user_id;
  ELSE
    team_ids := CASE WHEN own_team IS NULL THEN '{}' ELSE ARRAY[own_team] END;
    owners := ARRAY[p_user_id];
  END IF;
  SELECT coalesce(array_agg(a.id ORDER BY a.id), '{}') INTO territories
  FROM (SELECT o.id, o.layer_id FROM areas o WHERE o.owner_id = ANY (owners)
        UNION
        SELECT t.id, t.layer_id FROM areas t
        WHERE t.team_id = ANY (team_ids) AND (t.owner_id IS NULL OR rows_seen = 'team')) AS a
  JOIN layers l ON l.id = a.layer_id AND l.is_primary;
END
$$;

-- The session or API key behind a token's digest; no row for an unknown, expired or revoked one.
CREATE OR REPLACE FUNCTION geocrm_authenticate(
  p_digest bytea,
  OUT user_id bigint, OUT name text, OUT role text, OUT team_ids bigint[],
  OUT owners bigint[], OUT territories bigint[], OUT sees_all boolean,
  OUT key_id bigint, OUT scopes text[], OUT exact boolean, OUT contacts text, OUT csrf_token text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  who bigint;
BEGIN
  SELECT s.user_id, s.csrf_token INTO who, csrf_token
  FROM user_sessions s WHERE s.digest = p_digest AND s.expires_at > now();
  IF who IS NULL THEN
    SELECT k.user_id, k.id, k.scopes INTO who, key_id, scopes
    FROM api_keys k
    WHERE k.digest = p_digest AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());
  END IF;
  IF who IS NULL THEN
    RETURN;
  END IF;
  SELECT a.user_id, a.name, a.role, a.team_ids, a.owners, a.territories, a.sees_all
  INTO user_id, name, role, team_ids, owners, territories, sees_all
  FROM geocrm_actor(who) a;
  exact := scopes IS NULL OR 'locations:exact' = ANY (scopes);
  contacts := CASE
    WHEN scopes IS NOT NULL AND NOT 'contacts' = ANY (scopes) THEN 'masked'
    WHEN role IN ('administrator', 'manager', 'rep') THEN 'shown'
    WHEN role = 'marketer' THEN 'consented'
    ELSE 'masked' END;
END
$$;

-- Set the row-security context of this transaction.
DROP FUNCTION IF EXISTS geocrm_set_context(bigint, boolean, bigint[], bigint[], boolean, text);
CREATE OR REPLACE FUNCTION geocrm_set_context(
  p_user_id bigint, p_sees_all boolean, p_owners bigint[], p_territories bigint[], p_exact boolean, p_contacts text,
  p_key_id bigint DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('geocrm.user_id', p_user_id::text, true),
          set_config('geocrm.sees_all', CASE WHEN p_sees_all THEN 'on' ELSE 'off' END, true),
          set_config('geocrm.owners', p_owners::text, true),
          set_config('geocrm.territories', p_territories::text, true),
          set_config('geocrm.exact', CASE WHEN p_exact THEN 'on' ELSE 'off' END, true),
          set_config('geocrm.contacts', p_contacts, true),
          set_config('geocrm.key_id', coalesce(p_key_id::text, ''), true);
END
$$;

-- Authenticate and set the context in one step, for the hot lookups. Raises GC401 for a token that is not valid and
-- GC403 for a key without the scope.
DROP FUNCTION IF EXISTS geocrm_enter(bytea);
CREATE OR REPLACE FUNCTION geocrm_enter(p_digest bytea, p_scope text DEFAULT 'customers:read') RETURNS record
LANGUAGE plpgsql AS $$
DECLARE
  who record;
BEGIN
  SELECT * INTO who FROM geocrm_authenticate(p_digest);
  IF who.user_id IS NULL THEN
    RAISE EXCEPTION 'not signed in' USING ERRCODE = 'GC401';
  END IF;
  IF who.scopes IS NOT NULL AND NOT p_scope = ANY (who.scopes) THEN
    RAISE EXCEPTION 'the key lacks the scope %', p_scope USING ERRCODE = 'GC403';
  END IF;
  PERFORM geocrm_set_context(who.user_id, who.sees_all, who.owners, who.territories, who.exact, who.contacts,
                             who.key_id);
  RETURN who;
END
$$;

-- What the policies ask. Without a context nothing is seen.
CREATE OR REPLACE FUNCTION geocrm_sees_all() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT coalesce(current_setting('geocrm.sees_all', true), '') = 'on' $$;

CREATE OR REPLACE FUNCTION geocrm_user_id() RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT nullif(current_setting('geocrm.user_id', true), '')::bigint $$;

CREATE OR REPLACE FUNCTION geocrm_key_id() RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT nullif(current_setting('geocrm.key_id', true), '')::bigint $$;

CREATE OR REPLACE FUNCTION geocrm_owners() RETURNS bigint[]
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT coalesce(nullif(current_setting('geocrm.owners', true), ''), '{}')::bigint[] $$;

CREATE OR REPLACE FUNCTION geocrm_territories() RETURNS bigint[]
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT coalesce(nullif(current_setting('geocrm.territories', true), ''), '{}')::bigint[] $$;

CREATE OR REPLACE FUNCTION geocrm_exact() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT coalesce(current_setting('geocrm.exact', true), '') <> 'off' $$;
