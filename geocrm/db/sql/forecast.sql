-- Sales by period for forecasts. {schema} is `visible`, where row security shows what the reader may see, or `public`;
-- {key}, {name}, {groups} say what they are grouped by.

-- name: sales_by_group
-- Net sales before a moment by period (UTC), group and currency.
SELECT CAST(date_trunc(CAST(:period AS text), s.occurred_at AT TIME ZONE 'UTC') AS date) AS period, {key} AS key,
       min({name}) AS name, s.currency, sum(s.amount) AS amount, count(*) AS sales,
       count(DISTINCT s.customer_id) AS customers
FROM {schema}.sales s JOIN customers c ON c.id = s.customer_id
{groups}
WHERE s.occurred_at < CAST(:cutoff AS timestamptz)
GROUP BY 1, 2, s.currency ORDER BY 1, 2 NULLS LAST, s.currency

-- name: selling_days
-- The last days (UTC) before a moment on which anything was sold, the latest first.
SELECT CAST(s.occurred_at AT TIME ZONE 'UTC' AS date) AS day
FROM {schema}.sales s WHERE s.occurred_at < CAST(:cutoff AS timestamptz)
GROUP BY 1 ORDER BY 1 DESC LIMIT CAST(:limit AS integer)

-- name: first_day
-- The first day (UTC) on which anything was sold.
SELECT CAST(min(s.occurred_at) AT TIME ZONE 'UTC' AS date) FROM {schema}.sales s
WHERE s.occurred_at < CAST(:cutoff AS timestamptz)

-- name: published_run
-- The published run of a segmentation, by id or key.
SELECT g.name, r.id AS run_id, r.cutoff
FROM segmentations g LEFT JOIN segmentation_runs r ON r.id = g.current_run_id
WHERE g.key = CAST(:segmentation AS text) OR CAST(g.id AS text) = CAST(:segmentation AS text)
ORDER BY g.key = CAST(:segmentation AS text) DESC LIMIT 1
