-- Layers, their versions and what these hold.

-- name: unknown_periods
-- Exclusive layers with a current version that no period speaks of: loaded, not published.
SELECT y.id, v.version, coalesce(v.effective_from, v.published_at, v.created_at) AS effective_from
FROM layers y JOIN layer_versions v ON v.layer_id = y.id AND v.version = y.current_version
WHERE y.kind = 'territories' AND NOT EXISTS (SELECT FROM layer_periods p WHERE p.layer_id = y.id)
ORDER BY y.id FOR UPDATE OF y

-- name: in_force
-- Exclusive layers that have been published, primary first, locked against publishing.
SELECT y.id, y.is_primary, s.starts AS start,
  NOT EXISTS (
    SELECT FROM area_periods d WHERE d.layer_id = y.id AND (d.valid_from > s.starts OR d.valid_to < 'infinity')) AS flat,
  EXISTS (
    SELECT FROM area_periods d WHERE d.layer_id = y.id AND d.has_geometry
    AND d.valid_from <= coalesce(CAST(:now AS timestamptz), now()) AND d.valid_to > coalesce(CAST(:now AS timestamptz), now())
  ) AS has_polygons,
  EXISTS (SELECT FROM area_periods d WHERE d.layer_id = y.id AND d.has_rule) AS has_rules
FROM layers y CROSS JOIN LATERAL (
  SELECT min(p.valid_from) AS starts FROM layer_periods p WHERE p.layer_id = y.id AND p.superseded_at IS NULL) s
WHERE y.kind = 'territories' AND s.starts IS NOT NULL
  AND (CAST(:layer AS bigint) IS NULL OR y.id = CAST(:layer AS bigint))
ORDER BY y.id FOR SHARE OF y

-- name: rules
-- The rules of a layer that are, were or will be in force.
SELECT DISTINCT v.area_id, v.version, v.rule
FROM area_periods d JOIN area_versions v ON v.area_id = d.area_id AND v.version = d.area_version
WHERE d.layer_id = CAST(:layer AS bigint) AND d.has_rule ORDER BY v.area_id, v.version

-- name: next_version
SELECT coalesce(max(version), 0) + 1 FROM layer_versions WHERE layer_id = CAST(:layer AS bigint)

-- name: copy_areas
INSERT INTO layer_areas (layer_id, layer_version, area_id, area_version)
SELECT layer_id, CAST(:version AS integer), area_id, area_version FROM layer_areas
WHERE layer_id = CAST(:layer AS bigint) AND layer_version = CAST(:source AS integer)

-- name: in_force_at
-- The version in force at a moment, as known now.
SELECT version FROM layer_periods
WHERE layer_id = CAST(:layer AS bigint) AND superseded_at IS NULL AND valid_from <= CAST(:moment AS timestamptz)
  AND coalesce(valid_to, 'infinity') > CAST(:moment AS timestamptz)

-- name: scheduled_after
SELECT version, valid_from, valid_to FROM layer_periods
WHERE layer_id = CAST(:layer AS bigint) AND superseded_at IS NULL AND valid_from > CAST(:moment AS timestamptz)
ORDER BY valid_from

-- name: area_conflicts
-- Areas that a draft and the versions published since it was begun changed differently.
SELECT a.area_id, r.name
FROM (
  SELECT coalesce(o.area_id, b.area_id, t.area_id) AS area_id, o.area_version AS ours, b.area_version AS base,
         t.area_version AS theirs
  FROM (SELECT * FROM layer_areas WHERE layer_id = CAST(:layer AS bigint) AND layer_version = CAST(:ours AS integer)) o
  FULL JOIN (SELECT * FROM layer_areas WHERE layer_id = CAST(:layer AS bigint) AND layer_version = CAST(:base AS integer)) b
    ON b.area_id = o.area_id
  FULL JOIN (SELECT * FROM layer_areas WHERE layer_id = CAST(:layer AS bigint) AND layer_version = CAST(:theirs AS integer)) t
    ON t.area_id = coalesce(o.area_id, b.area_id)) a
