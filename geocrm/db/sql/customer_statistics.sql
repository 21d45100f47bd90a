-- Statistics of customers' sales, packed into bytes. Generation 0 is of the last full run.

-- name: read
-- The blocks that hold customers from beyond one to another, older generations first.
SELECT generation, first_customer_id, customers, ids, last_days, sums FROM customer_statistics
WHERE cutoff_id = CAST(:cutoff_id AS bigint)
  AND first_customer_id <= CAST(:upto AS bigint) AND last_customer_id > CAST(:after AS bigint)
ORDER BY generation, first_customer_id

-- name: last_days
-- The last days with an order of the blocks that may hold customers from one to another.
SELECT first_customer_id, customers, ids, last_days FROM customer_statistics
WHERE cutoff_id = CAST(:cutoff_id AS bigint)
  AND first_customer_id <= CAST(:highest AS bigint) AND last_customer_id >= CAST(:lowest AS bigint)

-- name: count_added
SELECT coalesce(sum(customers), 0) FROM customer_statistics WHERE cutoff_id = CAST(:cutoff_id AS bigint) AND generation > 0

-- name: generations
-- Later generations and their customers, the newest first.
SELECT generation, sum(customers) AS customers FROM customer_statistics
WHERE cutoff_id = CAST(:cutoff_id AS bigint) AND generation > 0 GROUP BY generation ORDER BY generation DESC

-- name: take_generation
DELETE FROM customer_statistics WHERE cutoff_id = CAST(:cutoff_id AS bigint) AND generation = CAST(:generation AS integer)
RETURNING first_customer_id, customers, ids, last_days, sums

-- name: delete
DELETE FROM customer_statistics WHERE cutoff_id = CAST(:cutoff_id AS bigint)
