-- name: claim
-- Takes deliveries that are due, to try them now, of each webhook that is not pausing, nor busy here: at most so many
-- (one, where the last try failed), and of each customer only the first that waits. What somebody else took is left to
-- them while they live (they hold a lock of their number), and the lease lasts. What comes first of a customer is asked
-- in the order of one index, not by NOT EXISTS: on stale statistics, all that waits was compared with all that waits.
WITH hooks AS (
  SELECT w.id, CASE WHEN w.failures > 0 THEN 1 ELSE CAST(:most AS bigint) END AS most
  FROM webhooks w
  WHERE w.enabled AND w.next_at <= clock_timestamp() AND w.id <> ALL (CAST(:busy AS bigint[]))),
due AS (
  SELECT d.id FROM hooks h CROSS JOIN LATERAL (
    SELECT q.id FROM webhook_deliveries q
    WHERE q.webhook_id = h.id AND q.status = 'queued' AND q.next_at <= clock_timestamp()
      AND (q.leased_until IS NULL OR q.leased_until < clock_timestamp() OR q.leased_by <> ALL (ARRAY(
        SELECT CAST(l.objid AS bigint) FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.classid = CAST(CAST(:kind AS bigint) AS oid) AND l.objsubid = 2 AND l.granted
          AND l.database = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database()))))
      AND (SELECT e.id FROM webhook_deliveries e WHERE e.webhook_id = q.webhook_id
        AND e.customer_id BETWEEN q.customer_id AND q.customer_id AND e.status = 'queued' AND e.id < q.id
        ORDER BY e.customer_id, e.id LIMIT 1) IS NULL
    ORDER BY q.next_at, q.id LIMIT h.most FOR UPDATE OF q SKIP LOCKED) AS d),
taken AS (
  UPDATE webhook_deliveries d SET attempts = d.attempts + 1, leased_by = CAST(:worker AS integer),
    leased_until = clock_timestamp() + make_interval(secs => CAST(:lease_s AS float8))
  FROM due WHERE d.id = due.id
  RETURNING d.id, d.webhook_id, d.customer_id, d.event_id, d.type, d.attempts, d.created_at)
SELECT t.id, t.webhook_id, t.event_id, t.type, t.attempts, t.created_at, e.occurred_at, e.data, w.url, w.failures, w.secret,
  CASE WHEN w.former_until > now() THEN w.former_secret END AS former_secret
FROM taken t JOIN webhooks w ON w.id = t.webhook_id
LEFT JOIN events e ON e.customer_id = t.customer_id AND e.id = t.event_id
ORDER BY t.webhook_id, t.id

-- name: hold
-- A webhook, held by who writes down what came of its deliveries; nothing where it was deleted.
SELECT id FROM webhooks WHERE id = CAST(:webhook AS bigint) FOR NO KEY UPDATE

-- name: give_back
-- What was taken and not tried after all; as below, only what nobody else took meanwhile.
UPDATE webhook_deliveries SET leased_until = NULL, attempts = attempts - 1
WHERE id = ANY (CAST(:ids AS bigint[])) AND leased_by = CAST(:worker AS integer)

-- name: log
-- One row for each try; of deliveries that were deleted meanwhile, none.
INSERT INTO webhook_attempts (delivery_id, number, took_ms, status, error)
SELECT d.id, d.attempts, r.took_ms, r.status, r.error
FROM unnest(CAST(:ids AS bigint[]), CAST(:took AS bigint[]), CAST(:statuses AS smallint[]), CAST(:errors AS text[]))
  AS r(id, took_ms, status, error)
JOIN webhook_deliveries d ON d.id = r.id FOR KEY SHARE OF d
ON CONFLICT (delivery_id, number) DO NOTHING

-- name: delivered
-- The receiver took them.
UPDATE webhook_deliveries SET status = 'delivered', finished_at = clock_timestamp(), leased_until = NULL
WHERE id = ANY (CAST(:ids AS bigint[])) AND leased_by = CAST(:worker AS integer)

