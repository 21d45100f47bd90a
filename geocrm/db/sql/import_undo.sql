-- Undo of an import: what it wrote, what was edited since, and back. {…} are names of our own tables and columns.

-- name: parts
-- Each object that the import wrote, once: what it was before (null: the import made it) and which customer it is of.
CREATE TEMP TABLE undo_parts ON COMMIT DROP AS
SELECT p.part, p.object_id, min(r.line_no) AS line_no, min(r.customer_id) AS customer_id,
       (array_agg(p.before ORDER BY r.line_no))[1] AS before
FROM import_rows r
CROSS JOIN LATERAL (
  SELECT e ->> 'part' AS part, CAST(e ->> 'id' AS bigint) AS object_id, NULLIF(e -> 'before', 'null') AS before
  FROM jsonb_array_elements(CASE WHEN jsonb_typeof(r.before) = 'array' THEN r.before ELSE '[]' END) AS e
) AS p
WHERE r.batch_id = CAST(:batch_id AS bigint) AND r.outcome <> 'rejected'
GROUP BY p.part, p.object_id

-- name: new_objects
-- Objects of lines that were new: customers by customer, everything else by object.
INSERT INTO undo_parts (part, object_id, line_no, customer_id, before)
SELECT CAST(:part AS text), {object}, min(r.line_no), min(r.customer_id), NULL FROM import_rows r
WHERE r.batch_id = CAST(:batch_id AS bigint) AND r.outcome = 'new' AND {object} IS NOT NULL
GROUP BY {object}

-- name: customers_made
-- Customers that a sales import had to create are customers that the import made.
UPDATE undo_parts SET part = 'customer', customer_id = object_id WHERE part = 'created_customer'

-- name: conflicts
CREATE TEMP TABLE undo_conflicts (part text, object_id bigint, line_no bigint, customer_id bigint, reason text) ON COMMIT DROP

-- name: customer_conflicts
INSERT INTO undo_conflicts (part, object_id, line_no, customer_id, reason)
SELECT p.part, p.object_id, p.line_no, p.object_id, w.reason
FROM undo_parts p JOIN customers c ON c.id = p.object_id AND c.erased_at IS NULL
CROSS JOIN LATERAL (
  SELECT CASE
    WHEN c.batch_id IS DISTINCT FROM CAST(:batch_id AS bigint) AND c.batch_id > CAST(:batch_id AS bigint)
      THEN 'changed by import imp_' || c.batch_id
    WHEN c.batch_id IS DISTINCT FROM CAST(:batch_id AS bigint)
         OR c.version <> COALESCE(CAST(p.before ->> 'version' AS bigint), 0) + 1 THEN 'edited since'
    WHEN p.before IS NULL AND EXISTS (
      SELECT FROM sales s WHERE s.customer_id = c.id AND s.batch_id IS DISTINCT FROM CAST(:batch_id AS bigint)) THEN 'has sales'
    WHEN p.before IS NULL AND EXISTS (
      SELECT FROM interactions i WHERE i.customer_id = c.id AND i.batch_id IS DISTINCT FROM CAST(:batch_id AS bigint))
      THEN 'has interactions'
    WHEN p.before IS NULL AND EXISTS (SELECT FROM consents k WHERE k.customer_id = c.id) THEN 'has consents'
    WHEN p.before IS NULL AND EXISTS (SELECT FROM tasks t WHERE t.customer_id = c.id AND t.done_at IS NOT NULL)
      THEN 'has tasks that were done'
    WHEN p.before IS NULL AND EXISTS (SELECT FROM redemptions r WHERE r.customer_id = c.id) THEN 'has redeemed offers'
    WHEN p.before IS NULL AND EXISTS (
      SELECT FROM contacts k WHERE k.customer_id = c.id AND k.batch_id IS DISTINCT FROM CAST(:batch_id AS bigint))
      THEN 'has contacts entered since'
    WHEN p.before IS NULL AND EXISTS (
      SELECT FROM customer_sources k WHERE k.customer_id = c.id AND k.source <> CAST(:source AS text))
      THEN 'is known to another source too'
    WHEN p.before IS NULL AND EXISTS (
      SELECT FROM customers below WHERE below.parent_id = c.id
      AND NOT EXISTS (SELECT FROM undo_parts q WHERE q.part = 'customer' AND q.object_id = below.id AND q.before IS NULL))
      THEN 'is the parent of other customers'
    WHEN p.before IS NULL AND EXISTS (SELECT FROM named_accounts n WHERE n.customer_id = c.id) THEN 'is a named account'
  END AS reason
) AS w
WHERE p.part = 'customer' AND w.reason IS NOT NULL

