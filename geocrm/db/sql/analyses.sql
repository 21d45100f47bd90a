-- Analyses: figures of all customers that divide nobody. The worker's.

-- name: begin_run
-- An analysis is going on from now on; nothing where it was cancelled, or has ended.
UPDATE analyses SET status = 'running', started_at = now(), finished_at = NULL, error = NULL, progress = '{}'
WHERE id = %s AND status IN ('queued', 'running') RETURNING id

-- name: tell_run
-- How far an analysis is; nothing where it was cancelled.
UPDATE analyses SET progress = %s WHERE id = %s AND status = 'running' RETURNING id

-- name: fail_run
UPDATE analyses SET status = 'failed', error = %s, finished_at = now() WHERE id = %s AND status = 'running'

-- name: finish_run
-- The last step; nothing where it was cancelled meanwhile.
UPDATE analyses SET status = 'done', finished_at = clock_timestamp(), code_version = :code_version,
  data_version = :data_version, result_version = :result_version, results = CAST(:results AS jsonb),
  progress = CAST(:progress AS jsonb)
WHERE id = CAST(:id AS bigint) AND status = 'running' RETURNING id

-- name: histories
-- How often customers who had bought before a day bought again before it, how long after the first time the last one
-- was, and how long the first time lies back, in days; purchases of a day (UTC) taken together, returns are none.
WITH bought AS (
  SELECT customer_id, CAST(timezone('UTC', occurred_at) AS date) AS day FROM sales
  WHERE NOT returned AND occurred_at < CAST(:upto AS timestamptz) GROUP BY 1, 2
), histories AS (
  SELECT customer_id, count(*) - 1 AS again, max(day) - min(day) AS recency, CAST(:upto_day AS date) - min(day) AS t
  FROM bought GROUP BY customer_id
)
SELECT again, recency, t, count(*) AS customers FROM histories GROUP BY 1, 2, 3 ORDER BY 1, 2, 3

-- name: repeats
-- Purchase days after the first one, until a moment, of customers who first bought before another one: how many by day,
-- and how many customers made them by week (day: null), weeks counted from the day of the fit on.
WITH bought AS (
  SELECT customer_id, CAST(timezone('UTC', occurred_at) AS date) AS day FROM sales
  WHERE NOT returned AND occurred_at < CAST(:until AS timestamptz) GROUP BY 1, 2
), began AS (
  SELECT customer_id, CAST(timezone('UTC', min(occurred_at)) AS date) AS first FROM sales
  WHERE NOT returned AND occurred_at < CAST(:upto AS timestamptz) GROUP BY 1
), again AS (
  SELECT b.customer_id, b.day, CAST(floor((b.day - CAST(:fit AS date)) / 7.0) AS integer) AS week
  FROM bought b JOIN began g ON g.customer_id = b.customer_id AND b.day > g.first
)
SELECT day, week, count(*) AS purchases, count(DISTINCT customer_id) AS customers
FROM again GROUP BY GROUPING SETS ((day), (week)) ORDER BY day, week

-- name: customers_of_periods
-- Who bought by month or week (UTC) before a moment.
SELECT CAST(date_trunc(CAST(:period AS text), occurred_at AT TIME ZONE 'UTC') AS date) AS key, count(DISTINCT customer_id) AS customers
FROM sales WHERE occurred_at < CAST(:cutoff AS timestamptz) GROUP BY 1

-- name: customers_of_segment
-- Who bought before a moment, by segment of a published run; null: in none.
SELECT m.segment_id AS key, count(*) AS customers
FROM (SELECT DISTINCT customer_id FROM sales WHERE occurred_at < CAST(:cutoff AS timestamptz)) b
LEFT JOIN segment_members m ON m.customer_id = b.customer_id
  AND m.run_id = (SELECT current_run_id FROM segmentations
                  WHERE key = CAST(:segmentation AS text) OR CAST(id AS text) = CAST(:segmentation AS text)
                  ORDER BY key = CAST(:segmentation AS text) DESC LIMIT 1)
GROUP BY 1

-- name: customers_of_owner
SELECT c.owner_id AS key, count(*) AS customers
FROM (SELECT DISTINCT customer_id FROM sales WHERE occurred_at < CAST(:cutoff AS timestamptz)) b
JOIN customers c ON c.id = b.customer_id GROUP BY 1

-- name: customers_of_stage
SELECT c.stage AS key, count(*) AS customers
FROM (SELECT DISTINCT customer_id FROM sales WHERE occurred_at < CAST(:cutoff AS timestamptz)) b
JOIN customers c ON c.id = b.customer_id GROUP BY 1

-- name: customers_of_nothing
SELECT CAST(NULL AS bigint) AS key, count(DISTINCT customer_id) AS customers
FROM sales WHERE occurred_at < CAST(:cutoff AS timestamptz)
