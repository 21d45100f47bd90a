-- Which fences hold a point, and how far a fence is from one: the truth of a point without accuracy, for offers.

-- Ids and tags of the fences that hold the point; their hours do not matter. A circle is its geodesic radius, and the
-- outline that covers it lets the index find it.
DROP FUNCTION IF EXISTS geocrm_fences_at(geometry);
CREATE FUNCTION geocrm_fences_at(p_point geometry) RETURNS TABLE (fence_id bigint, tag text)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 5 AS $$
  SELECT f.id, f.tag FROM public.geofences f
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

-- Metres from a point to the nearest fence of a tag, 0 within one; NULL where there is none. The nearest by degrees, also
-- across ±180°, bounds the answer; what lies within the bound is measured.
CREATE OR REPLACE FUNCTION geocrm_tag_distance(p_tag text, p_point geometry) RETURNS double precision
LANGUAGE sql STABLE AS $$
  SELECT min(geocrm_fence_distance(f.id, p_point))
  FROM (
    SELECT min(geocrm_fence_distance(n.id, p_point)) AS m
    FROM unnest(ARRAY[0.0, -360.0, 360.0]) AS t(turn)
    CROSS JOIN LATERAL (
      SELECT g.id FROM public.geofences g WHERE g.deleted_at IS NULL AND g.tag = p_tag
      ORDER BY g.geometry <-> ST_Translate(p_point, t.turn, 0) LIMIT 1) AS n) AS bound
  CROSS JOIN LATERAL unnest(geocrm_boxes(ST_X(p_point), ST_Y(p_point), bound.m * 1.01 + 100)) AS b(box)
  JOIN public.geofences f ON f.deleted_at IS NULL AND f.tag = p_tag AND f.geometry && b.box
$$;
