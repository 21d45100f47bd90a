-- What goes together, counted without dense tables. Placeholders in braces are our own fragments; {schema} is `visible`,
-- where row security shows what the reader may see, or `public`.

-- name: products
SELECT id, name FROM products ORDER BY id

-- name: categories
SELECT DISTINCT category FROM products WHERE category IS NOT NULL ORDER BY 1

-- name: areas_of
SELECT id, name FROM areas WHERE id = ANY (CAST(:areas AS bigint[]))

-- name: item_product
l.product_id

-- name: item_category
(SELECT CAST(array_position(CAST(:categories AS text[]), p.category) AS bigint) FROM products p WHERE p.id = l.product_id)

-- name: bought
-- What customers bought in a window: returns, and lines that take something back, are no purchase. 0: not known what.
SELECT s.customer_id, {basket} AS basket, coalesce({item}, 0) AS item, max(s.occurred_at) AS last_at
FROM {schema}.sales s
JOIN {schema}.sale_lines l ON l.customer_id = s.customer_id AND l.sale_id = s.id
JOIN customers c ON c.id = s.customer_id AND c.erased_at IS NULL
WHERE NOT s.returned AND l.quantity > 0
  AND s.occurred_at >= CAST(:since AS timestamptz) AND s.occurred_at < CAST(:until AS timestamptz) {chunk}
GROUP BY 1, 2, 3

-- name: items_of
-- What one customer bought since a moment.
SELECT DISTINCT {item} AS item
FROM visible.sales s JOIN visible.sale_lines l ON l.customer_id = s.customer_id AND l.sale_id = s.id
WHERE s.customer_id = CAST(:customer_id AS bigint) AND NOT s.returned AND l.quantity > 0
  AND s.occurred_at >= CAST(:since AS timestamptz)

-- name: region_none
SELECT CAST(0 AS bigint) AS customer_id, CAST(0 AS bigint) AS region WHERE false

-- name: region_territory
SELECT t.customer_id, t.territory_id AS region FROM site_lookup t WHERE t.is_primary AND t.territory_id IS NOT NULL

-- name: region_layer
-- The area of a layer, as published now, at the primary site: of several the one of higher priority, then of lower id.
SELECT t.customer_id, i.area_id AS region
FROM site_lookup t CROSS JOIN LATERAL (SELECT {point} AS point) p CROSS JOIN LATERAL (
  SELECT v.area_id
  FROM area_versions v
  JOIN layer_areas la ON la.area_id = v.area_id AND la.area_version = v.version
  JOIN layers y ON y.id = la.layer_id AND y.current_version = la.layer_version
  WHERE y.id = CAST(:layer AS bigint) AND v.geometry && p.point AND ST_Intersects(v.geometry, p.point)
  ORDER BY v.priority DESC, v.area_id LIMIT 1) i
WHERE t.is_primary

-- name: count_pairs
-- Rows of a kind: 1 baskets and customers of a region, 2 baskets with an item by how many items they hold, 3 baskets with two items and the sum of
-- squares of these by customer, 4 what was left out (1 baskets too large, 2 items too rare, 3 baskets with lines of
-- something unknown). Region 0 is none.
WITH bought AS MATERIALIZED ({bought}),
sized AS MATERIALIZED (
  SELECT customer_id, basket, item, count(*) FILTER (WHERE item > 0) OVER (PARTITION BY customer_id, basket) AS items
  FROM bought
),
region_of AS MATERIALIZED ({region}),
kept AS MATERIALIZED (
  SELECT x.customer_id, x.basket, x.item, coalesce(r.region, 0) AS region
  FROM sized x LEFT JOIN region_of r ON r.customer_id = x.customer_id
  WHERE x.item > 0 AND x.items <= CAST(:most_items AS bigint)
),
margins AS MATERIALIZED (SELECT item, count(*) AS n FROM kept GROUP BY item),
frequent AS MATERIALIZED (
  SELECT item FROM margins WHERE n >= CAST(:fewest AS bigint) ORDER BY n DESC, item LIMIT CAST(:most_products AS bigint)
),
held AS MATERIALIZED (
  SELECT k.*, count(*) OVER (PARTITION BY k.customer_id, k.basket) AS size FROM kept k JOIN frequent f ON f.item = k.item
),
together AS (
  SELECT a.region, a.customer_id, a.item AS first, b.item AS second, count(*) AS n
  FROM held a JOIN held b ON b.customer_id = a.customer_id AND b.basket = a.basket AND b.item > a.item
  GROUP BY 1, 2, 3, 4
)
SELECT CAST(1 AS bigint) AS kind, region, CAST(0 AS bigint) AS first, CAST(0 AS bigint) AS second, count(*) AS n,
       count(DISTINCT customer_id) AS squares
