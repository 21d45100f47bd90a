-- name: areas_nowhere
-- Areas of a version that hold nobody: what is not, or never again, in force, and kinds of places of which there is none.
SELECT a.n, CASE a.kind WHEN 'area' THEN 'the area is on no published version of its layer'
                        WHEN 'place' THEN 'the place has no point on the map'
                        ELSE 'there is no place of this kind on the map' END AS detail
FROM offer_areas a
WHERE a.offer_id = CAST(:offer AS bigint) AND a.version = CAST(:version AS integer)
  AND NOT CASE a.kind
    WHEN 'area' THEN EXISTS (
      SELECT FROM area_periods d
      WHERE d.area_id = a.area_id AND d.has_geometry AND d.valid_to > CAST(:moment AS timestamptz))
    WHEN 'place' THEN EXISTS (SELECT FROM places p WHERE p.id = a.place_id AND p.placement = 'placed')
    ELSE EXISTS (SELECT FROM places p WHERE p.kind = a.place_kind AND p.placement = 'placed') END
ORDER BY a.n

-- name: campaign_hold_outs
-- The hold-outs of the other live offers of an offer's campaign.
SELECT DISTINCT v.hold_out_share, v.hold_out_unit
FROM offers o JOIN offers other ON other.campaign_id = o.campaign_id AND other.id <> o.id
JOIN offer_versions v ON v.offer_id = other.id AND v.live_from IS NOT NULL AND v.live_until IS NULL
WHERE o.id = CAST(:offer AS bigint)
