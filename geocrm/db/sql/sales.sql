-- name: find
-- The visible sales of a customer, newest first, after a key.
SELECT s.id, s.customer_id, s.occurred_at, s.site_id, s.place_id, p.name AS place_name, s.channel, s.currency, s.amount,
       s.cost, s.discount, s.returned, s.created_at
FROM visible.sales s LEFT JOIN places p ON p.id = s.place_id
WHERE s.customer_id = CAST(:customer_id AS bigint)
  AND (CAST(:after_at AS timestamptz) IS NULL
       OR (s.occurred_at, s.id) < (CAST(:after_at AS timestamptz), CAST(:after AS bigint)))
ORDER BY s.occurred_at DESC, s.id DESC LIMIT CAST(:limit AS bigint)

-- name: get
-- One visible sale of a customer.
SELECT s.id, s.customer_id, s.occurred_at, s.site_id, s.place_id, p.name AS place_name, s.channel, s.currency, s.amount,
       s.cost, s.discount, s.returned, s.created_at
FROM visible.sales s LEFT JOIN places p ON p.id = s.place_id
WHERE s.customer_id = CAST(:customer_id AS bigint) AND s.id = CAST(:sale_id AS bigint)

-- name: lines
-- The lines of one visible sale.
SELECT l.line_no, l.product_id, p.name AS product_name, l.quantity, l.unit_price, l.discount, l.amount, l.cost
FROM visible.sale_lines l LEFT JOIN products p ON p.id = l.product_id
WHERE l.customer_id = CAST(:customer_id AS bigint) AND l.sale_id = CAST(:sale_id AS bigint)
ORDER BY l.line_no

-- name: monthly
-- Sum and number of a customer's visible sales by month (UTC) and currency, months without sales too.
WITH per AS (
  SELECT date_trunc('month', s.occurred_at AT TIME ZONE 'UTC') AS month, s.currency, sum(s.amount) AS amount, count(*) AS n
  FROM visible.sales s
  WHERE s.customer_id = CAST(:customer_id AS bigint)
    AND s.occurred_at >= date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                         - make_interval(months => CAST(:months AS integer) - 1)
  GROUP BY 1, 2
), span AS (
  SELECT month FROM generate_series(
    (SELECT min(month) FROM per), date_trunc('month', now() AT TIME ZONE 'UTC'), interval '1 month') AS month
)
SELECT to_char(span.month, 'YYYY-MM') AS month, held.currency, coalesce(per.amount, 0)::numeric(18,4) AS amount,
       coalesce(per.n, 0) AS count
FROM span CROSS JOIN (SELECT DISTINCT currency FROM per) held
LEFT JOIN per ON per.month = span.month AND per.currency = held.currency
ORDER BY held.currency, span.month
