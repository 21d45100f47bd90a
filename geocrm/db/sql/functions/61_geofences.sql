-- Which fences hold a point, and how far a fence is from one: the truth of a point without accuracy, for offers.

-- Ids of the fences that hold the point; their hours do not matter. A circle is its geodesic radius, and the outline
-- that covers it lets the index find it.
CREATE OR REPLACE FUNCTION geocrm_fences_at(p_point geometry) RETURNS TABLE (fence_id bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT f.id FROM public.geofences f
  WHERE f.deleted_at IS NULL AND f.geometry && p_point
    AND CASE f.kind WHEN 'circle' THEN ST_Distance(geography(f.center), geography(p_point)) <= f.radius_m
                    ELSE ST_Covers(f.geometry, p_point) END
$$;

-- Metres from a point to a fence, 0 within it; NULL where there is no such fence (any more).
CREATE OR REPLACE FUNCTION geocrm_fence_distance(p_fence bigint, p_point geometry) RETURNS double precision
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT CASE f.kind WHEN 'circle' THEN greatest(0, ST_Distance(geography(f.center), geography(p_point)) - f.radius_m)
                     ELSE ST_Distance(geography(f.geometry), geography(p_point)) END
  FROM public.geofences f WHERE f.id = p_fence AND f.deleted_at IS NULL
$$;
