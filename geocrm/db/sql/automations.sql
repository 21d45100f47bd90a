-- name: due
-- Automations that have something to do: runs that wait, a schedule whose time has come, or one half done.
SELECT a.id FROM automations a
WHERE EXISTS (SELECT FROM automation_runs r WHERE r.automation_id = a.id AND r.status = 'waiting')
  OR (a.enabled AND (a.next_at <= CAST(:now AS timestamptz) OR a.round_for IS NOT NULL))
ORDER BY a.id

-- name: waiting
-- The first runs that wait: whose they are, and under which consents their events were made.
SELECT r.id, r.customer_id, r.purpose FROM automation_runs r
WHERE r.automation_id = CAST(:automation AS bigint) AND r.status = 'waiting'
ORDER BY r.id LIMIT CAST(:most AS bigint)

-- name: next_customers
-- The customers beyond one, by id.
SELECT c.id FROM customers c WHERE c.id > CAST(:after AS bigint) AND c.erased_at IS NULL
ORDER BY c.id LIMIT CAST(:most AS bigint)

-- name: hold_consents
-- Consents that stand, held until the transaction ends, so that what is made under them is made before they are
-- withdrawn, and deleted then.
SELECT count(*) FROM (
  SELECT FROM consents n
  WHERE n.customer_id = ANY (CAST(:customers AS bigint[])) AND n.purpose = ANY (CAST(:purposes AS text[]))
    AND n.withdrawn_at IS NULL
  ORDER BY n.customer_id, n.purpose, n.channel, n.granted_at FOR SHARE) AS held

-- name: candidates_waiting
-- Runs that wait, as they are now; one that is being deleted is not.
SELECT r.id AS run_id, r.customer_id, r.event_id, r.purpose, r.moment AS begins FROM automation_runs r
WHERE r.id = ANY (CAST(:runs AS bigint[])) AND r.status = 'waiting' FOR UPDATE SKIP LOCKED

-- name: candidates_round
-- Customers of a round of a schedule.
SELECT CAST(NULL AS bigint) AS run_id, u.id AS customer_id, CAST(NULL AS bigint) AS event_id, CAST(NULL AS text) AS purpose,
  CAST(:now AS timestamptz) AS begins
FROM unnest(CAST(:customers AS bigint[])) AS u(id)

-- name: candidates_all
-- Every customer.
SELECT CAST(NULL AS bigint) AS run_id, c.id AS customer_id, CAST(NULL AS bigint) AS event_id, CAST(NULL AS text) AS purpose,
  CAST(:now AS timestamptz) AS begins
FROM customers c WHERE c.erased_at IS NULL

-- name: candidates_past
-- Customers to whom it happened since a moment, as if it happened now.
SELECT DISTINCT ON (e.customer_id) CAST(NULL AS bigint) AS run_id, e.customer_id, CAST(NULL AS bigint) AS event_id, e.purpose,
  CAST(:now AS timestamptz) AS begins
FROM events e WHERE {happened} ORDER BY e.customer_id, e.id DESC

-- name: happened
-- Whether an event since a moment sets an automation off.
e.created_at >= CAST(:since AS timestamptz) AND e.type = CAST(:type AS text)
  AND (e.geofence_id = CAST(:fence AS bigint) OR (CAST(:fence AS bigint) IS NULL
    AND (SELECT g.tag FROM geofences g WHERE g.id = e.geofence_id) = CAST(:tag AS text)))

-- name: judge
-- What an automation does for its candidates: nothing, for the first reason that there is, or else what it is made of.
WITH candidates AS MATERIALIZED ({candidates}),
ending AS (
  SELECT w.*, least(w.begins + make_interval(secs => CAST(:hours AS float8) * 3600), CAST(:ends AS timestamptz)) AS expires_at
  FROM candidates w)