-- name: family_conflicts
-- A customer that stays keeps the parent that this import made.
INSERT INTO undo_conflicts (part, object_id, line_no, customer_id, reason)
SELECT p.part, p.object_id, p.line_no, p.object_id, 'is the parent of other customers'
FROM undo_parts p
WHERE p.part = 'customer' AND p.before IS NULL
  AND NOT EXISTS (SELECT FROM undo_conflicts f WHERE f.part = 'customer' AND f.object_id = p.object_id)
  AND EXISTS (SELECT FROM customers below JOIN undo_conflicts f ON f.part = 'customer' AND f.object_id = below.id
              WHERE below.parent_id = p.object_id)

-- name: spare_customers
-- What belongs to a customer in conflict stays too.
DELETE FROM undo_parts p USING undo_conflicts f WHERE f.part = 'customer' AND f.object_id IN (p.customer_id, CASE p.part WHEN 'customer' THEN p.object_id END)

-- name: spare
DELETE FROM undo_parts p USING undo_conflicts f WHERE f.part = p.part AND f.object_id = p.object_id

-- name: versioned_conflicts
-- Interactions and places that were edited since.
INSERT INTO undo_conflicts (part, object_id, line_no, customer_id, reason)
SELECT p.part, p.object_id, p.line_no, p.customer_id,
       CASE WHEN c.batch_id > CAST(:batch_id AS bigint) THEN 'changed by import imp_' || c.batch_id ELSE 'edited since' END
FROM undo_parts p JOIN {table} c ON c.id = p.object_id
WHERE p.part = CAST(:part AS text)
  AND (c.batch_id IS DISTINCT FROM CAST(:batch_id AS bigint) OR c.version <> COALESCE(CAST(p.before ->> 'version' AS bigint), 0) + 1)

-- name: place_conflicts
INSERT INTO undo_conflicts (part, object_id, line_no, customer_id, reason)
SELECT p.part, p.object_id, p.line_no, NULL, w.reason FROM undo_parts p
CROSS JOIN LATERAL (SELECT CASE
  WHEN p.object_id IN (SELECT s.place_id FROM sales s WHERE s.place_id IS NOT NULL) THEN 'has sales'
  WHEN p.object_id IN (SELECT a.place_id FROM offer_areas a WHERE a.place_id IS NOT NULL) THEN 'is named by an offer' END AS reason) AS w
WHERE p.part = 'place' AND p.before IS NULL AND w.reason IS NOT NULL
  AND NOT EXISTS (SELECT FROM undo_conflicts f WHERE f.part = 'place' AND f.object_id = p.object_id)

-- name: plain_conflicts
-- Sales and products that another import or a person wrote since.
INSERT INTO undo_conflicts (part, object_id, line_no, customer_id, reason)
SELECT p.part, p.object_id, p.line_no, p.customer_id,
       CASE WHEN c.batch_id > CAST(:batch_id AS bigint) THEN 'changed by import imp_' || c.batch_id ELSE 'edited since' END
FROM undo_parts p JOIN {table} c ON c.id = p.object_id
WHERE p.part = CAST(:part AS text) AND c.batch_id IS DISTINCT FROM CAST(:batch_id AS bigint)

-- name: product_conflicts
INSERT INTO undo_conflicts (part, object_id, line_no, customer_id, reason)
SELECT p.part, p.object_id, p.line_no, NULL, 'was sold' FROM undo_parts p
WHERE p.part = 'product' AND p.before IS NULL AND p.object_id IN (SELECT l.product_id FROM sale_lines l WHERE l.product_id IS NOT NULL)
  AND NOT EXISTS (SELECT FROM undo_conflicts f WHERE f.part = 'product' AND f.object_id = p.object_id)

-- name: changed
-- The customers whose territory and lookup rows must follow.
CREATE TEMP TABLE changed_customers ON COMMIT DROP AS
SELECT DISTINCT COALESCE(CASE part WHEN 'customer' THEN object_id END, customer_id) AS customer_id FROM undo_parts
WHERE part IN ('customer', 'site', 'contact') AND COALESCE(CASE part WHEN 'customer' THEN object_id END, customer_id) IS NOT NULL

