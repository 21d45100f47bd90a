-- Import of sales: import_stage holds one row per line of a sale. Placeholders in braces are our own column names.

-- name: orders
-- Each sale of the file once: the customer and, where known, the sale it means.
CREATE TEMP TABLE import_orders ON COMMIT DROP AS
SELECT o.external_id, o.first_line, o.customer, o.lines, o.customers, o.numbered, o.customer_id, o.old_customer_id,
       o.known_id IS NULL AS is_new, COALESCE(o.known_id, nextval(pg_get_serial_sequence('sales', 'id'))) AS sale_id
FROM (
SELECT g.external_id, g.first_line, g.customer, g.lines, g.customers, g.numbers = g.lines AS numbered,
       COALESCE(cs.customer_id, own.id) AS customer_id, known.sale_id AS known_id, known.customer_id AS old_customer_id
FROM (SELECT external_id, min(line_no) AS first_line, min(customer) AS customer, count(*) AS lines,
             count(DISTINCT customer) AS customers, count(DISTINCT sale_line) AS numbers
      FROM import_stage GROUP BY external_id) AS g
LEFT JOIN customer_sources cs ON cs.source = CAST(:source AS text) AND cs.external_id = g.customer
LEFT JOIN customers own ON own.id = CASE WHEN g.customer ~ '^cus_[1-9][0-9]{0,17}$' THEN CAST(substr(g.customer, 5) AS bigint) END
LEFT JOIN sale_sources known ON known.source = CAST(:source AS text) AND known.external_id = g.external_id
ORDER BY g.first_line) AS o

-- name: create_customers
-- Customers that only the sales know, as active organisations named by their id. Returns nothing.
-- Runs when every line that is turned away is gone, so that each is kept with a line that is stored.
WITH wanted AS (
  SELECT o.customer, min(o.first_line) AS line_no, nextval(pg_get_serial_sequence('customers', 'id')) AS id
  FROM import_orders o WHERE o.customer_id IS NULL AND o.customers = 1 GROUP BY o.customer
), made AS (
  INSERT INTO customers (id, kind, name, stage, owner_id, batch_id)
  SELECT id, 'organisation', customer, 'active', CAST(:owner_id AS bigint), CAST(:batch_id AS bigint) FROM wanted
), called AS (
  INSERT INTO customer_sources (source, external_id, customer_id) SELECT CAST(:source AS text), customer, id FROM wanted
), kept AS (
  INSERT INTO import_before (line_no, part, object_id, before) SELECT line_no, 'created_customer', id, NULL FROM wanted
)
UPDATE import_orders o SET customer_id = w.id FROM wanted w WHERE w.customer = o.customer AND o.customer_id IS NULL

-- name: unknown_customers
-- Where unknown customers are created: those alone that are named by an id of ours, which nobody can give away.
SELECT s.line_no, s.customer FROM import_stage s JOIN import_orders o USING (external_id)
WHERE o.customer_id IS NULL AND o.customers = 1
  AND (NOT CAST(:creating AS boolean) OR s.customer ~ '^cus_[1-9][0-9]{0,17}$')

-- name: two_customers
SELECT s.line_no FROM import_stage s JOIN import_orders o USING (external_id) WHERE o.customers > 1

-- name: two_headers
-- Sales whose lines state different currencies: their sum would mean nothing.
SELECT s.line_no FROM import_stage s
WHERE s.external_id IN (SELECT external_id FROM import_stage GROUP BY external_id HAVING count(DISTINCT currency) > 1)

-- name: foreign_customers
-- Lines of customers that the actor does not see, and (theirs: false) lines of sales that are such a customer's so far.
SELECT s.line_no, s.customer, bool_or(c.id = o.customer_id) AS theirs
FROM import_stage s JOIN import_orders o USING (external_id) JOIN customers c ON c.id IN (o.customer_id, o.old_customer_id)
WHERE o.customers = 1
  AND NOT (COALESCE(c.owner_id = ANY (CAST(:owners AS bigint[])), false) OR c.territory_ids && CAST(:territories AS bigint[]))
GROUP BY s.line_no, s.customer

-- name: products
-- Each product of the file once, by the source's id, else by SKU.
CREATE TEMP TABLE import_products ON COMMIT DROP AS
SELECT g.product, COALESCE(ps.product_id, sku.id) AS product_id
FROM (SELECT DISTINCT COALESCE(product, product_name) AS product FROM import_stage
      WHERE COALESCE(product, product_name) IS NOT NULL) AS g
LEFT JOIN product_sources ps ON ps.source = CAST(:source AS text) AND ps.external_id = g.product
LEFT JOIN LATERAL (SELECT p.id FROM products p WHERE p.sku = g.product ORDER BY p.id LIMIT 1) AS sku ON true