SELECT w.run_id, w.customer_id, w.event_id, w.purpose, w.expires_at, rep.id AS rep_id, CASE
  WHEN c.id IS NULL THEN 'no_customer'
  WHEN ({condition}) IS NOT TRUE THEN 'not_in_condition'
  WHEN CAST(:consent AS text) IS NOT NULL AND NOT EXISTS (
    SELECT FROM consents n WHERE n.customer_id = c.id AND n.purpose = CAST(:consent AS text) AND n.withdrawn_at IS NULL
      AND n.granted_at <= CAST(:now AS timestamptz)) THEN 'no_consent'
  WHEN CAST(:share AS float8) > 0 AND geocrm_fraction(CAST(:key AS text), 'cus_' || c.id) < CAST(:share AS float8)
    THEN 'held_out'
  WHEN CAST(:cap_days AS integer) IS NOT NULL AND EXISTS (
    SELECT FROM automation_runs d WHERE d.customer_id = c.id AND d.automation_id = CAST(:automation AS bigint)
      AND d.status = 'done'
      AND d.finished_at > CAST(:now AS timestamptz) - make_interval(days => CAST(:cap_days AS integer))) THEN 'capped'
  WHEN w.expires_at <= CAST(:now AS timestamptz) THEN 'too_late'
  WHEN EXISTS (
    SELECT FROM audience_members m WHERE m.customer_id = c.id AND m.audience_id = CAST(:audience AS bigint)
      AND m.entered_at IS NOT NULL AND (m.expires_at IS NULL OR m.expires_at >= w.expires_at)) THEN 'already_in'
  WHEN CAST(:task AS boolean) AND EXISTS (
    SELECT FROM tasks t WHERE t.customer_id = c.id AND t.automation_id = CAST(:automation AS bigint)
      AND t.done_at IS NULL) THEN 'task_open'
  WHEN CAST(:task AS boolean) AND rep.id IS NULL THEN 'no_rep' END AS reason
FROM ending w LEFT JOIN customers c ON c.id = w.customer_id AND c.erased_at IS NULL
LEFT JOIN LATERAL (
  SELECT coalesce(
    (SELECT u.id FROM sites s JOIN areas a ON a.id = s.territory_id JOIN users u ON u.id = a.owner_id AND u.active
     WHERE s.customer_id = c.id AND s.is_primary LIMIT 1),
    (SELECT u.id FROM users u WHERE u.id = c.owner_id AND u.active)) AS id) AS rep ON CAST(:task AS boolean)

-- name: enter
-- Puts customers into an audience; who is in it stays for the longer of the two.
INSERT INTO audience_members AS m (customer_id, audience_id, entered_at, expires_at, purposes, automation_id)
SELECT n.customer, CAST(:audience AS bigint), CAST(:now AS timestamptz), n.expires, string_to_array(n.purposes, chr(31)),
  CAST(:automation AS bigint)
FROM unnest(CAST(:customers AS bigint[]), CAST(:ends AS timestamptz[]), CAST(:purposes AS text[]))
  AS n(customer, expires, purposes)
ORDER BY n.customer
ON CONFLICT (customer_id, audience_id) DO UPDATE SET entered_at = excluded.entered_at,
  expires_at = CASE WHEN m.expires_at > excluded.expires_at THEN m.expires_at
    WHEN m.expires_at IS NOT NULL THEN excluded.expires_at END,
  purposes = ARRAY(SELECT DISTINCT p FROM unnest(m.purposes || excluded.purposes) AS p ORDER BY p),
  automation_id = excluded.automation_id

-- name: make_tasks
-- A task for each customer; their ids.
INSERT INTO tasks (customer_id, title, details, assignee_id, due_at, automation_id, purposes)
SELECT n.customer, CAST(:title AS text), CAST(:details AS text), n.rep,
  CAST(:now AS timestamptz) + make_interval(days => CAST(:due_days AS integer)), CAST(:automation AS bigint),
  string_to_array(n.purposes, chr(31))
FROM unnest(CAST(:customers AS bigint[]), CAST(:reps AS bigint[]), CAST(:purposes AS text[])) AS n(customer, rep, purposes)
RETURNING customer_id, id

-- name: finish
-- What came of runs that waited.
UPDATE automation_runs r SET status = n.status, reason = n.reason, task_id = n.task, expires_at = n.expires,
  finished_at = CAST(:now AS timestamptz)
FROM unnest(CAST(:runs AS bigint[]), CAST(:statuses AS text[]), CAST(:reasons AS text[]), CAST(:tasks AS bigint[]),
  CAST(:ends AS timestamptz[])) AS n(id, status, reason, task, expires)
WHERE r.id = n.id

-- name: finish_all
-- Runs that wait come to nothing, for one reason.
UPDATE automation_runs SET status = CAST(:status AS text), reason = CAST(:reason AS text), finished_at = CAST(:now AS timestamptz)
WHERE automation_id = CAST(:automation AS bigint) AND status = 'waiting'
  AND (CAST(:runs AS bigint[]) IS NULL OR id = ANY (CAST(:runs AS bigint[])))

