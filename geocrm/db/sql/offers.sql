-- name: areas_nowhere
-- Areas of a version that hold nobody: what is not, or never again, in force, fences that were deleted, and kinds of places
-- and tags of fences of which there is none. Fences that are named are held, so that none of them is deleted meanwhile.
WITH named AS MATERIALIZED (
  SELECT f.id FROM geofences f
  WHERE f.id IN (SELECT a.fence_id FROM offer_areas a
                 WHERE a.offer_id = CAST(:offer AS bigint) AND a.version = CAST(:version AS integer))
    AND f.deleted_at IS NULL
  ORDER BY f.id FOR SHARE)
SELECT a.n, CASE a.kind WHEN 'area' THEN 'the area is on no published version of its layer'
                        WHEN 'place' THEN 'the place has no point on the map'
                        WHEN 'geofence' THEN 'the fence was deleted'
                        WHEN 'geofences' THEN 'there is no fence of this tag'
                        ELSE 'there is no place of this kind on the map' END AS detail
FROM offer_areas a
WHERE a.offer_id = CAST(:offer AS bigint) AND a.version = CAST(:version AS integer)
  AND NOT CASE a.kind
    WHEN 'area' THEN EXISTS (
      SELECT FROM area_periods d
      WHERE d.area_id = a.area_id AND d.has_geometry AND d.valid_to > CAST(:moment AS timestamptz))
    WHEN 'place' THEN EXISTS (SELECT FROM places p WHERE p.id = a.place_id AND p.placement = 'placed')
    WHEN 'geofence' THEN EXISTS (SELECT FROM named n WHERE n.id = a.fence_id)
    WHEN 'geofences' THEN EXISTS (SELECT FROM geofences f WHERE f.tag = a.fence_tag AND f.deleted_at IS NULL)
    ELSE EXISTS (SELECT FROM places p WHERE p.kind = a.place_kind AND p.placement = 'placed') END
ORDER BY a.n

-- name: live_at_fence
-- Live offers that name a fence.
SELECT o.id, o.name FROM offer_areas a
JOIN offer_versions v ON v.offer_id = a.offer_id AND v.version = a.version
  AND v.live_from IS NOT NULL AND v.live_until IS NULL
JOIN offers o ON o.id = a.offer_id
WHERE a.fence_id = CAST(:fence AS bigint) GROUP BY o.id ORDER BY o.id

-- name: campaign_hold_outs
-- The hold-outs of the other live offers of an offer's campaign.
SELECT DISTINCT v.hold_out_share, v.hold_out_unit
FROM offers o JOIN offers other ON other.campaign_id = o.campaign_id AND other.id <> o.id
JOIN offer_versions v ON v.offer_id = other.id AND v.live_from IS NOT NULL AND v.live_until IS NULL
WHERE o.id = CAST(:offer AS bigint)

-- name: outcomes
-- Who was shown an offer or held out of it: what they bought since, until a moment, and in the same time before.
SELECT e.customer_id, e.held_out, e.unit, {part} AS part,
       coalesce(s.amount, 0) AS amount, coalesce(s.margin, 0) AS margin, coalesce(s.before, 0) AS before,
       coalesce(s.margin_before, 0) AS margin_before, coalesce(s.sales, 0) AS sales, coalesce(s.costed, 0) AS costed
FROM exposures e
JOIN customers c ON c.id = e.customer_id AND c.erased_at IS NULL
LEFT JOIN LATERAL (
  SELECT CAST(sum(s.amount) FILTER (WHERE s.occurred_at >= e.first_at) AS double precision) AS amount,
         CAST(sum(s.amount - s.cost) FILTER (WHERE s.occurred_at >= e.first_at) AS double precision) AS margin,
         CAST(sum(s.amount) FILTER (WHERE s.occurred_at < e.first_at) AS double precision) AS before,
         CAST(sum(s.amount - s.cost) FILTER (WHERE s.occurred_at < e.first_at) AS double precision) AS margin_before,
         count(*) FILTER (WHERE s.occurred_at >= e.first_at) AS sales,
         count(s.cost) FILTER (WHERE s.occurred_at >= e.first_at) AS costed
  FROM sales s
  WHERE s.customer_id = e.customer_id AND s.occurred_at < CAST(:until AS timestamptz)
    AND s.occurred_at >= e.first_at - make_interval(days => CAST(:days_before AS integer))
) AS s ON true
WHERE e.offer_id = CAST(:offer AS bigint) AND e.first_at < CAST(:until AS timestamptz)
ORDER BY e.customer_id

-- name: outcome_part_territory
(SELECT t.territory_id FROM sites t WHERE t.customer_id = e.customer_id AND t.is_primary)

-- name: outcome_part_segment
(SELECT m.segment_id FROM segment_members m WHERE m.customer_id = e.customer_id AND m.run_id = CAST(:run AS bigint))

-- name: outcome_currencies
-- In what currencies they bought.
SELECT DISTINCT s.currency FROM exposures e JOIN sales s ON s.customer_id = e.customer_id
WHERE e.offer_id = CAST(:offer AS bigint) AND s.occurred_at < CAST(:until AS timestamptz)
  AND s.occurred_at >= e.first_at - make_interval(days => CAST(:days_before AS integer)) ORDER BY 1

-- name: forget_exposures
-- In which areas a customer was shown offers, or held out of them; who was held out as a customer says nothing of where.
DELETE FROM exposures WHERE customer_id = CAST(:customer AS bigint) AND NOT starts_with(unit, 'cus_')