-- name: create_products
-- Products that only the sales know, from the first line of theirs that is stored. Runs after all lines are turned away.
WITH wanted AS (
  SELECT o.*, nextval(pg_get_serial_sequence('products', 'id')) AS id
  FROM (SELECT i.product, g.first_line, s.product_name, s.category, s.unit_price, s.unit_cost, s.currency
        FROM import_products i
        JOIN (SELECT COALESCE(product, product_name) AS product, min(line_no) AS first_line FROM import_stage GROUP BY 1) AS g
          ON g.product = i.product
        JOIN import_stage s ON s.line_no = g.first_line WHERE i.product_id IS NULL
        ORDER BY g.first_line) AS o
), made AS (
  INSERT INTO products (id, sku, name, category, unit_price, unit_cost, currency, batch_id)
  SELECT id, product, COALESCE(product_name, product), category, unit_price, unit_cost, currency, CAST(:batch_id AS bigint)
  FROM wanted
), called AS (
  INSERT INTO product_sources (source, external_id, product_id) SELECT CAST(:source AS text), product, id FROM wanted
), kept AS (
  INSERT INTO import_before (line_no, part, object_id, before) SELECT first_line, 'created_product', id, NULL FROM wanted
)
UPDATE import_products i SET product_id = w.id FROM wanted w WHERE w.product = i.product

-- name: unknown_products
SELECT s.line_no, COALESCE(s.product, s.product_name) AS product, s.external_id FROM import_stage s
JOIN import_products i ON i.product = COALESCE(s.product, s.product_name) WHERE i.product_id IS NULL

-- name: spoiled
-- The other lines of sales of which a line was turned away.
SELECT s.line_no, s.external_id FROM import_stage s WHERE s.external_id IN (SELECT external_id FROM import_spoiled)

-- name: unknown_places
UPDATE import_stage s SET flags = COALESCE(s.flags, '{}') || ARRAY['place_unknown']
WHERE s.place IS NOT NULL
  AND NOT EXISTS (SELECT FROM place_sources p WHERE p.source = CAST(:source AS text) AND p.external_id = s.place)

-- name: lines
-- The lines as they will be stored.
CREATE TEMP TABLE import_lines ON COMMIT DROP AS
SELECT o.customer_id, o.sale_id, o.external_id, s.line_no AS file_line,
       CAST(CASE WHEN o.numbered THEN s.sale_line ELSE row_number() OVER (PARTITION BY o.sale_id ORDER BY s.line_no) END AS integer)
         AS line_no,
       p.product_id, v.quantity,
       CAST(COALESCE(s.unit_price, (v.amount + v.discount) / NULLIF(v.quantity, 0), 0) AS numeric(18, 4)) AS unit_price,
       v.discount, v.amount,
       CAST(COALESCE(s.cost, s.unit_cost * v.quantity) AS numeric(18, 4)) AS cost
FROM import_stage s JOIN import_orders o USING (external_id)
LEFT JOIN import_products p ON p.product = COALESCE(s.product, s.product_name)
CROSS JOIN LATERAL (
  SELECT CAST(COALESCE(s.quantity, 1) AS numeric(14, 4)) AS quantity, CAST(COALESCE(s.discount, 0) AS numeric(18, 4)) AS discount,
         CAST(COALESCE(s.amount, COALESCE(s.quantity, 1) * s.unit_price - COALESCE(s.discount, 0)) AS numeric(18, 4)) AS amount
) AS v

-- name: heads
-- The sales as they will be stored. What the file does not give stays as it was.
CREATE TEMP TABLE import_heads ON COMMIT DROP AS
SELECT o.customer_id, o.sale_id AS id, o.external_id, o.first_line, o.is_new, o.old_customer_id, s.occurred_at,
       {site} AS site_id, {place} AS place_id, {channel} AS channel, s.currency, t.amount, t.cost, t.discount,
       {returned} AS returned, t.lines
FROM import_orders o JOIN import_stage s ON s.line_no = o.first_line
JOIN (SELECT sale_id, sum(amount) AS amount, sum(cost) AS cost, sum(discount) AS discount,
             jsonb_agg(jsonb_build_array(line_no, product_id, quantity, unit_price, discount, amount, cost) ORDER BY line_no) AS lines
      FROM import_lines GROUP BY sale_id) AS t ON t.sale_id = o.sale_id
LEFT JOIN sales old ON NOT o.is_new AND old.customer_id = o.old_customer_id AND old.id = o.sale_id
LEFT JOIN site_sources ss ON ss.source = CAST(:source AS text) AND ss.external_id = s.site AND ss.customer_id = o.customer_id
LEFT JOIN place_sources ps ON ps.source = CAST(:source AS text) AND ps.external_id = s.place

-- name: without_lines
-- Known sales of which the file gives a sum alone that is not the sum of their lines.
SELECT s.line_no, l.amount FROM import_stage s JOIN import_orders o USING (external_id)
JOIN (SELECT external_id, sum(amount) AS amount FROM import_stage GROUP BY external_id) AS t USING (external_id)
JOIN LATERAL (SELECT sum(sl.amount) AS amount FROM sale_lines sl
              WHERE sl.customer_id = o.old_customer_id AND sl.sale_id = o.sale_id) AS l ON l.amount <> t.amount