-- name: log_done
-- What a round did.
INSERT INTO automation_runs (automation_id, automation_version, customer_id, moment, status, task_id, expires_at, finished_at)
SELECT CAST(:automation AS bigint), CAST(:version AS bigint), n.customer, CAST(:round AS timestamptz), 'done', n.task,
  n.expires, CAST(:now AS timestamptz)
FROM unnest(CAST(:customers AS bigint[]), CAST(:tasks AS bigint[]), CAST(:ends AS timestamptz[])) AS n(customer, task, expires)
ORDER BY n.customer

-- name: log_left
-- How many a round left aside, by reason, added to what it left before.
INSERT INTO automation_runs AS r (automation_id, automation_version, customers, moment, status, reason, finished_at)
SELECT CAST(:automation AS bigint), CAST(:version AS bigint), n.customers, CAST(:round AS timestamptz), n.status, n.reason,
  CAST(:now AS timestamptz)
FROM unnest(CAST(:counts AS bigint[]), CAST(:statuses AS text[]), CAST(:reasons AS text[])) AS n(customers, status, reason)
ON CONFLICT (automation_id, moment, reason) WHERE customer_id IS NULL
DO UPDATE SET customers = r.customers + excluded.customers, finished_at = excluded.finished_at

-- name: leave
-- Entries that are at their end; whose they were.
DELETE FROM audience_members WHERE ctid = ANY (ARRAY(
  SELECT m.ctid FROM audience_members m WHERE m.expires_at <= CAST(:now AS timestamptz) LIMIT CAST(:most AS bigint)))
RETURNING customer_id, audience_id

-- name: asked_elsewhere
-- Whether an audience that is worked out asks who is in one of these.
SELECT EXISTS (
  SELECT FROM audiences a CROSS JOIN unnest(CAST(:audiences AS bigint[])) AS n(id)
  WHERE a.name IS NULL AND a.refreshed_at IS NOT NULL AND a.filter::text LIKE '%"aud\_' || n.id || '"%')

-- name: expire
-- Deletes some runs that are too old, but not while a cap goes by them; how many.
WITH gone AS (
  DELETE FROM automation_runs WHERE id = ANY (ARRAY(
    SELECT r.id FROM automation_runs r JOIN automations a ON a.id = r.automation_id
    WHERE r.created_at < CAST(:before AS timestamptz) AND r.status <> 'waiting' AND r.reason IS DISTINCT FROM 'forgotten'
      AND (r.status <> 'done' OR a.cap_days IS NULL
        OR r.finished_at < CAST(:now AS timestamptz) - make_interval(days => a.cap_days))
    LIMIT CAST(:most AS bigint)))
  RETURNING 1)
SELECT count(*) FROM gone

-- name: runs
-- The log of an automation, as the reader may see it, newest first.
SELECT r.id, r.automation_version, r.customer_id, c.name AS customer_name, r.customers, r.event_id, r.moment, r.status,
  r.reason, r.task_id, r.expires_at, r.created_at, r.finished_at
FROM visible.automation_runs r LEFT JOIN customers c ON c.id = r.customer_id
WHERE r.automation_id = CAST(:automation AS bigint) AND r.reason IS DISTINCT FROM 'forgotten'
  AND (CAST(:status AS text) IS NULL OR r.status = CAST(:status AS text))
  AND (CAST(:before AS bigint) IS NULL OR r.id < CAST(:before AS bigint))
ORDER BY r.id DESC LIMIT CAST(:limit AS bigint)

-- name: latest
-- What came of the newest runs of automations, as the reader may see them, in customers.
SELECT a.id, newest.*, (
  SELECT COALESCE(sum(f.customers), 0) FROM visible.automation_runs f
  WHERE f.automation_id = a.id AND f.customer_id IS NULL AND f.reason = 'forgotten') AS forgotten
FROM unnest(CAST(:automations AS bigint[])) AS a (id) CROSS JOIN LATERAL (
  SELECT max(r.moment) AS last_at,
    COALESCE(sum(r.customers) FILTER (WHERE r.status = 'done'), 0) AS done,
    COALESCE(sum(r.customers) FILTER (WHERE r.status = 'skipped'), 0) AS skipped,
    COALESCE(sum(r.customers) FILTER (WHERE r.status = 'failed'), 0) AS failed,
    COALESCE(sum(r.customers) FILTER (WHERE r.status = 'waiting'), 0) AS waiting
  FROM (
    SELECT v.moment, v.status, v.customers FROM visible.automation_runs v
    WHERE v.automation_id = a.id AND v.reason IS DISTINCT FROM 'forgotten' ORDER BY v.id DESC LIMIT CAST(:most AS bigint)
  ) AS r
) AS newest

