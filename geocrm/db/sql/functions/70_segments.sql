-- What filters ask of segmentations by their key. Unknown names are refused (GC422), not taken for missing values.

-- The published run; null where none is published yet.
CREATE OR REPLACE FUNCTION geocrm_published_run(p_key text) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
  run bigint;
BEGIN
  SELECT g.current_run_id INTO run FROM segmentations g WHERE g.key = p_key;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no segmentation %', left(p_key, 60) USING ERRCODE = 'GC422';
  END IF;
  RETURN run;
END
$$;

-- The place of a score among the numbers of the published run.
CREATE OR REPLACE FUNCTION geocrm_score_place(p_key text, p_name text) RETURNS integer
LANGUAGE plpgsql STABLE AS $$
DECLARE
  names text[];
  place integer;
BEGIN
  SELECT r.score_names INTO names FROM segmentation_runs r WHERE r.id = geocrm_published_run(p_key);
  place := array_position(names, p_name);
  IF names IS NOT NULL AND place IS NULL THEN
    RAISE EXCEPTION 'the segmentation % has no score %; it has %', p_key, left(p_name, 60),
      coalesce(nullif(array_to_string(names, ', '), ''), 'none') USING ERRCODE = 'GC422';
  END IF;
  RETURN place;
END
$$;

-- What was worked out of exact points tells of them, whoever reads it: the segment of those within 300 m of a shop, a
-- score that grows with the distance to one. Readers without exact places do not see it. RFM and the value of revenue know
-- no place; rules do where their filters ask of it; groups, churn, hot spots and the value of margins, which knows how far
-- visits drive, always do. What rules ask of other segmentations is followed a few steps, and then taken for asking.
CREATE OR REPLACE FUNCTION geocrm_tells_where(p_method text, p_parameters jsonb, p_depth integer DEFAULT 0) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  RETURN CASE p_method WHEN 'rfm' THEN false
    WHEN 'value' THEN p_parameters ->> 'of' IS NOT DISTINCT FROM 'margin'
    WHEN 'rule' THEN geocrm_asks_where(p_parameters, p_depth)
    ELSE true END;
END
$$;

-- Whether a filter, or anything that holds filters, asks where customers are: of the point, of a border, of a postal code,
-- of a segment or score that tells it, of an audience that an automation may put them into because of where they were.
CREATE OR REPLACE FUNCTION geocrm_asks_where_closely(p_filter jsonb, p_depth integer) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  named text[];
  asked bigint;
BEGIN
  IF jsonb_path_exists(p_filter, '$.** ? (exists (@.near) || exists (@.within) || @.field == "territory"
                                          || @.field == "postal_code" || exists (@.audience ? (@ starts with "aud_")))')
  THEN
    RETURN true;
  END IF;
  named := ARRAY(SELECT f.field #>> '{}' FROM jsonb_path_query(p_filter, '$.**.field') AS f(field)
                 WHERE f.field #>> '{}' ~ '^(segment$|segments\.|scores\.)');
  IF named = '{}' THEN
    RETURN false;
  END IF;
  FOR asked IN SELECT g.id FROM segmentations g
    WHERE (g.is_active AND 'segment' = ANY (named)) OR g.key = ANY (ARRAY(SELECT split_part(n, '.', 2) FROM unnest(named) n))
  LOOP
    IF p_depth >= 5 OR geocrm_segmentation_tells_where(asked, p_depth + 1) THEN
      RETURN true;
    END IF;
  END LOOP;
  RETURN false;
END
$$;

-- The same, told by its words where it can be: most filters name no place, and offers ask this often. (Nothing in it but one
-- expression, so that the planner writes it into the query.)
CREATE OR REPLACE FUNCTION geocrm_asks_where(p_filter jsonb, p_depth integer DEFAULT 0) RETURNS boolean
LANGUAGE sql STABLE AS $$
  SELECT coalesce(CAST(p_filter AS text), '') ~
      '"(near|within|audience|territory|postal_code|segment|segments\.[^"]*|scores\.[^"]*)"'
    AND geocrm_asks_where_closely(p_filter, p_depth)
$$;

-- Of a segmentation, as it is to be run or as its published run was; and of a run. (Owner's rights: policies ask.)
CREATE OR REPLACE FUNCTION geocrm_segmentation_tells_where(p_id bigint, p_depth integer DEFAULT 0) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT geocrm_tells_where(g.method, g.parameters, p_depth)
    OR (r.id IS NOT NULL AND geocrm_tells_where(g.method, r.parameters, p_depth))
  FROM segmentations g LEFT JOIN segmentation_runs r ON r.id = g.current_run_id WHERE g.id = p_id
$$;

CREATE OR REPLACE FUNCTION geocrm_run_tells_where(p_segmentation bigint, p_parameters jsonb) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT geocrm_tells_where(g.method, p_parameters) FROM segmentations g WHERE g.id = p_segmentation
$$;

-- Whether a version of an offer that is or was live has an audience that asks where customers are, also one that was
-- deleted since. (Owner's rights: a view asks.)
CREATE OR REPLACE FUNCTION geocrm_offer_asks_where(p_offer bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT EXISTS (SELECT FROM offer_versions v
                 WHERE v.offer_id = p_offer AND v.live_from IS NOT NULL AND geocrm_asks_where(v.audience))
$$;

-- Whether what an automation did tells where customers are, or were: at a geofence, or by its condition. Of one that is no
-- more it is not known.
CREATE OR REPLACE FUNCTION geocrm_automation_tells_where(p_automation bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT coalesce((SELECT a.trigger = 'event' OR (a.condition IS NOT NULL AND geocrm_asks_where(a.condition))
                   FROM automations a WHERE a.id = p_automation), true)
$$;

-- Whether the reader sees the segments that stand on lookups: those of the active segmentation.
CREATE OR REPLACE FUNCTION geocrm_sees_segments() RETURNS boolean
LANGUAGE sql STABLE AS $$
  SELECT geocrm_exact() OR EXISTS (SELECT FROM segmentations g WHERE g.is_active)
$$;