WHERE NOT o.is_new

-- name: changed_sales
-- Known sales that differ, with what they were.
CREATE TEMP TABLE import_changed ON COMMIT DROP AS
SELECT h.id, h.customer_id, h.old_customer_id, h.first_line,
       jsonb_build_object('sale', to_jsonb(old), 'lines', COALESCE(l.rows, '[]')) AS before
FROM import_heads h
JOIN sales old ON old.customer_id = h.old_customer_id AND old.id = h.id
LEFT JOIN LATERAL (
  SELECT jsonb_agg(to_jsonb(sl) ORDER BY sl.line_no) AS rows,
         jsonb_agg(jsonb_build_array(sl.line_no, sl.product_id, sl.quantity, sl.unit_price, sl.discount, sl.amount, sl.cost)
                   ORDER BY sl.line_no) AS lines
  FROM sale_lines sl WHERE sl.customer_id = old.customer_id AND sl.sale_id = old.id) AS l ON true
WHERE NOT h.is_new
  AND ((old.customer_id, old.occurred_at, old.site_id, old.place_id, old.channel, old.currency, old.amount, old.cost, old.discount,
        old.returned)
       IS DISTINCT FROM (h.customer_id, h.occurred_at, h.site_id, h.place_id, h.channel, h.currency, h.amount, h.cost, h.discount,
        h.returned)
       OR ({with_lines} AND COALESCE(l.lines, '[]') IS DISTINCT FROM h.lines))

-- name: keep_changed
INSERT INTO import_before (line_no, part, object_id, before) SELECT first_line, 'sale', id, before FROM import_changed

-- name: delete_changed
-- A changed sale is written anew under its own id, its lines with it.
DELETE FROM sales s USING import_changed c WHERE s.customer_id = c.old_customer_id AND s.id = c.id

-- name: insert_sales
INSERT INTO sales (customer_id, id, occurred_at, site_id, place_id, channel, currency, amount, cost, discount, returned, batch_id,
                   created_at)
SELECT h.customer_id, h.id, h.occurred_at, h.site_id, h.place_id, h.channel, h.currency, h.amount, h.cost, h.discount, h.returned,
       CAST(:batch_id AS bigint), COALESCE(CAST(c.before -> 'sale' ->> 'created_at' AS timestamptz), now())
FROM import_heads h LEFT JOIN import_changed c ON c.id = h.id
WHERE h.is_new OR c.id IS NOT NULL
ORDER BY h.first_line

-- name: insert_lines
INSERT INTO sale_lines (customer_id, sale_id, line_no, product_id, quantity, unit_price, discount, amount, cost)
SELECT l.customer_id, l.sale_id, l.line_no, l.product_id, l.quantity, l.unit_price, l.discount, l.amount, l.cost
FROM import_lines l JOIN import_heads h ON h.id = l.sale_id
WHERE h.is_new OR EXISTS (SELECT FROM import_changed c WHERE c.id = h.id)
ORDER BY l.file_line

-- name: keep_lines
-- Where the file gives no lines, those of a changed sale stay.
INSERT INTO sale_lines (customer_id, sale_id, line_no, product_id, quantity, unit_price, discount, amount, cost)
SELECT c.customer_id, r.sale_id, r.line_no, r.product_id, r.quantity, r.unit_price, r.discount, r.amount, r.cost
FROM import_changed c CROSS JOIN LATERAL jsonb_populate_recordset(NULL::sale_lines, c.before -> 'lines') AS r

-- name: insert_sources
INSERT INTO sale_sources (source, external_id, customer_id, sale_id)
SELECT CAST(:source AS text), external_id, customer_id, id FROM import_heads WHERE is_new

-- name: move_sources
UPDATE sale_sources ss SET customer_id = c.customer_id FROM import_changed c
WHERE c.customer_id <> c.old_customer_id AND ss.customer_id = c.old_customer_id AND ss.sale_id = c.id

-- name: tell_changed
-- Customers whose sales are not only more: statistics of theirs are made anew.
INSERT INTO sale_changes (customer_id)
SELECT customer_id FROM import_changed UNION SELECT old_customer_id FROM import_changed

-- name: rows
INSERT INTO import_rows (batch_id, line_no, outcome, customer_id, object_id, flags, before)
SELECT CAST(:batch_id AS bigint), s.line_no,
       CASE WHEN h.is_new THEN 'new' WHEN c.id IS NOT NULL THEN 'changed' ELSE 'unchanged' END,
       h.customer_id, h.id, s.flags, b.before
FROM import_stage s JOIN import_heads h USING (external_id)
LEFT JOIN import_changed c ON c.id = h.id
LEFT JOIN (SELECT line_no, jsonb_agg(jsonb_build_object('part', part, 'id', object_id, 'before', before) ORDER BY part, object_id)
           AS before FROM import_before GROUP BY line_no) AS b ON b.line_no = s.line_no