JOIN areas r ON r.id = a.area_id
WHERE a.ours IS DISTINCT FROM a.base AND a.theirs IS DISTINCT FROM a.base AND a.ours IS DISTINCT FROM a.theirs
ORDER BY a.area_id

-- name: name_conflicts
-- Customers whom a draft and the versions published since named differently.
SELECT n.customer_id
FROM named_account_versions n
LEFT JOIN geocrm_named_accounts(CAST(:layer AS bigint), CAST(:base AS integer)) b ON b.customer_id = n.customer_id
LEFT JOIN geocrm_named_accounts(CAST(:layer AS bigint), CAST(:theirs AS integer)) t ON t.customer_id = n.customer_id
WHERE n.layer_id = CAST(:layer AS bigint) AND n.layer_version = CAST(:ours AS integer)
  AND b.area_id IS DISTINCT FROM t.area_id AND n.area_id IS DISTINCT FROM t.area_id
ORDER BY n.customer_id

-- name: carry_removals
-- Take into `ours` what `theirs` changed since `base`, where `ours` did not change it itself: first what goes.
DELETE FROM layer_areas o USING layer_areas b
WHERE o.layer_id = CAST(:layer AS bigint) AND o.layer_version = CAST(:ours AS integer)
  AND b.layer_id = o.layer_id AND b.layer_version = CAST(:base AS integer) AND b.area_id = o.area_id
  AND b.area_version = o.area_version
  AND NOT EXISTS (
    SELECT FROM layer_areas t
    WHERE t.layer_id = o.layer_id AND t.layer_version = CAST(:theirs AS integer) AND t.area_id = o.area_id)

-- name: carry_changes
-- Then what comes or changes.
INSERT INTO layer_areas (layer_id, layer_version, area_id, area_version)
SELECT t.layer_id, CAST(:ours AS integer), t.area_id, t.area_version
FROM layer_areas t
LEFT JOIN layer_areas b ON b.layer_id = t.layer_id AND b.layer_version = CAST(:base AS integer) AND b.area_id = t.area_id
LEFT JOIN layer_areas o ON o.layer_id = t.layer_id AND o.layer_version = CAST(:ours AS integer) AND o.area_id = t.area_id
WHERE t.layer_id = CAST(:layer AS bigint) AND t.layer_version = CAST(:theirs AS integer)
  AND t.area_version IS DISTINCT FROM b.area_version AND o.area_version IS NOT DISTINCT FROM b.area_version
ON CONFLICT (layer_id, layer_version, area_id) DO UPDATE SET area_version = excluded.area_version

-- name: copy_names
INSERT INTO named_account_versions (layer_id, layer_version, customer_id, area_id)
SELECT layer_id, CAST(:version AS integer), customer_id, area_id FROM named_account_versions
WHERE layer_id = CAST(:layer AS bigint) AND layer_version = CAST(:source AS integer)

-- name: names_as_in
-- The names of version `source`, as changes of what `version` is based on.
INSERT INTO named_account_versions (layer_id, layer_version, customer_id, area_id)
SELECT CAST(:layer AS bigint), CAST(:version AS integer), coalesce(w.customer_id, h.customer_id), w.area_id
FROM geocrm_named_accounts(CAST(:layer AS bigint), CAST(:source AS integer)) w
FULL JOIN geocrm_names_said(CAST(:layer AS bigint), CAST(:base AS integer)) h ON h.customer_id = w.customer_id
WHERE w.area_id IS DISTINCT FROM h.area_id

-- name: drop_names_said
-- Forget what a version says of names that the one it is based on says already.
DELETE FROM named_account_versions n
WHERE n.layer_id = CAST(:layer AS bigint) AND n.layer_version = CAST(:version AS integer)
  AND n.area_id IS NOT DISTINCT FROM (
    SELECT s.area_id FROM geocrm_names_said(CAST(:layer AS bigint), CAST(:base AS integer)) s
    WHERE s.customer_id = n.customer_id)

-- name: unname_area
-- The named accounts of an area that a draft takes out go with it.
INSERT INTO named_account_versions (layer_id, layer_version, customer_id, area_id)
SELECT CAST(:layer AS bigint), CAST(:version AS integer), s.customer_id, NULL
FROM geocrm_names_said(CAST(:layer AS bigint), CAST(:version AS integer)) s WHERE s.area_id = CAST(:area AS bigint)
ON CONFLICT (layer_id, layer_version, customer_id) DO UPDATE SET area_id = NULL

