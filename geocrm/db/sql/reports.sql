-- What reports read of all customers, for the worker; what few made is left out by whoever prints it.

-- name: customers
SELECT count(*) FROM customers WHERE erased_at IS NULL

-- name: extent
-- West, south, east and north of the members of a run whose place is known better than by a centroid.
SELECT min(ST_X(l.location)) AS west, min(ST_Y(l.location)) AS south, max(ST_X(l.location)) AS east,
       max(ST_Y(l.location)) AS north
FROM segment_members m JOIN site_lookup l ON l.customer_id = m.customer_id AND l.is_primary
WHERE m.run_id = CAST(:run_id AS bigint) AND l.location_precision NOT IN ('postcode', 'locality', 'region')
  AND abs(ST_Y(l.location)) <= 80

-- name: cells_of_segments
-- Members of a run by cell at a zoom and segment, the same customers.
SELECT geocrm_column(ST_X(l.location), CAST(:zoom AS integer)) AS x, geocrm_row(ST_Y(l.location), CAST(:zoom AS integer)) AS y,
       m.segment_id, count(*) AS customers
FROM segment_members m JOIN site_lookup l ON l.customer_id = m.customer_id AND l.is_primary
WHERE m.run_id = CAST(:run_id AS bigint) AND l.location_precision NOT IN ('postcode', 'locality', 'region')
  AND abs(ST_Y(l.location)) <= 80
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3

-- name: worth_by_segment
-- Members of a run by segment: how many have a worth in another run, and what it comes to.
SELECT m.segment_id, count(s.customer_id) AS customers, sum(CAST(s.numbers[CAST(:place AS integer)] AS double precision)) AS worth
FROM segment_members m LEFT JOIN scores s ON s.customer_id = m.customer_id AND s.run_id = CAST(:value_run AS bigint)
  AND s.numbers[CAST(:place AS integer)] <> 'NaN'
WHERE m.run_id = CAST(:run_id AS bigint) GROUP BY m.segment_id

-- name: worth_shares
-- The worth of a run's customers in equal parts of their number, the most valuable part first.
SELECT p.part, count(*) AS customers, sum(p.worth) AS worth
FROM (SELECT CAST(s.numbers[CAST(:place AS integer)] AS double precision) AS worth,
             ntile(CAST(:parts AS integer)) OVER (ORDER BY s.numbers[CAST(:place AS integer)] DESC) AS part
      FROM scores s WHERE s.run_id = CAST(:run_id AS bigint) AND s.numbers[CAST(:place AS integer)] <> 'NaN') p
GROUP BY p.part ORDER BY p.part
