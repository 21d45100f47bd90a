-- The same features by DuckDB, from a table of its own.
WITH orders AS (
  SELECT *, CAST(occurred_at AS date) AS day FROM sales WHERE NOT returned AND occurred_at < $cutoff
), days AS (
  SELECT customer_id, day, sum(amount) AS amount, lag(day) OVER w AS before, row_number() OVER w AS nth
  FROM orders GROUP BY customer_id, day WINDOW w AS (PARTITION BY customer_id ORDER BY day)
), rhythm AS (
  SELECT customer_id, count(*) - 1 AS repeats, min(day) AS first_day, max(day) AS last_day,
         sum((day - before) * (day - before)) AS squares, avg(amount) FILTER (WHERE nth > 1) AS repeat_value
  FROM days GROUP BY customer_id
), sums AS (
  SELECT customer_id, count(*) FILTER (WHERE NOT returned) AS frequency, sum(amount) AS monetary_value,
         count(*) FILTER (WHERE NOT returned AND occurred_at >= $from_90) AS orders_90,
         count(*) FILTER (WHERE NOT returned AND occurred_at >= $from_365) AS orders_365,
         coalesce(sum(amount) FILTER (WHERE occurred_at >= $from_90), 0) AS sales_90,
         coalesce(sum(amount) FILTER (WHERE occurred_at >= $from_365), 0) AS sales_365,
         coalesce(sum(amount) FILTER (WHERE occurred_at >= $from_730 AND occurred_at < $from_365), 0) AS sales_year_before,
         sum(amount) FILTER (WHERE NOT returned) AS bought, sum(discount) FILTER (WHERE NOT returned) AS discount,
         sum(amount - cost) AS margin,
         count(*) FILTER (WHERE NOT returned AND channel = 'shop') AS shop,
         count(*) FILTER (WHERE NOT returned AND channel = 'web') AS web,
         count(*) FILTER (WHERE NOT returned AND channel = 'phone') AS phone,
         count(*) FILTER (WHERE NOT returned AND channel = 'trade') AS trade
  FROM sales WHERE occurred_at < $cutoff GROUP BY customer_id
), made AS (
  SELECT s.customer_id, repeats AS repeat_frequency, (last_day - first_day) / 7 AS recency_weeks,
         ($end_day - first_day) / 7 AS t_weeks, repeat_value AS mean_repeat_value, $end_day - last_day AS recency_days,
         (last_day - first_day) / nullif(repeats, 0) AS gap_mean_days,
         CASE WHEN repeats > 1 THEN sqrt(greatest(squares / repeats / ((last_day - first_day) / repeats) ^ 2 - 1, 0)) END
           AS gap_variation,
         frequency, monetary_value, orders_90, orders_365, sales_90, sales_365, sales_year_before,
         CASE WHEN sales_year_before > 0 THEN sales_365 / sales_year_before - 1 END AS growth,
         bought / frequency AS basket_value, (bought - monetary_value) / bought AS returned_share,
         discount / (bought + discount) AS discount_share, margin, shop / frequency AS "channel_share.shop",
         web / frequency AS "channel_share.web", phone / frequency AS "channel_share.phone",
         trade / frequency AS "channel_share.trade"
  FROM sums s JOIN rhythm r USING (customer_id)
)
SELECT *, ntile(5) OVER (ORDER BY recency_days DESC) AS r, ntile(5) OVER (ORDER BY frequency) AS f,
       ntile(5) OVER (ORDER BY monetary_value) AS m
FROM made ORDER BY customer_id