-- name: changed_areas
-- Areas that differ between two versions of a layer, with who owns them now and under the new version.
SELECT r.id AS area_id, r.name, r.owner_id, r.team_id, v.sets_owner, v.owner_id AS new_owner_id, v.team_id AS new_team_id
FROM (
  SELECT coalesce(n.area_id, o.area_id) AS area_id, n.area_version
  FROM (SELECT * FROM layer_areas WHERE layer_id = CAST(:layer AS bigint) AND layer_version = CAST(:version AS integer)) n
  FULL JOIN (SELECT * FROM layer_areas WHERE layer_id = CAST(:layer AS bigint) AND layer_version = CAST(:parent AS integer)) o
    ON o.area_id = n.area_id
  WHERE n.area_version IS DISTINCT FROM o.area_version) x
JOIN areas r ON r.id = x.area_id
LEFT JOIN area_versions v ON v.area_id = x.area_id AND v.version = x.area_version
ORDER BY r.id

-- name: foreign_since
-- Areas with a past that are not of these owners or teams, or were another's at some time since `begin`.
SELECT r.id, r.name FROM areas r
WHERE r.layer_id = CAST(:layer AS bigint) AND EXISTS (SELECT FROM area_periods d WHERE d.area_id = r.id)
  AND (NOT (coalesce(r.owner_id = ANY (CAST(:owners AS bigint[])), false)
            OR coalesce(r.team_id = ANY (CAST(:teams AS bigint[])), false))
    OR EXISTS (
      SELECT FROM area_owners o WHERE o.area_id = r.id AND coalesce(o.valid_to, 'infinity') > CAST(:begin AS timestamptz)
        AND (o.owner_id IS NOT NULL OR o.team_id IS NOT NULL)
        AND NOT (coalesce(o.owner_id = ANY (CAST(:owners AS bigint[])), false)
                 OR coalesce(o.team_id = ANY (CAST(:teams AS bigint[])), false))))

-- name: was_in_force
-- Versions in force at some time from `begin` to `now`, as known before what is recorded at `recorded`.
SELECT p.version, p.valid_from FROM layer_periods p
WHERE p.layer_id = CAST(:layer AS bigint) AND p.recorded_at < CAST(:recorded AS timestamptz)
  AND (p.superseded_at IS NULL OR p.superseded_at >= CAST(:recorded AS timestamptz))
  AND p.valid_from <= CAST(:now AS timestamptz) AND coalesce(p.valid_to, 'infinity') > CAST(:begin AS timestamptz)

-- name: owners_end
-- The owner that a version sets counts from its time on; what was recorded for later gives way.
WITH setting AS (
  SELECT v.area_id FROM layer_areas la JOIN area_versions v ON v.area_id = la.area_id AND v.version = la.area_version
  WHERE la.layer_id = CAST(:layer AS bigint) AND la.layer_version = CAST(:version AS integer) AND v.sets_owner
    AND NOT EXISTS (
      SELECT FROM layer_areas p WHERE p.layer_id = la.layer_id AND p.layer_version = CAST(:parent AS integer)
        AND p.area_id = la.area_id AND p.area_version = la.area_version)),
gone AS (
  DELETE FROM area_owners w USING setting s
  WHERE w.area_id = s.area_id AND w.valid_from >= CAST(:begin AS timestamptz))
UPDATE area_owners w SET valid_to = CAST(:begin AS timestamptz) FROM setting s
WHERE w.area_id = s.area_id AND w.valid_from < CAST(:begin AS timestamptz)
  AND (w.valid_to IS NULL OR w.valid_to > CAST(:begin AS timestamptz))

