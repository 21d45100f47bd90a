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