FROM (SELECT DISTINCT region, customer_id, basket FROM kept) AS b GROUP BY region
UNION ALL SELECT 2, region, item, size, count(*), 0 FROM held GROUP BY region, item, size
UNION ALL SELECT 3, region, first, second, CAST(sum(n) AS bigint), CAST(sum(n * n) AS bigint) FROM together
  GROUP BY region, first, second
UNION ALL SELECT 4, 0, 1, 0, count(*), 0 FROM (
  SELECT DISTINCT customer_id, basket FROM sized WHERE items > CAST(:most_items AS bigint)) AS b
UNION ALL SELECT 4, 0, 2, 0, (SELECT count(*) FROM margins) - (SELECT count(*) FROM frequent), 0
UNION ALL SELECT 4, 0, 3, 0, count(*), 0 FROM bought WHERE item = 0

-- name: learn
-- Rows of a kind: 1 customers of a region, 2 weight of an item in a region and the sum of squares of weights, 3 products
-- of weights of two items, summed over customers, and how many have both. A purchase weighs half after each half-life.
WITH bought AS MATERIALIZED ({bought}),
sized AS MATERIALIZED (
  SELECT customer_id, item, {weight} AS weight, count(*) OVER (PARTITION BY customer_id) AS items
  FROM bought WHERE item > 0
),
region_of AS MATERIALIZED ({region}),
frequent AS MATERIALIZED (
  SELECT item FROM sized GROUP BY item HAVING count(*) >= CAST(:fewest AS bigint)
  ORDER BY count(*) DESC, item LIMIT CAST(:most_products AS bigint)
),
held AS MATERIALIZED (
  SELECT x.customer_id, x.item, x.weight, x.items, coalesce(r.region, 0) AS region
  FROM sized x JOIN frequent f ON f.item = x.item LEFT JOIN region_of r ON r.customer_id = x.customer_id
)
SELECT CAST(1 AS bigint) AS kind, region, CAST(0 AS bigint) AS first, CAST(0 AS bigint) AS second,
       count(DISTINCT customer_id) AS n, CAST(0 AS double precision) AS amount, CAST(0 AS double precision) AS squares
FROM held GROUP BY region
UNION ALL SELECT 2, region, item, 0, count(*) FILTER (WHERE items <= CAST(:most_items AS bigint)), sum(weight),
  coalesce(sum(weight * weight) FILTER (WHERE items <= CAST(:most_items AS bigint)), 0)
FROM held GROUP BY region, item
UNION ALL SELECT 3, 0, a.item, b.item, count(*), sum(a.weight * b.weight), 0
FROM held a JOIN held b ON b.customer_id = a.customer_id AND b.item > a.item
WHERE a.items <= CAST(:most_items AS bigint) GROUP BY a.item, b.item
ORDER BY 1, 2, 3, 4

-- name: weight_even
CAST(1 AS double precision)

-- name: weight_recent
power(0.5, extract(epoch FROM CAST(:until AS timestamptz) - last_at) / 86400 / CAST(:half_life AS double precision))

-- name: histories
-- What customers of a chunk bought, by customer and item.
WITH bought AS MATERIALIZED ({bought}), region_of AS MATERIALIZED ({region})
SELECT b.customer_id, coalesce(r.region, 0) AS region, b.item, CAST({weight} AS double precision) AS weight
FROM bought b LEFT JOIN region_of r ON r.customer_id = b.customer_id
WHERE b.item > 0 ORDER BY b.customer_id, b.item