-- name: owners_begin
INSERT INTO area_owners (area_id, valid_from, owner_id, team_id, actor_id, reason)
SELECT v.area_id, CAST(:begin AS timestamptz), v.owner_id, v.team_id, CAST(:actor AS bigint), CAST(:reason AS text)
FROM layer_areas la JOIN area_versions v ON v.area_id = la.area_id AND v.version = la.area_version
WHERE la.layer_id = CAST(:layer AS bigint) AND la.layer_version = CAST(:version AS integer) AND v.sets_owner
  AND NOT EXISTS (
    SELECT FROM layer_areas p WHERE p.layer_id = la.layer_id AND p.layer_version = CAST(:parent AS integer)
      AND p.area_id = la.area_id AND p.area_version = la.area_version)

-- name: areas_follow
-- Name and owner of an area, as they are now.
UPDATE areas r SET name = x.name, owner_id = x.owner_id, team_id = x.team_id, version = r.version + 1
FROM (
  SELECT a.id, coalesce(v.name, a.name) AS name,
         CASE WHEN o.area_id IS NULL THEN a.owner_id ELSE o.owner_id END AS owner_id,
         CASE WHEN o.area_id IS NULL THEN a.team_id ELSE o.team_id END AS team_id
  FROM areas a
  LEFT JOIN area_periods d ON d.layer_id = a.layer_id AND d.area_id = a.id
    AND d.valid_from <= CAST(:now AS timestamptz) AND d.valid_to > CAST(:now AS timestamptz)
  LEFT JOIN area_versions v ON v.area_id = d.area_id AND v.version = d.area_version
  LEFT JOIN area_owners o ON o.area_id = a.id AND o.valid_from <= CAST(:now AS timestamptz)
    AND (o.valid_to IS NULL OR o.valid_to > CAST(:now AS timestamptz))
  WHERE a.layer_id = CAST(:layer AS bigint)) x
WHERE r.id = x.id AND (r.name, r.owner_id, r.team_id) IS DISTINCT FROM (x.name, x.owner_id, x.team_id)

-- name: versions_follow
-- Status of each version of a layer: in force now, ahead, or over.
UPDATE layer_versions v SET status = x.status
FROM (
  SELECT w.version, CASE
    WHEN EXISTS (SELECT FROM layer_periods p WHERE p.layer_id = w.layer_id AND p.version = w.version
      AND p.superseded_at IS NULL AND p.valid_from <= CAST(:now AS timestamptz)
      AND coalesce(p.valid_to, 'infinity') > CAST(:now AS timestamptz)) THEN 'published'
    WHEN EXISTS (SELECT FROM layer_periods p WHERE p.layer_id = w.layer_id AND p.version = w.version
      AND p.superseded_at IS NULL AND p.valid_from > CAST(:now AS timestamptz)) THEN 'scheduled'
    ELSE 'retired' END AS status
  FROM layer_versions w WHERE w.layer_id = CAST(:layer AS bigint) AND w.status IN ('published', 'scheduled')) x
WHERE v.layer_id = CAST(:layer AS bigint) AND v.version = x.version AND v.status <> x.status

-- name: current_follows
UPDATE layers y SET current_version = x.version
FROM (
  SELECT (SELECT p.version FROM layer_periods p WHERE p.layer_id = CAST(:layer AS bigint) AND p.superseded_at IS NULL
    AND p.valid_from <= CAST(:now AS timestamptz) AND coalesce(p.valid_to, 'infinity') > CAST(:now AS timestamptz))) x (version)
WHERE y.id = CAST(:layer AS bigint) AND y.current_version IS DISTINCT FROM x.version

-- name: due
-- Layers where another version is in force than the one that is current, with the time since which the current one is.
SELECT y.id, c.effective_from AS since, coalesce(CAST(:now AS timestamptz), now()) AS now
FROM layers y
JOIN layer_periods p ON p.layer_id = y.id AND p.superseded_at IS NULL
  AND p.valid_from <= coalesce(CAST(:now AS timestamptz), now())
  AND coalesce(p.valid_to, 'infinity') > coalesce(CAST(:now AS timestamptz), now())
LEFT JOIN layer_versions c ON c.layer_id = y.id AND c.version = y.current_version
WHERE p.version IS DISTINCT FROM y.current_version
  AND (CAST(:layer AS bigint) IS NULL OR y.id = CAST(:layer AS bigint))
ORDER BY y.id FOR UPDATE OF y
