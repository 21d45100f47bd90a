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

-- name: packed_sales
-- Sales as columns of bytes: customer, negative where it was returned, and microseconds from 2000 on, eight bytes each, the
-- most significant first; channels with FF between them, FE for none; amount, cost and discount as text with a comma
-- between them, a cost that is not known as a number that no amount can have. And how many are of a currency that is not known.
SELECT CAST(1 AS integer) AS kind,
       string_agg(int8send(CASE WHEN s.returned THEN -s.customer_id ELSE s.customer_id END), '') AS customers,
       string_agg(timestamptz_send(s.occurred_at), '') AS moments,
       string_agg(coalesce(textsend(s.channel), CAST('\xfe' AS bytea)), CAST('\xff' AS bytea)) AS words,
       convert_to(string_agg(coalesce(CAST(s.amount AS text), '0'), ','), 'UTF8') AS amounts,
       convert_to(string_agg(coalesce(CAST(s.cost AS text), '-9000000000000000000'), ','), 'UTF8') AS costs,
       convert_to(string_agg(coalesce(CAST(s.discount AS text), '0'), ','), 'UTF8') AS discounts,
       count(*) FILTER (WHERE s.currency <> ALL (CAST(:currencies AS text[]))) AS strange
FROM ({sales}) AS s

-- name: packed_lines
-- The same of lines of orders: customer, sale, product (0: none), amount.
SELECT CAST(2 AS integer), string_agg(int8send(l.customer_id), ''), string_agg(int8send(l.sale_id), ''),
       string_agg(int8send(coalesce(l.product_id, 0)), ''),
       convert_to(string_agg(coalesce(CAST({line_amount} AS text), '0'), ','), 'UTF8'), CAST(NULL AS bytea),
       CAST(NULL AS bytea), CAST(0 AS bigint)
FROM sale_lines l JOIN ({sales}) AS s ON s.customer_id = l.customer_id AND s.id = l.sale_id
WHERE NOT s.returned {and_lines}

-- name: parts
-- What a packing query says of some parts of a table, one after the other: memory is that of one part.
SELECT p.* FROM (
  SELECT CAST(format('(%s,0)', page) AS tid) AS first,
         CAST(format('(%s,0)', CASE WHEN page + CAST(:size AS bigint) < CAST(:{table}_pages AS bigint)
                               THEN page + CAST(:size AS bigint) ELSE 4294967295 END) AS tid) AS next
  FROM generate_series(0, greatest(CAST(:{table}_pages AS bigint) - 1, 0), CAST(:size AS bigint)) AS page
) AS part CROSS JOIN LATERAL ({packed}) AS p

-- name: pages
-- How many pages two tables have.
SELECT pg_relation_size('sales') / size AS sales, pg_relation_size('sale_lines') / size AS lines
FROM (SELECT CAST(current_setting('block_size') AS bigint) AS size) AS s

-- name: first_currency
SELECT currency FROM sales WHERE occurred_at < CAST(:cutoff AS timestamptz) LIMIT 1

-- name: product_categories
SELECT id, category FROM products WHERE category IS NOT NULL ORDER BY id

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

-- name: add_changed
INSERT INTO sales_changed SELECT * FROM unnest(CAST(:ids AS bigint[])) AS id
WHERE NOT EXISTS (SELECT FROM sales_changed c WHERE c.customer_id = id)

-- name: changed_ids
SELECT customer_id FROM sales_changed ORDER BY customer_id

-- name: finish
UPDATE feature_cutoffs SET last_day = greatest(last_day, CAST(:last_day AS date)), version = version + CAST(:moved AS integer),
  seen_before = :seen_before, seen_after = :seen_after, seen_by = CAST(:seen_by AS bigint),
  seen_up_to = CAST(:seen_up_to AS bigint), refreshed_at = now()
WHERE id = CAST(:cutoff_id AS bigint)

-- name: prune
-- Forget what every cutoff has read.
DELETE FROM sale_changes e WHERE NOT EXISTS (
  SELECT FROM feature_cutoffs f
  WHERE CASE WHEN e.transaction = f.seen_by THEN e.id > f.seen_up_to
        ELSE NOT pg_visible_in_snapshot(CAST(CAST(e.transaction AS text) AS xid8), CAST(f.seen_before AS pg_snapshot)) END)