-- name: not_delivered
-- They wait for another try, or are given up where they have waited for too long.
UPDATE webhook_deliveries d SET leased_until = NULL,
  next_at = clock_timestamp() + make_interval(secs => r.wait_s),
  status = CASE WHEN d.queued_at < now() - make_interval(secs => CAST(:keep_trying_s AS float8)) THEN 'failed'
    ELSE 'queued' END,
  finished_at = CASE WHEN d.queued_at < now() - make_interval(secs => CAST(:keep_trying_s AS float8))
    THEN clock_timestamp() END
FROM unnest(CAST(:ids AS bigint[]), CAST(:waits AS float8[])) AS r(id, wait_s)
WHERE d.id = r.id AND d.leased_by = CAST(:worker AS integer)

-- name: works
-- A webhook took something.
UPDATE webhooks SET failures = 0 WHERE id = CAST(:webhook AS bigint) AND failures > 0

-- name: pauses
-- A webhook took nothing, and pauses.
UPDATE webhooks SET failures = failures + 1,
  next_at = clock_timestamp() + make_interval(secs => CAST(:wait_s AS float8))
WHERE id = CAST(:webhook AS bigint)

-- name: is_gone
-- A webhook says that it is no more.
UPDATE webhooks SET enabled = false, disabled_because = 'the receiver answered 410: gone', version = version + 1,
  updated_at = now()
WHERE id = CAST(:webhook AS bigint)

-- name: find
-- Webhooks by id, with how much waits for them.
SELECT w.id, w.url, w.description, w.types, w.enabled, w.disabled_because, w.failures, w.next_at, w.version,
  w.created_at, w.updated_at,
  (SELECT count(*) FROM webhook_deliveries d WHERE d.webhook_id = w.id AND d.status = 'queued') AS waiting,
  (SELECT min(d.created_at) FROM webhook_deliveries d WHERE d.webhook_id = w.id AND d.status = 'queued') AS oldest
FROM webhooks w
WHERE w.id > CAST(:after AS bigint) AND (CAST(:id AS bigint) IS NULL OR w.id = CAST(:id AS bigint))
ORDER BY w.id LIMIT CAST(:limit AS bigint)

-- name: deliveries
-- Deliveries of a webhook, newest first, with the last try of each.
SELECT d.id, d.type, d.event_id, d.status, d.attempts, d.next_at, d.created_at, d.finished_at, a.at AS tried_at,
  a.took_ms, a.status AS answered, a.error
FROM webhook_deliveries d
LEFT JOIN LATERAL (SELECT * FROM webhook_attempts x WHERE x.delivery_id = d.id ORDER BY x.number DESC LIMIT 1) AS a ON true
WHERE d.webhook_id = CAST(:webhook AS bigint) AND (CAST(:status AS text) IS NULL OR d.status = CAST(:status AS text))
  AND (CAST(:before AS bigint) IS NULL OR d.id < CAST(:before AS bigint))
  AND (CAST(:id AS bigint) IS NULL OR d.id = CAST(:id AS bigint))
ORDER BY d.id DESC LIMIT CAST(:limit AS bigint)

-- name: attempts
-- The tries of a delivery.
SELECT a.number, a.at, a.took_ms, a.status, a.error
FROM webhook_attempts a WHERE a.delivery_id = CAST(:delivery AS bigint) ORDER BY a.number DESC LIMIT 100

-- name: resend
-- A delivery is due again, whatever came of it.
UPDATE webhook_deliveries SET status = 'queued', next_at = clock_timestamp(), finished_at = NULL, leased_until = NULL,
  leased_by = NULL, queued_at = now()
WHERE id = CAST(:id AS bigint) AND webhook_id = CAST(:webhook AS bigint) RETURNING id

-- name: wake
-- A webhook need not pause any longer.
UPDATE webhooks SET next_at = clock_timestamp() WHERE id = CAST(:webhook AS bigint)