-- name: forget_sites
DELETE FROM site_sources s USING undo_parts p
WHERE p.before IS NULL AND ((p.part = 'site' AND s.customer_id = p.customer_id AND s.site_id = p.object_id)
                            OR (p.part = 'customer' AND s.customer_id = p.object_id))

-- name: forget_customers
DELETE FROM customer_sources s USING undo_parts p WHERE p.part = 'customer' AND p.before IS NULL AND s.customer_id = p.object_id

-- name: forget_derived
-- What runs of segmentations, audiences, offers and automations made of customers whom the import made.
DELETE FROM {table} t USING undo_parts p WHERE p.part = 'customer' AND p.before IS NULL AND t.customer_id = p.object_id

-- name: delete_rows
DELETE FROM {table} t USING undo_parts p WHERE p.part = CAST(:part AS text) AND p.before IS NULL AND t.id = p.object_id {and_customer}

-- name: restore_rows
UPDATE {table} t SET ({columns}) = (SELECT {record} FROM jsonb_populate_record(NULL::{table}, p.before) AS r)
FROM undo_parts p WHERE p.part = CAST(:part AS text) AND p.before IS NOT NULL AND t.id = p.object_id {and_customer}

-- name: tell_changed
-- Customers whose sales go or come back: statistics of theirs are made anew.
INSERT INTO sale_changes (customer_id)
SELECT customer_id FROM undo_parts WHERE part = 'sale'
UNION
SELECT CAST(before -> 'sale' ->> 'customer_id' AS bigint) FROM undo_parts WHERE part = 'sale' AND before IS NOT NULL

-- name: delete_sales
DELETE FROM sales s USING undo_parts p WHERE p.part = 'sale' AND s.customer_id = p.customer_id AND s.id = p.object_id

-- name: restore_sales
INSERT INTO sales ({columns})
SELECT {record} FROM undo_parts p CROSS JOIN LATERAL jsonb_populate_record(NULL::sales, p.before -> 'sale') AS r
WHERE p.part = 'sale' AND p.before IS NOT NULL

-- name: restore_lines
INSERT INTO sale_lines ({columns})
SELECT {record} FROM undo_parts p CROSS JOIN LATERAL jsonb_populate_recordset(NULL::sale_lines, p.before -> 'lines') AS r
WHERE p.part = 'sale' AND p.before IS NOT NULL

-- name: forget_sales
DELETE FROM sale_sources s USING undo_parts p
WHERE p.part = 'sale' AND p.before IS NULL AND s.customer_id = p.customer_id AND s.sale_id = p.object_id

-- name: move_sales_back
UPDATE sale_sources s SET customer_id = CAST(p.before -> 'sale' ->> 'customer_id' AS bigint) FROM undo_parts p
WHERE p.part = 'sale' AND p.before IS NOT NULL AND s.customer_id = p.customer_id AND s.sale_id = p.object_id

-- name: delete_interactions
DELETE FROM interactions i USING undo_parts p WHERE p.part = 'interaction' AND i.customer_id = p.customer_id AND i.id = p.object_id

-- name: restore_interactions
INSERT INTO interactions ({columns})
SELECT {record} FROM undo_parts p CROSS JOIN LATERAL jsonb_populate_record(NULL::interactions, p.before) AS r
WHERE p.part = 'interaction' AND p.before IS NOT NULL

-- name: forget_interactions
DELETE FROM interaction_sources s USING undo_parts p
WHERE p.part = 'interaction' AND p.before IS NULL AND s.customer_id = p.customer_id AND s.interaction_id = p.object_id

-- name: move_interactions_back
UPDATE interaction_sources s SET customer_id = CAST(p.before ->> 'customer_id' AS bigint) FROM undo_parts p
WHERE p.part = 'interaction' AND p.before IS NOT NULL AND s.customer_id = p.customer_id AND s.interaction_id = p.object_id

-- name: delete_products
-- Products that the sales brought, unless something else was sold with them since.
WITH gone AS (
  DELETE FROM products t USING undo_parts p
  WHERE p.part = 'created_product' AND t.id = p.object_id AND t.batch_id = CAST(:batch_id AS bigint)
    AND NOT EXISTS (SELECT FROM sale_lines l WHERE l.product_id = t.id)
  RETURNING t.id
)
DELETE FROM product_sources s USING gone g WHERE s.product_id = g.id

-- name: forget_objects
DELETE FROM {sources} s USING undo_parts p WHERE p.part = CAST(:part AS text) AND p.before IS NULL AND s.{id} = p.object_id
