-- name: record
-- Writes events in the order given, with a delivery of each to every webhook that wants it, and a run of every automation
-- that it sets off; their ids in that order.
WITH hooks AS (
  SELECT w.id, w.types FROM webhooks w WHERE w.enabled FOR KEY SHARE),
made AS (
  INSERT INTO events (customer_id, type, purpose, geofence_id, occurred_at, data)
  SELECT e.customer, e.type, e.purpose, e.fence, e.moment, CAST(e.data AS jsonb)
  FROM unnest(CAST(:customers AS bigint[]), CAST(:types AS text[]), CAST(:purposes AS text[]), CAST(:fences AS bigint[]),
    CAST(:moments AS timestamptz[]), CAST(:data AS text[])) WITH ORDINALITY
    AS e(customer, type, purpose, fence, moment, data, n)
  ORDER BY e.n
  RETURNING customer_id, id, type, purpose, geofence_id, occurred_at),
set_off AS (
  INSERT INTO automation_runs (automation_id, automation_version, customer_id, event_id, purpose, moment)
  SELECT a.id, a.version, m.customer_id, m.id, m.purpose, m.occurred_at
  FROM automations a JOIN made m ON m.type = a.event_type AND (
    a.geofence_id = m.geofence_id
    OR (a.geofence_id IS NULL AND a.geofence_tag = (SELECT g.tag FROM geofences g WHERE g.id = m.geofence_id)))
  WHERE a.enabled
  ORDER BY m.id, a.id FOR KEY SHARE OF a),
queued AS (
  INSERT INTO webhook_deliveries (webhook_id, customer_id, event_id, type)
  SELECT h.id, m.customer_id, m.id, m.type
  FROM made m JOIN hooks h ON h.types = '{}' OR m.type = ANY (h.types)
  ORDER BY m.id, h.id)
SELECT id FROM made ORDER BY id

-- name: find
-- Events that the reader sees, newest first.
SELECT e.id, e.type, e.occurred_at, e.created_at, e.data
FROM visible.events e
WHERE (CAST(:customer AS bigint) IS NULL OR e.customer_id = CAST(:customer AS bigint))
  AND (CAST(:type AS text) IS NULL OR e.type = CAST(:type AS text))
  AND (CAST(:before AS bigint) IS NULL OR e.id < CAST(:before AS bigint))
ORDER BY e.id DESC LIMIT CAST(:limit AS bigint)
