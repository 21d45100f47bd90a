-- Offers: what holds for a customer at a point and a moment, ranked, with what speaks against the others.

-- The fraction of 1 that a key and a unit have: the first 48 bits of SHA-256 over `key:unit`. The same as
-- geocrm.campaigns.holdouts.fraction.
-- (Nothing but immutable functions and not strict, so that the planner writes it into the query.)
CREATE OR REPLACE FUNCTION geocrm_fraction(p_key text, p_unit text) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CAST(CAST(CAST('x' || left(encode(sha256(CAST(replace(p_key || ':' || p_unit, '\', '\\') AS bytea)), 'hex'), 12)
    AS bit(48)) AS bigint) AS double precision) / 281474976710656.0
$$;

-- The nearest placed place of each kind, by distance on the ellipsoid and then by id, of those kinds that offers name.
-- Only within what the widest of those offers reaches, where `p_any` does not ask for more.
CREATE OR REPLACE FUNCTION geocrm_offer_places(p_here geometry, p_any boolean)
RETURNS TABLE (kind text, place_id bigint, distance_m double precision)
LANGUAGE sql STABLE ROWS 4 AS $$
  SELECT k.kind, found.id, found.d
  FROM unnest(ARRAY['own', 'competitor', 'depot', 'branch']) AS k(kind)
  CROSS JOIN LATERAL (SELECT max(a.radius_m) AS widest FROM offer_areas a WHERE a.place_kind = k.kind) AS named
  CROSS JOIN LATERAL (
    SELECT ST_Distance(geography(p.location), geography(p_here)) AS d FROM places p
    WHERE named.widest IS NOT NULL AND p.kind = k.kind AND p.placement = 'placed'
    ORDER BY p.location <-> p_here LIMIT 1) AS bound
  CROSS JOIN LATERAL (
    SELECT p.id, m.d
    FROM unnest(geocrm_boxes(ST_X(p_here), ST_Y(p_here),
                             CASE WHEN p_any THEN bound.d ELSE least(bound.d, named.widest) END)) AS b(box)
    JOIN places p ON p.location && b.box
    CROSS JOIN LATERAL (SELECT ST_Distance(geography(p.location), geography(p_here)) AS d) AS m
    WHERE p.kind = k.kind AND p.placement = 'placed' ORDER BY m.d, p.id LIMIT 1) AS found
$$;

-- The areas in force at a moment that hold a point, whatever their layer.
CREATE OR REPLACE FUNCTION geocrm_areas_at(p_here geometry, p_moment timestamptz) RETURNS SETOF bigint
LANGUAGE sql STABLE ROWS 5 AS $$
  SELECT DISTINCT p.area_id
  FROM area_pieces p JOIN area_periods d ON d.area_id = p.area_id AND d.area_version = p.version
  WHERE p.geometry && ST_Expand(p_here, 1e-9) AND d.valid_from <= p_moment AND d.valid_to > p_moment
    AND (ST_Intersects(p.core, p_here) OR (ST_DWithin(p.geometry, p_here, 1e-9) AND NOT ST_Disjoint(
      (SELECT v.geometry FROM area_versions v WHERE v.area_id = p.area_id AND v.version = p.version), p_here)))
$$;

-- The polygons where a version of an offer holds: pieces of its areas as they are in force, and fences.
CREATE OR REPLACE FUNCTION geocrm_offer_shapes(p_offer bigint, p_version integer, p_moment timestamptz)
RETURNS TABLE (geometry geometry)
LANGUAGE sql STABLE ROWS 30 AS $$
  SELECT p.geometry
  FROM offer_areas a
  JOIN area_periods d ON d.area_id = a.area_id AND d.valid_from <= p_moment AND d.valid_to > p_moment
  JOIN area_pieces p ON p.area_id = d.area_id AND p.version = d.area_version
  WHERE a.offer_id = p_offer AND a.version = p_version AND a.kind = 'area'
  UNION ALL
  SELECT f.geometry
  FROM offer_areas a JOIN geofences f ON f.id = a.fence_id AND f.deleted_at IS NULL AND f.kind = 'polygon'
  WHERE a.offer_id = p_offer AND a.version = p_version AND a.kind = 'geofence'
$$;

-- How far a point is from where a version of an offer holds, metres; NULL where that is nowhere on earth. The nearest
-- place of each kind is handed over. Of polygons, the one whose box is nearest by degrees, also across ±180°, bounds the
-- answer; those within the bound are measured.
CREATE OR REPLACE FUNCTION geocrm_offer_distance(
  p_offer bigint, p_version integer, p_here geometry, p_moment timestamptz, p_kinds text[], p_away_m double precision[])
RETURNS double precision
LANGUAGE plpgsql STABLE AS $$
DECLARE
  east geometry := ST_Translate(p_here, 360, 0);
  west geometry := ST_Translate(p_here, -360, 0);
  shapes geometry[];
  nearest double precision;
  bound double precision;
  boxes geometry[];
BEGIN
  SELECT min(CASE a.kind
    WHEN 'place' THEN (
      SELECT ST_Distance(geography(l.location), geography(p_here)) - a.radius_m
      FROM places l WHERE l.id = a.place_id AND l.placement = 'placed')
    WHEN 'places' THEN p_away_m[array_position(p_kinds, a.place_kind)] - a.radius_m
    WHEN 'geofence' THEN (
      SELECT ST_Distance(geography(f.center), geography(p_here)) - f.radius_m
      FROM geofences f WHERE f.id = a.fence_id AND f.deleted_at IS NULL AND f.kind = 'circle')
    WHEN 'geofences' THEN geocrm_tag_distance(a.fence_tag, p_here) END)
  INTO nearest FROM offer_areas a WHERE a.offer_id = p_offer AND a.version = p_version;
  IF nearest < 0 THEN
    nearest := 0;
  END IF;
  SELECT array_agg(s.geometry ORDER BY least(s.geometry <#> p_here, s.geometry <#> east, s.geometry <#> west))
  INTO shapes FROM geocrm_offer_shapes(p_offer, p_version, p_moment) AS s;
  IF shapes IS NULL THEN
    RETURN nearest;
  END IF;
  SELECT min(ST_Distance(geography(ST_ClosestPoint(shapes[1], t.here)), geography(p_here))) INTO bound
  FROM unnest(ARRAY[p_here, east, west]) AS t(here);
  boxes := geocrm_boxes(ST_X(p_here), ST_Y(p_here), least(bound, nearest) * 1.01 + 100);
  SELECT least(nearest, min(ST_Distance(geography(s.shape), geography(p_here)))) INTO nearest
  FROM unnest(shapes) AS s(shape) WHERE s.shape && ANY (boxes);
  RETURN nearest;
END
$$;

-- When a version of an offer opens next; NULL where it does not any more.
CREATE OR REPLACE FUNCTION geocrm_offer_opens(p_offer bigint, p_version integer, p_moment timestamptz)
RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN (SELECT min(l.opens_at) FROM offer_openings l
          WHERE l.offer_id = p_offer AND l.version = p_version AND l.opens_at > p_moment);
END
$$;

-- Whether an offer tells a reader without exact places where a customer is: by its audience, or by what is left of a cap
-- for the customer, because redemptions of what once asked where customers are are not seen.
CREATE OR REPLACE FUNCTION geocrm_offer_hides(p_offer bigint, p_audience bigint, p_cap_per_customer bigint)
RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN EXISTS (SELECT FROM audiences u WHERE u.id = p_audience AND geocrm_asks_where(u.filter))
    OR (p_cap_per_customer IS NOT NULL AND geocrm_offer_asks_where(p_offer));
END
$$;

-- Live offers for a customer at a point and a moment, with the reasons why not (none: the offer holds). Only those that
-- hold where the point is, unless `p_all`; only that one, where `p_offer`. They are shown in the order of `turn`, which
-- counts those that hold, and apart from them the others; `held_before` is how many that hold come before. Of the others,
-- how far the point is from where they hold is measured for `p_most` after the first `p_from`.
-- Without a point, offers that hold somewhere have the reason `no_position`. What is said of the customer is what the
-- reader sees: the context must be set, and the customer be seen.
--
-- Facts of the customer are read once; the rest goes by keys from the places that hold the point. What speaks against an
-- offer by its version alone is asked first, and what only explanations need stands in functions: a plan is set up anew
-- at each question, so that its size is paid for even where nothing of it runs.
DROP FUNCTION IF EXISTS geocrm_offers_judged;
CREATE FUNCTION geocrm_offers_judged(
  p_customer bigint, p_lon double precision, p_lat double precision, p_moment timestamptz, p_all boolean DEFAULT false,
  p_offer bigint DEFAULT NULL, p_from integer DEFAULT 0, p_most integer DEFAULT NULL)
RETURNS TABLE (offer_id bigint, version integer, priority integer, n integer, area_kind text, area_id bigint,
  place_id bigint, place_kind text, radius_m double precision, distance_m double precision,
  open_until timestamptz, opens_at timestamptz, left_in_all bigint, left_for_customer bigint, hold_out_key text,
  unit text, held_out boolean, exposed boolean, reasons text[], place bigint, fence bigint, turn bigint,
  held_before bigint, name text, title text, terms text, product_ids bigint[], attributes jsonb, ends_at timestamptz,
  consent_purpose text)
LANGUAGE plpgsql STABLE ROWS 20
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  here geometry := ST_SetSRID(ST_MakePoint(p_lon, p_lat), 4326);
  exact boolean := geocrm_exact();
  audiences bigint[];
  audience_ends timestamptz[];
  purposes text[];
  taken bigint[];
  shown bigint[];
  shown_keys text[];
  shown_held boolean[];
  here_offer bigint[];
  here_version integer[];
  here_n integer[];
  here_place bigint[];
  here_fence bigint[];
  in_fences bigint[];
  in_tags text[];
  widest double precision;
  near_kinds text[];
  near_places bigint[];
  near_m double precision[];
BEGIN
  SELECT array_agg(m.audience_id), array_agg(m.expires_at) INTO audiences, audience_ends FROM visible.audience_members m
  WHERE m.customer_id = p_customer AND (m.expires_at IS NULL OR m.expires_at > p_moment);
  SELECT array_agg(k.purpose) INTO purposes FROM visible.consents k
  WHERE k.customer_id = p_customer AND k.withdrawn_at IS NULL AND k.granted_at <= p_moment;
  SELECT array_agg(r.offer_id) INTO taken FROM visible.redemptions r
  WHERE r.customer_id = p_customer AND r.reversed_at IS NULL;
  SELECT array_agg(e.offer_id ORDER BY e.first_at, e.offer_id), array_agg(e.hold_out_key ORDER BY e.first_at, e.offer_id),
         array_agg(e.held_out ORDER BY e.first_at, e.offer_id)
  INTO shown, shown_keys, shown_held
  FROM visible.exposures e WHERE e.customer_id = p_customer;

  -- Where the point is: the first of the offer's areas that holds it, in the order in which they were given.
  IF here IS NOT NULL THEN
    SELECT max(a.radius_m) INTO widest FROM offer_areas a WHERE a.place_id IS NOT NULL;
    SELECT array_agg(s.kind), array_agg(s.place_id), array_agg(s.distance_m) INTO near_kinds, near_places, near_m
    FROM geocrm_offer_places(here, p_all) AS s;
    SELECT array_agg(f.fence_id), array_agg(f.tag) INTO in_fences, in_tags FROM geocrm_fences_at(here) AS f;
    SELECT array_agg(h.offer_id), array_agg(h.version), array_agg(h.n), array_agg(h.place_id), array_agg(h.fence_id)
    INTO here_offer, here_version, here_n, here_place, here_fence
    FROM (
      SELECT DISTINCT ON (u.offer_id) u.offer_id, u.version, u.n, u.place_id, u.fence_id FROM (
        SELECT a.offer_id, a.version, a.n, CAST(NULL AS bigint) AS place_id, CAST(NULL AS bigint) AS fence_id
        FROM geocrm_areas_at(here, p_moment) AS s(area_id) JOIN offer_areas a ON a.area_id = s.area_id
        UNION ALL
        SELECT a.offer_id, a.version, a.n, NULL, f.id
        FROM unnest(in_fences) AS f(id) JOIN offer_areas a ON a.fence_id = f.id
        UNION ALL
        SELECT a.offer_id, a.version, a.n, NULL, f.id
        FROM unnest(in_fences, in_tags) AS f(id, tag) JOIN offer_areas a ON a.fence_tag = f.tag
        UNION ALL
        SELECT a.offer_id, a.version, a.n, s.place_id, NULL
        FROM unnest(near_kinds, near_places, near_m) AS s(kind, place_id, distance_m)
        JOIN offer_areas a ON a.place_kind = s.kind AND a.radius_m >= s.distance_m
        UNION ALL
        SELECT a.offer_id, a.version, a.n, a.place_id, NULL
        FROM unnest(geocrm_boxes(p_lon, p_lat, widest)) AS b(box)
        JOIN places p ON p.location && b.box AND p.placement = 'placed'
        JOIN offer_areas a ON a.place_id = p.id
        WHERE widest IS NOT NULL AND ST_Distance(geography(p.location), geography(here)) <= a.radius_m
      ) AS u
      JOIN offer_versions v ON v.offer_id = u.offer_id AND v.version = u.version
      WHERE v.live_from IS NOT NULL AND v.live_until IS NULL
      ORDER BY u.offer_id, u.n, u.fence_id) AS h;  -- of several fences of a tag the one that was made first
  END IF;

  RETURN QUERY
  WITH y AS (
    SELECT j.*, j.not_now IS NULL AND j.open_until IS NOT NULL AND j.inside AND j.not_for_whom IS NULL
        AND j.not_allowed IS NULL AND (j.left_in_all = 0) IS NOT TRUE AND (j.left_for_customer = 0) IS NOT TRUE AS fits
    FROM (
      SELECT i.*, k.hold_out_key, w.unit,
        i.hold_out_share > 0 AND w.unit IS NOT NULL AND coalesce(
          shown_held[array_position(shown_keys, k.hold_out_key)],
          geocrm_fraction(k.hold_out_key, w.unit) < i.hold_out_share) AS held_out,
        coalesce(i.offer_id = ANY (shown), false) AS exposed,
        CASE WHEN i.cap_total IS NOT NULL THEN greatest(0, i.cap_total - (
          SELECT t.redeemed FROM offer_counters t WHERE t.offer_id = i.offer_id)) END AS left_in_all,
        CASE WHEN i.cap_per_customer IS NOT NULL THEN
          greatest(0, i.cap_per_customer - coalesce(cardinality(array_positions(taken, i.offer_id)), 0)) END
          AS left_for_customer
      FROM (
        SELECT c.*, o.name, o.campaign_id, a.kind AS area_kind, a.area_id, a.place_id, a.place_kind, a.radius_m,
          r.not_now, r.not_for_whom, r.not_allowed,
          CASE WHEN g.closes_at IS NOT NULL THEN  -- for who is in the audience for some time only, no longer than that
            least(g.closes_at, audience_ends[array_position(audiences, c.audience_id)]) END AS open_until
        FROM (
          SELECT h.n, h.place, h.fence, true AS inside, v.*
          FROM unnest(here_offer, here_version, here_n, here_place, here_fence) AS h(offer_id, version, n, place, fence)
          JOIN offer_versions v ON v.offer_id = h.offer_id AND v.version = h.version
          WHERE p_offer IS NULL OR h.offer_id = p_offer
          UNION ALL
          SELECT NULL, NULL, NULL, true, v.*
          FROM offer_versions v
          WHERE v.everywhere AND v.live_from IS NOT NULL AND v.live_until IS NULL
            AND (p_offer IS NULL OR v.offer_id = p_offer)
          UNION ALL
          SELECT NULL, NULL, NULL, false, v.*
          FROM offer_versions v
          WHERE p_all AND NOT v.everywhere AND v.live_from IS NOT NULL AND v.live_until IS NULL
            AND (p_offer IS NULL OR v.offer_id = p_offer) AND (v.offer_id = ANY (here_offer)) IS NOT TRUE
        ) AS c
        CROSS JOIN LATERAL (SELECT
          CASE WHEN p_moment < c.starts_at THEN 'not_started' WHEN p_moment >= c.ends_at THEN 'over' END AS not_now,
          CASE WHEN NOT exact AND geocrm_offer_hides(c.offer_id, c.audience_id, c.cap_per_customer)
            THEN 'needs_exact_places'
            WHEN c.audience_id IS NULL THEN NULL
            WHEN (c.audience_id = ANY (audiences)) IS NOT TRUE THEN 'not_in_audience' END AS not_for_whom,
          CASE WHEN c.consent_purpose IS NOT NULL AND (c.consent_purpose = ANY (purposes)) IS NOT TRUE
            THEN 'no_consent' END AS not_allowed) AS r
        JOIN offers o ON o.id = c.offer_id
        LEFT JOIN offer_areas a ON a.offer_id = c.offer_id AND a.version = c.version AND a.n = c.n
        -- what has neither hours nor closed days is open from its start to its end
        CROSS JOIN LATERAL (SELECT CASE WHEN r.not_now IS NULL THEN
          CASE WHEN c.hours IS NULL AND c.closed_on = '{}' THEN c.ends_at ELSE (
            SELECT CASE WHEN l.closes_at > p_moment THEN l.closes_at END FROM offer_openings l
            WHERE l.offer_id = c.offer_id AND l.version = c.version AND l.opens_at <= p_moment
            ORDER BY l.opens_at DESC LIMIT 1) END END AS closes_at) AS g
        -- who is not told why not needs no more of what does not hold
        WHERE p_all OR (r.not_now IS NULL AND r.not_for_whom IS NULL AND r.not_allowed IS NULL)
      ) AS i
      CROSS JOIN LATERAL (SELECT CASE WHEN i.campaign_id IS NULL THEN 'off_' || i.offer_id
                                      ELSE 'cam_' || i.campaign_id END AS hold_out_key) AS k
      CROSS JOIN LATERAL (SELECT CASE WHEN i.hold_out_unit = 'customer' THEN 'cus_' || p_customer
        WHEN i.area_id IS NOT NULL THEN 'are_' || i.area_id WHEN i.place IS NOT NULL THEN 'pla_' || i.place
        WHEN i.fence IS NOT NULL THEN 'fen_' || i.fence END AS unit) AS w
      OFFSET 0  -- what is worked out here is worked out once
    ) AS j
  ),
  z AS (
    SELECT y.*, count(*) FILTER (WHERE y.fits AND NOT y.held_out) OVER ranked AS held_before,
      row_number() OVER ranked AS rank
    FROM y WHERE p_all OR y.fits
    WINDOW ranked AS (
      ORDER BY y.priority DESC, y.n IS NULL, y.area_kind = 'area', y.open_until, y.offer_id
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
  )
  SELECT z.offer_id, z.version, z.priority, z.n, z.area_kind, z.area_id, z.place_id, z.place_kind, z.radius_m,
         CASE WHEN z.inside THEN 0
              WHEN here IS NOT NULL AND u.turn > p_from AND (u.turn <= p_from + p_most) IS NOT FALSE THEN
                geocrm_offer_distance(z.offer_id, z.version, here, p_moment, near_kinds, near_m) END,
         z.open_until,
         CASE WHEN p_all AND z.open_until IS NULL THEN geocrm_offer_opens(z.offer_id, z.version, p_moment) END,
         z.left_in_all, z.left_for_customer, z.hold_out_key, z.unit, z.held_out, z.exposed,
         CASE WHEN z.fits THEN CASE WHEN z.held_out THEN ARRAY['held_out'] ELSE '{}' END ELSE array_remove(ARRAY[
           coalesce(z.not_now, CASE WHEN z.open_until IS NULL THEN 'closed' END),
           CASE WHEN NOT z.inside THEN CASE WHEN here IS NULL THEN 'no_position' ELSE 'outside' END END,
           z.not_for_whom,
           z.not_allowed,
           CASE WHEN z.left_in_all = 0 THEN 'cap_reached' END,
           CASE WHEN z.left_for_customer = 0 THEN 'customer_cap_reached' END,
           CASE WHEN z.held_out THEN 'held_out' END], NULL) END,
         z.place, z.fence, u.turn, z.held_before, z.name, z.title, z.terms, z.product_ids, z.attributes, z.ends_at,
         z.consent_purpose
  FROM z CROSS JOIN LATERAL (
    SELECT CASE WHEN z.fits AND NOT z.held_out THEN z.held_before + 1 ELSE z.rank - z.held_before END AS turn) AS u;
END
$$;

-- Remember what a customer was shown or held out of for the first time. It is decided by a hash, so that nothing but the
-- time is lost with the last moments before a crash: the answer does not wait for the disk.
CREATE OR REPLACE FUNCTION geocrm_expose(
  p_customer bigint, p_moment timestamptz, p_offers bigint[], p_versions integer[], p_held_out boolean[],
  p_keys text[], p_units text[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  INSERT INTO exposures (customer_id, offer_id, version, first_at, held_out, hold_out_key, unit)
  SELECT p_customer, x.offer_id, x.version, p_moment, x.held_out, x.key, coalesce(x.unit, 'cus_' || p_customer)
  FROM unnest(p_offers, p_versions, p_held_out, p_keys, p_units) AS x(offer_id, version, held_out, key, unit)
  ON CONFLICT DO NOTHING;
END
$$;

-- Products by their ids, in that order.
CREATE OR REPLACE FUNCTION geocrm_offer_products(p_ids bigint[]) RETURNS json
LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN (SELECT coalesce(json_agg(json_build_object('id', 'prd_' || p.id, 'name', p.name) ORDER BY u.n), '[]'::json)
          FROM unnest(p_ids) WITH ORDINALITY AS u(id, n) JOIN products p ON p.id = u.id);
END
$$;

-- What speaks against an offer.
CREATE OR REPLACE FUNCTION geocrm_offer_against(
  p_offer bigint, p_version integer, p_name text, p_title text, p_reasons text[], p_distance_m double precision,
  p_purpose text, p_opens_at timestamptz)
RETURNS json
LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN json_build_object('id', 'off_' || p_offer, 'version', p_version, 'name', p_name, 'title', p_title, 'reasons', (
    SELECT json_agg(json_strip_nulls(json_build_object(
      'reason', r.reason,
      'distance_m', CASE r.reason WHEN 'outside' THEN round(CAST(p_distance_m AS numeric), 1) END,
      'purpose', CASE r.reason WHEN 'no_consent' THEN p_purpose END,
      'opens_at', CASE WHEN r.reason IN ('closed', 'not_started') THEN geocrm_moment(p_opens_at) END)) ORDER BY r.n)
    FROM unnest(p_reasons) WITH ORDINALITY AS r(reason, n)));
END
$$;

-- The answer of the hot lookup, and what it shows for the first time. Nothing is planned anew.
DROP FUNCTION IF EXISTS geocrm_offer_area(text, bigint, bigint, text, double precision);
DROP FUNCTION IF EXISTS geocrm_offers_answer;
CREATE FUNCTION geocrm_offers_answer(
  p_customer bigint, p_lon double precision, p_lat double precision, p_moment timestamptz, p_limit integer,
  p_explain boolean, p_from integer, p_most integer, OUT answer json, OUT offers bigint[], OUT versions integer[],
  OUT held boolean[], OUT keys text[], OUT units text[])
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $$
#variable_conflict use_column
BEGIN
  WITH told AS (
    SELECT json_agg(json_build_object(
        'id', 'off_' || j.offer_id, 'version', j.version, 'name', j.name, 'title', j.title, 'terms', j.terms,
        'products', CASE WHEN j.product_ids = '{}' THEN CAST('[]' AS json) ELSE geocrm_offer_products(j.product_ids) END,
        'attributes', j.attributes, 'priority', j.priority,
        'where', CASE
          WHEN j.area_kind = 'area' THEN json_build_object(
            'kind', 'area', 'id', CASE y.kind WHEN 'territories' THEN 'ter_' ELSE 'are_' END || a.id, 'name', a.name,
            'place_kind', NULL, 'geofence', NULL, 'radius_m', NULL)
          WHEN j.area_kind IN ('place', 'places') THEN json_build_object(
            'kind', j.area_kind, 'id', 'pla_' || l.id, 'name', l.name, 'place_kind', j.place_kind, 'geofence', NULL,
            'radius_m', j.radius_m)
          WHEN j.area_kind IN ('geofence', 'geofences') THEN json_build_object(
            'kind', j.area_kind, 'id', 'fen_' || f.id, 'name', coalesce(f.name, f.external_id), 'place_kind', NULL,
            'geofence', f.tag || '/' || f.external_id, 'radius_m', NULL) END,
        'open_until', geocrm_moment(j.open_until), 'ends_at', geocrm_moment(j.ends_at),
        'left', json_build_object('in_all', j.left_in_all, 'for_customer', j.left_for_customer)) ORDER BY j.turn)
      FILTER (WHERE j.reasons = '{}' AND j.turn <= p_limit) AS data,
      json_agg(geocrm_offer_against(j.offer_id, j.version, j.name, j.title, j.reasons, j.distance_m, j.consent_purpose,
                                    j.opens_at) ORDER BY j.turn)
      FILTER (WHERE j.reasons <> '{}' AND p_explain AND j.turn > p_from AND j.turn <= p_from + p_most) AS others,
      count(*) FILTER (WHERE j.reasons <> '{}') AS others_in_all,
      array_agg(j.offer_id) FILTER (WHERE x.first) AS offers, array_agg(j.version) FILTER (WHERE x.first) AS versions,
      array_agg(j.held_out) FILTER (WHERE x.first) AS held, array_agg(j.hold_out_key) FILTER (WHERE x.first) AS keys,
      array_agg(j.unit) FILTER (WHERE x.first) AS units
    FROM geocrm_offers_judged(p_customer, p_lon, p_lat, p_moment, p_explain, NULL, p_from, p_most) AS j
    -- shown for the first time; who is held out would have been shown it in this place
    CROSS JOIN LATERAL (SELECT
      NOT j.exposed AND j.held_before < p_limit AND j.reasons <@ ARRAY['held_out'] AS first) AS x
    LEFT JOIN areas a ON a.id = j.area_id LEFT JOIN layers y ON y.id = a.layer_id LEFT JOIN places l ON l.id = j.place
    LEFT JOIN geofences f ON f.id = j.fence)
  SELECT json_build_object('data', coalesce(t.data, '[]'::json),
           'others', CASE WHEN p_explain THEN coalesce(t.others, '[]'::json) END,
           'others_in_all', CASE WHEN p_explain THEN t.others_in_all END,
           'at', geocrm_moment(p_moment)),
    t.offers, t.versions, t.held, t.keys, t.units
  INTO answer, offers, versions, held, keys, units
  FROM told t;
END
$$;

-- The hot lookup as JSON. What a key shows is remembered (`p_record`); what a person looks at is not, nor another moment
-- than now. Raises GC404 where the reader sees no such customer. `p_explain`: with the reasons of `p_most` other offers
-- after the first `p_from`.
DROP FUNCTION IF EXISTS geocrm_hot_offers;
CREATE FUNCTION geocrm_hot_offers(
  p_digest bytea, p_customer bigint, p_lon double precision, p_lat double precision, p_at timestamptz, p_limit integer,
  p_explain boolean, p_record boolean, p_from integer, p_most integer)
RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
  who record := geocrm_enter(p_digest, 'offers:redeem');
  moment timestamptz := coalesce(p_at, now());
  told record;
BEGIN
  PERFORM FROM customers c WHERE c.id = p_customer AND c.erased_at IS NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no such customer' USING ERRCODE = 'GC404';
  END IF;
  SELECT * INTO told FROM geocrm_offers_answer(
    p_customer, p_lon, p_lat, moment, p_limit, p_explain, p_from, p_most);
  IF told.offers IS NOT NULL AND p_record AND p_at IS NULL AND who.key_id IS NOT NULL THEN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM geocrm_expose(p_customer, moment, told.offers, told.versions, told.held, told.keys, told.units);
  END IF;
  RETURN told.answer;
END
$$;

REVOKE ALL ON FUNCTION geocrm_expose(bigint, timestamptz, bigint[], integer[], boolean[], text[], text[]) FROM PUBLIC;
