-- Sufficient statistics of customers' sales at a cutoff. Placeholders in braces are our own fragments.

-- name: survey
-- Which currencies and channels there are before the cutoff, and how many sales of each.
SELECT currency, channel, count(*) AS sales FROM sales WHERE occurred_at < CAST(:cutoff AS timestamptz) GROUP BY currency, channel

-- name: snapshot
-- What this transaction sees at this moment, and how far its own changes go.
SELECT CAST(pg_current_snapshot() AS text) AS snapshot, CAST(CAST(pg_current_xact_id() AS text) AS bigint) AS transaction,
       (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
       coalesce((SELECT max(id) FROM sale_changes
                 WHERE transaction = CAST(CAST(pg_current_xact_id() AS text) AS bigint)), 0) AS up_to

-- name: products
-- The newest product, and a digest of the categories of those up to a number.
SELECT coalesce(max(id), 0) AS newest,
       coalesce(md5(string_agg(concat(id, ' ', category), E'\n' ORDER BY id)
                    FILTER (WHERE id <= CAST(:newest AS bigint))), '') AS digest
FROM products

-- name: categories
-- The categories with most products.
SELECT category FROM products WHERE category IS NOT NULL GROUP BY category ORDER BY count(*) DESC, category
LIMIT CAST(:limit AS bigint)

-- name: bounds
-- Customers that split the sales into parts of about one size, from a sample of their pages.
SELECT percentile_disc(CAST(:shares AS double precision[])) WITHIN GROUP (ORDER BY customer_id)
FROM sales TABLESAMPLE SYSTEM (1) REPEATABLE (1)

-- name: sales
-- The sales that count, amounts in the cutoff's currency.
SELECT s.customer_id, s.id, s.occurred_at, s.channel, s.currency, s.returned, {amounts}
FROM {source} AS s {rates} WHERE s.occurred_at < CAST(:cutoff AS timestamptz) {and}

-- name: added_sales
-- Sales that were added, of customers none of whose other sales was changed.
(SELECT a.* FROM sales a WHERE a.batch_id = ANY (CAST(:batches AS bigint[]))
 UNION ALL
 SELECT a.* FROM sales a JOIN sales_told t ON t.customer_id = a.customer_id AND t.sale_id = a.id WHERE NOT t.doubtful)

-- name: collapse
-- One row for each customer of some sales. Sorted, not hashed: sums of numbers take too much memory for each customer in a
-- hash table, and the days have to come in order.
SELECT b.customer_id, g.orders, CAST(b.sales - g.orders AS integer) AS returns, CAST(b.orders_90 AS integer) AS orders_90,
       CAST(b.orders_365 AS integer) AS orders_365, CAST(b.returns_365 AS integer) AS returns_365,
       CAST(b.orders_year_before AS integer) AS orders_year_before,
       g.first_day, g.last_day, g.purchase_days, g.gap_squares,
       CAST(b.amount * 10000 AS bigint) AS amount_e4,
       CAST(coalesce(b.amount_90, 0) * 10000 AS bigint) AS amount_90_e4,
       CAST(coalesce(b.amount_365, 0) * 10000 AS bigint) AS amount_365_e4,
       CAST(coalesce(b.amount_year_before, 0) * 10000 AS bigint) AS amount_year_before_e4,
       CAST(coalesce(b.order_amount, 0) * 10000 AS bigint) AS order_amount_e4,
       CAST(g.first_day_amount * 10000 AS bigint) AS first_day_amount_e4,
       CAST(coalesce(b.discount, 0) * 10000 AS bigint) AS discount_e4,
       CAST(coalesce(b.margin, 0) * 10000 AS bigint) AS margin_e4,
       CAST(coalesce(b.margin_365, 0) * 10000 AS bigint) AS margin_365_e4,
       CAST(b.costed AS integer) AS costed, CAST(b.costed_365 AS integer) AS costed_365,
       coalesce(n.lined_orders, 0) AS lined_orders, coalesce(n.lines, 0) AS lines,
       b.channel_orders, coalesce(n.category_amounts_e4, {no_categories}) AS category_amounts_e4,
       b.strange + coalesce(n.strange, 0) AS strange
FROM (
  SELECT s.customer_id, count(*) AS sales,
         count(*) FILTER (WHERE NOT s.returned AND s.occurred_at >= CAST(:from_90 AS timestamptz)) AS orders_90,
         count(*) FILTER (WHERE NOT s.returned AND s.occurred_at >= CAST(:from_365 AS timestamptz)) AS orders_365,
         count(*) FILTER (WHERE s.returned AND s.occurred_at >= CAST(:from_365 AS timestamptz)) AS returns_365,
         count(*) FILTER (WHERE NOT s.returned AND s.occurred_at < CAST(:from_365 AS timestamptz)
                          AND s.occurred_at >= CAST(:from_730 AS timestamptz)) AS orders_year_before,
         array_agg(CAST(timezone('UTC', s.occurred_at) AS date)) FILTER (WHERE NOT s.returned) AS days,
         array_agg(s.amount) FILTER (WHERE NOT s.returned) AS amounts,
         sum(s.amount) AS amount,
         sum(s.amount) FILTER (WHERE s.occurred_at >= CAST(:from_90 AS timestamptz)) AS amount_90,
         sum(s.amount) FILTER (WHERE s.occurred_at >= CAST(:from_365 AS timestamptz)) AS amount_365,
         sum(s.amount) FILTER (WHERE s.occurred_at < CAST(:from_365 AS timestamptz)
                               AND s.occurred_at >= CAST(:from_730 AS timestamptz)) AS amount_year_before,
         sum(s.amount) FILTER (WHERE NOT s.returned) AS order_amount,
         sum(s.discount) FILTER (WHERE NOT s.returned) AS discount,
         sum(s.amount - s.cost) AS margin,
         sum(s.amount - s.cost) FILTER (WHERE s.occurred_at >= CAST(:from_365 AS timestamptz)) AS margin_365,
         count(s.cost) AS costed,
         count(s.cost) FILTER (WHERE s.occurred_at >= CAST(:from_365 AS timestamptz)) AS costed_365,
         {channels} AS channel_orders, {strange_sales} AS strange
  FROM (SELECT * FROM ({sales}) AS x ORDER BY customer_id, occurred_at) AS s
  GROUP BY s.customer_id
) AS b
CROSS JOIN LATERAL geocrm_rhythm(b.days, b.amounts) AS g
LEFT JOIN (
  SELECT s.customer_id, CAST(count(DISTINCT s.id) AS integer) AS lined_orders, CAST(count(*) AS integer) AS lines,
         {categories} AS category_amounts_e4, {strange_lines} AS strange
  FROM sale_lines l JOIN ({sales}) AS s ON s.customer_id = l.customer_id AND s.id = l.sale_id
  LEFT JOIN products p ON p.id = l.product_id
  WHERE NOT s.returned
  GROUP BY s.customer_id
) AS n ON n.customer_id = b.customer_id

-- name: told
-- What the log tells that was not read yet. Doubtful is what was committed while the sales were read last: it may have
-- been read or not.
CREATE TEMP TABLE sales_told ON COMMIT DROP AS
SELECT e.batch_id, e.customer_id, e.sale_id,
       e.transaction <> f.seen_by
         AND pg_visible_in_snapshot(CAST(CAST(e.transaction AS text) AS xid8), CAST(f.seen_after AS pg_snapshot)) AS doubtful
FROM sale_changes e JOIN feature_cutoffs f ON f.id = CAST(:cutoff_id AS bigint)
WHERE CASE WHEN e.transaction = f.seen_by THEN e.id > f.seen_up_to
      ELSE NOT pg_visible_in_snapshot(CAST(CAST(e.transaction AS text) AS xid8), CAST(f.seen_before AS pg_snapshot)) END

-- name: changed
-- Customers whose sales are read anew as a whole.
CREATE TEMP TABLE sales_changed ON COMMIT DROP AS
SELECT t.customer_id FROM sales_told t WHERE t.customer_id IS NOT NULL AND (t.sale_id IS NULL OR t.doubtful)
UNION
SELECT s.customer_id FROM sales_told t JOIN sales s ON s.batch_id = t.batch_id WHERE t.doubtful

-- name: late
-- Customers with an added sale before their last one: gaps between days cannot be put together then.
INSERT INTO sales_changed
SELECT n.customer_id FROM statistics_new n
LEFT JOIN customer_statistics b ON b.customer_id = n.customer_id AND b.cutoff_id = CAST(:cutoff_id AS bigint)
LEFT JOIN customer_statistics_added a ON a.customer_id = n.customer_id AND a.cutoff_id = CAST(:cutoff_id AS bigint)
WHERE n.first_day < greatest(b.last_day, a.last_day)

-- name: forget_late
DELETE FROM statistics_new n USING sales_changed c WHERE c.customer_id = n.customer_id

-- name: delete_changed
DELETE FROM {table} s USING sales_changed c
WHERE s.customer_id = c.customer_id AND s.cutoff_id = CAST(:cutoff_id AS bigint)

-- name: insert
INSERT INTO {table} (cutoff_id, {columns}) SELECT CAST(:cutoff_id AS bigint), {columns} FROM {made}

-- name: add
-- Put what is new to what was added before.
INSERT INTO customer_statistics_added AS a (cutoff_id, {columns})
SELECT CAST(:cutoff_id AS bigint), {columns} FROM statistics_new
ON CONFLICT (customer_id, cutoff_id) DO UPDATE SET {put_together}

-- name: totals
SELECT count(*) AS customers, coalesce(sum(orders + returns), 0) AS sales, max(last_day) AS last_day FROM {made}

-- name: finish
UPDATE feature_cutoffs SET last_day = greatest(last_day, CAST(:last_day AS date)), version = version + 1,
  seen_before = :seen_before, seen_after = :seen_after, seen_by = CAST(:seen_by AS bigint),
  seen_up_to = CAST(:seen_up_to AS bigint), refreshed_at = now()
WHERE id = CAST(:cutoff_id AS bigint)

-- name: prune
-- Forget what every cutoff has read.
DELETE FROM sale_changes e WHERE NOT EXISTS (
  SELECT FROM feature_cutoffs f
  WHERE CASE WHEN e.transaction = f.seen_by THEN e.id > f.seen_up_to
        ELSE NOT pg_visible_in_snapshot(CAST(CAST(e.transaction AS text) AS xid8), CAST(f.seen_before AS pg_snapshot)) END)