-- name: forget_runs
-- A customer's runs that events of a purpose set off. How many an automation lost so is all that stays of them: one row
-- of it, whose times are the automation's, so that it does not tell by the moment whose they were.
WITH gone AS (
  DELETE FROM automation_runs WHERE customer_id = CAST(:customer AS bigint) AND purpose = CAST(:purpose AS text)
  RETURNING automation_id, customers)
INSERT INTO automation_runs AS r
  (automation_id, automation_version, customers, moment, status, reason, finished_at, created_at)
SELECT a.id, 1, sum(g.customers), a.created_at, 'skipped', 'forgotten', a.created_at, a.created_at
FROM gone g JOIN automations a ON a.id = g.automation_id GROUP BY a.id
ON CONFLICT (automation_id, moment, reason) WHERE customer_id IS NULL
DO UPDATE SET customers = r.customers + excluded.customers

-- name: forget_entries
-- A customer's entries made under a consent.
DELETE FROM audience_members WHERE customer_id = CAST(:customer AS bigint) AND CAST(:purpose AS text) = ANY (purposes)

-- name: forget_tasks
-- A customer's tasks made under a consent.
DELETE FROM tasks WHERE customer_id = CAST(:customer AS bigint) AND CAST(:purpose AS text) = ANY (purposes)

-- name: audiences
-- Audiences that customers are entered into, by id; where it is asked for, with how many are in each whom the reader sees.
SELECT a.id, a.name, a.version, a.created_at,
  CASE WHEN CAST(:count AS boolean) THEN (SELECT count(*) FROM visible.audience_entries m WHERE m.audience_id = a.id) END
    AS members
FROM audiences a
WHERE a.name IS NOT NULL AND a.id > CAST(:after AS bigint) AND (CAST(:id AS bigint) IS NULL OR a.id = CAST(:id AS bigint))
ORDER BY a.id LIMIT CAST(:limit AS bigint)

-- name: entries
-- Who is in an audience, of the customers that the reader sees.
SELECT m.customer_id, c.name, m.entered_at, m.expires_at
FROM visible.audience_entries m JOIN customers c ON c.id = m.customer_id
WHERE m.audience_id = CAST(:audience AS bigint) AND m.customer_id > CAST(:after AS bigint)
ORDER BY m.customer_id LIMIT CAST(:limit AS bigint)

-- name: audience_is_named
-- What names an audience: automations, and offers that have not ended.
SELECT 'automation ' || a.name FROM automations a WHERE a.audience_id = CAST(:audience AS bigint)
UNION ALL
SELECT 'automation ' || a.name FROM automations a
WHERE a.condition::text LIKE '%"aud\_' || CAST(:audience AS text) || '"%'
UNION ALL
SELECT 'offer ' || o.name FROM offers o JOIN offer_versions v ON v.offer_id = o.id
WHERE o.ended_at IS NULL AND v.live_until IS NULL AND v.audience::text LIKE '%"aud\_' || CAST(:audience AS text) || '"%'
LIMIT 1

-- name: has_reps
-- Whether anybody is there to do a task.
SELECT EXISTS (
  SELECT FROM users u WHERE u.active AND (
    EXISTS (SELECT FROM areas a WHERE a.owner_id = u.id) OR EXISTS (SELECT FROM customers c WHERE c.owner_id = u.id)))

-- name: may_fill
-- Whether somebody is in an audience, or another automation puts customers there.
SELECT EXISTS (
    SELECT FROM audience_members m WHERE m.audience_id = CAST(:audience AS bigint) AND m.entered_at IS NOT NULL)
  OR EXISTS (
    SELECT FROM automations a WHERE a.audience_id = CAST(:audience AS bigint) AND a.id <> CAST(:automation AS bigint))
  OR EXISTS (
    SELECT FROM automations a JOIN offer_versions v ON v.offer_id = a.offer_id AND v.live_until IS NULL
    WHERE a.id <> CAST(:automation AS bigint) AND v.audience::text LIKE '%"aud\_' || CAST(:audience AS text) || '"%')
