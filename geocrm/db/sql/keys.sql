-- name: write_requests
-- Notes requests that keys made, each by the digest of its key; digests of no key are dropped.
INSERT INTO key_requests (key_id, at, method, route, status, took_ms, request_id)
SELECT k.id, r.at, r.method, r.route, r.status, r.took_ms, r.request_id
FROM unnest(
  CAST(:digests AS bytea[]), CAST(:ats AS timestamptz[]), CAST(:methods AS text[]), CAST(:routes AS text[]),
  CAST(:statuses AS smallint[]), CAST(:took_ms AS float8[]), CAST(:request_ids AS text[])
) WITH ORDINALITY AS r (digest, at, method, route, status, took_ms, request_id, place)
JOIN api_keys k ON k.digest = r.digest
ORDER BY r.place

-- name: trim_requests
-- Keeps the newest so many requests of these keys.
DELETE FROM key_requests r
USING (
  SELECT k.id AS key_id, (
    SELECT n.id FROM key_requests n WHERE n.key_id = k.id ORDER BY n.id DESC OFFSET CAST(:most AS bigint) LIMIT 1
  ) AS last
  FROM api_keys k WHERE k.digest = ANY (CAST(:digests AS bytea[]))
) old
WHERE r.key_id = old.key_id AND r.id <= old.last
