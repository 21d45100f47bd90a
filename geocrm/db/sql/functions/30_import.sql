-- Functions of the import.

-- An address folded for comparison; where there is none, its point; where there is neither, nothing.
CREATE OR REPLACE FUNCTION geocrm_import_spot(
  p_line1 text, p_line2 text, p_city text, p_region text, p_postal_code text, p_country text,
  p_lon double precision, p_lat double precision)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN COALESCE(p_line1, p_line2, p_city, p_region, p_postal_code, p_country) IS NOT NULL
    THEN lower(concat_ws('|', COALESCE(p_line1, ''), COALESCE(p_line2, ''), COALESCE(p_city, ''), COALESCE(p_region, ''),
                         COALESCE(p_postal_code, ''), COALESCE(p_country, '')))
    ELSE COALESCE(CAST(p_lon AS text) || ',' || CAST(p_lat AS text), '') END
$$;
