-- Row security, the views of facts, and grants. Applied after migrations whenever this file changed; safe to repeat.

ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
ALTER TABLE customers FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS visible ON customers;
CREATE POLICY visible ON customers FOR SELECT TO geocrm_api, geocrm_views
USING (geocrm_sees_all() OR owner_id = ANY (geocrm_owners()) OR territory_ids && geocrm_territories());

ALTER TABLE site_lookup ENABLE ROW LEVEL SECURITY;
ALTER TABLE site_lookup FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS visible ON site_lookup;
CREATE POLICY visible ON site_lookup FOR SELECT TO geocrm_api, geocrm_views
USING (geocrm_sees_all() OR owner_id = ANY (geocrm_owners()) OR territory_id = ANY (geocrm_territories()));

ALTER TABLE site_cells ENABLE ROW LEVEL SECURITY;
ALTER TABLE site_cells FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS visible ON site_cells;
CREATE POLICY visible ON site_cells FOR SELECT TO geocrm_api, geocrm_views
USING (geocrm_sees_all() OR owner_id = ANY (geocrm_owners()) OR territory_id = ANY (geocrm_territories()));

ALTER TABLE site_cell_deltas ENABLE ROW LEVEL SECURITY;
ALTER TABLE site_cell_deltas FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS visible ON site_cell_deltas;
CREATE POLICY visible ON site_cell_deltas FOR SELECT TO geocrm_api, geocrm_views
USING (geocrm_sees_all() OR owner_id = ANY (geocrm_owners()) OR territory_id = ANY (geocrm_territories()));

-- Segmentations that tell where customers are, for readers of exact points. The owner, with whose rights the policies ask
-- that, sees all.
DO $$
DECLARE told record;
BEGIN
  FOR told IN SELECT * FROM (VALUES
    ('segmentations', 'geocrm_segmentation_tells_where(id)'),
    ('segmentation_runs',
     '(geocrm_segmentation_tells_where(segmentation_id) OR geocrm_run_tells_where(segmentation_id, parameters))'),
    ('segments', 'geocrm_segmentation_tells_where(segmentation_id)')) AS t(named, tells)
  LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', told.named);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', told.named);
    EXECUTE format('DROP POLICY IF EXISTS visible ON %I', told.named);
    EXECUTE format('CREATE POLICY visible ON %I FOR SELECT TO geocrm_api, geocrm_views USING (geocrm_exact() OR NOT %s)',
                   told.named, told.tells);
    EXECUTE format('DROP POLICY IF EXISTS owned ON %I', told.named);
    EXECUTE format('CREATE POLICY owned ON %I TO geocrm_owner USING (true)', told.named);
  END LOOP;
END
$$;

-- Facts are read through views that join the visible customers; their owner is itself under row security. What speaks of
-- one site is hidden where that site is: who sees a customer by one territory does not see its sites in another. The
-- subqueries go by the primary key of sites, and only for readers to whom neither of the first two branches applies.
DROP SCHEMA IF EXISTS visible CASCADE;
CREATE SCHEMA visible;
GRANT USAGE ON SCHEMA visible TO geocrm_views, geocrm_api, geocrm_worker;

CREATE VIEW visible.sites WITH (security_barrier = true) AS
SELECT s.customer_id, s.id,
       CASE WHEN geocrm_exact() THEN s.label END AS label,
       CASE WHEN geocrm_exact() THEN s.line1 END AS line1,
       CASE WHEN geocrm_exact() THEN s.line2 END AS line2,
       s.city, s.region,
       CASE WHEN geocrm_exact() THEN s.postal_code END AS postal_code,
       s.country,
       CASE WHEN geocrm_exact() THEN s.location ELSE geocrm_snap(s.location) END AS location,
       s.location_precision,
       CASE WHEN geocrm_exact() THEN s.precision_m ELSE greatest(s.precision_m, 500) END AS precision_m,
       s.location_source, s.placement, s.flags, s.is_primary,
       CASE WHEN geocrm_exact() THEN s.territory_id
            ELSE geocrm_snapped_territory(s.customer_id, s.id, CASE s.placement WHEN 'placed' THEN s.location END)
       END AS territory_id,
       s.placing_attempts, s.placing_error, s.created_at, s.updated_at
FROM public.sites s JOIN public.customers c ON c.id = s.customer_id
WHERE geocrm_sees_all() OR c.owner_id = ANY (geocrm_owners()) OR s.territory_id = ANY (geocrm_territories());

CREATE VIEW visible.contacts WITH (security_barrier = true) AS
SELECT k.customer_id, k.id, k.name, k.role, k.is_primary,
       CASE WHEN shown.email THEN k.email END AS email,
       CASE WHEN shown.phone THEN k.phone END AS phone,
       NOT shown.email AND k.email IS NOT NULL AS email_masked,
       NOT shown.phone AND k.phone IS NOT NULL AS phone_masked
FROM public.contacts k JOIN public.customers c ON c.id = k.customer_id,
LATERAL (SELECT
  mode.contacts = 'shown' OR (mode.contacts = 'consented' AND EXISTS (
    SELECT FROM public.consents n WHERE n.customer_id = k.customer_id AND n.purpose = 'marketing'
      AND n.channel = 'email' AND n.withdrawn_at IS NULL)) AS email,
  mode.contacts = 'shown' OR (mode.contacts = 'consented' AND EXISTS (
    SELECT FROM public.consents n WHERE n.customer_id = k.customer_id AND n.purpose = 'marketing'
      AND n.channel = 'phone' AND n.withdrawn_at IS NULL)) AS phone
  FROM (SELECT coalesce(current_setting('geocrm.contacts', true), '')) AS mode(contacts)) AS shown;

CREATE VIEW visible.consents WITH (security_barrier = true) AS
SELECT n.* FROM public.consents n JOIN public.customers c ON c.id = n.customer_id;

CREATE VIEW visible.sales WITH (security_barrier = true) AS
SELECT s.customer_id, s.id, s.occurred_at, CASE WHEN NOT seen.hidden THEN s.site_id END AS site_id, s.place_id, s.channel,
       s.currency, s.amount, s.cost, s.discount, s.returned, s.batch_id, s.created_at, seen.hidden AS site_hidden
FROM public.sales s JOIN public.customers c ON c.id = s.customer_id,
LATERAL (SELECT s.site_id IS NOT NULL AND (geocrm_sees_all() OR c.owner_id = ANY (geocrm_owners()) OR (
  SELECT t.territory_id = ANY (geocrm_territories()) FROM public.sites t
  WHERE t.customer_id = s.customer_id AND t.id = s.site_id)) IS NOT TRUE AS hidden) AS seen;

CREATE VIEW visible.sale_lines WITH (security_barrier = true) AS
SELECT l.* FROM public.sale_lines l JOIN public.customers c ON c.id = l.customer_id;

-- Who is in which segment, and scores, run by run.
CREATE VIEW visible.segment_members WITH (security_barrier = true) AS
SELECT m.* FROM public.segment_members m JOIN public.customers c ON c.id = m.customer_id
WHERE geocrm_exact() OR m.run_id IN (SELECT r.id FROM public.segmentation_runs r);

CREATE VIEW visible.scores WITH (security_barrier = true) AS
SELECT s.* FROM public.scores s JOIN public.customers c ON c.id = s.customer_id
WHERE geocrm_exact() OR s.run_id IN (SELECT r.id FROM public.segmentation_runs r);

CREATE VIEW visible.interactions WITH (security_barrier = true) AS
SELECT i.customer_id, i.id, i.kind, i.channel, i.direction, i.department, i.user_id, i.occurred_at, i.subject, i.body,
       i.outcome, i.score, CASE WHEN geocrm_exact() THEN i.location ELSE geocrm_snap(i.location) END AS location,
       i.campaign_id, i.follow_up_at, i.version, i.batch_id, i.created_at
FROM public.interactions i JOIN public.customers c ON c.id = i.customer_id;

-- Of sites that are no more, those who own the customer or the territory see the rows. Readers of snapped points do not
-- see what polygons say of the exact ones.
CREATE VIEW visible.assignments WITH (security_barrier = true) AS
SELECT a.* FROM public.assignments a JOIN public.customers c ON c.id = a.customer_id
WHERE (geocrm_sees_all() OR c.owner_id = ANY (geocrm_owners()) OR coalesce(
    (SELECT coalesce(t.territory_id = ANY (geocrm_territories()), false) FROM public.sites t
     WHERE t.customer_id = a.customer_id AND t.id = a.site_id),
    a.area_id = ANY (geocrm_territories())))
  AND (geocrm_exact() OR a.basis IN ('named', 'rule'));

-- Only numbers of sites; what the ledger says of them is hidden where they are.
CREATE VIEW visible.former_primary_sites WITH (security_barrier = true) AS
SELECT f.* FROM public.former_primary_sites f JOIN public.customers c ON c.id = f.customer_id;

CREATE VIEW visible.contradictions WITH (security_barrier = true) AS
SELECT x.* FROM public.contradictions x JOIN public.customers c ON c.id = x.customer_id
WHERE (geocrm_sees_all() OR c.owner_id = ANY (geocrm_owners()) OR (
    SELECT t.territory_id = ANY (geocrm_territories()) FROM public.sites t
    WHERE t.customer_id = x.customer_id AND t.id = x.site_id))
  AND geocrm_exact();

CREATE VIEW visible.named_accounts WITH (security_barrier = true) AS
SELECT n.* FROM public.named_accounts n JOIN public.customers c ON c.id = n.customer_id;

CREATE VIEW visible.customer_sources WITH (security_barrier = true) AS
SELECT x.* FROM public.customer_sources x JOIN public.customers c ON c.id = x.customer_id;

-- Jobs and imports of one's own, those of the reps and managers of one's team for a manager (what others in it started
-- may speak of everybody's customers), all for an administrator; for an API key those that it started itself.
CREATE VIEW visible.jobs WITH (security_barrier = true) AS
SELECT j.* FROM public.jobs j
WHERE CASE WHEN geocrm_key_id() IS NOT NULL THEN j.key_id = geocrm_key_id() ELSE
  j.user_id = geocrm_user_id()
  OR (j.user_id = ANY (geocrm_owners()) AND EXISTS (
    SELECT FROM public.users u WHERE u.id = j.user_id AND u.role IN ('manager', 'rep')))
  OR EXISTS (SELECT FROM public.users u WHERE u.id = geocrm_user_id() AND u.role = 'administrator') END;

CREATE VIEW visible.import_batches WITH (security_barrier = true) AS
SELECT b.id, b.kind, b.source, b.file_name, b.file_digest, b.recipe, b.options, b.status, b.user_id, b.team_id,
       b.processed, b.total, b.counts, b.error, b.created_at, b.started_at, b.finished_at
FROM public.import_batches b
WHERE CASE WHEN geocrm_key_id() IS NOT NULL THEN b.key_id = geocrm_key_id() ELSE
  b.user_id = geocrm_user_id()
  OR (b.user_id = ANY (geocrm_owners()) AND EXISTS (
    SELECT FROM public.users u WHERE u.id = b.user_id AND u.role IN ('manager', 'rep')))
  OR EXISTS (SELECT FROM public.users u WHERE u.id = geocrm_user_id() AND u.role = 'administrator') END;

-- Offers. Who had one whose audience asks where customers are was in it.
CREATE VIEW visible.audience_members WITH (security_barrier = true) AS
SELECT m.* FROM public.audience_members m JOIN public.customers c ON c.id = m.customer_id;

CREATE VIEW visible.exposures WITH (security_barrier = true) AS
SELECT e.* FROM public.exposures e JOIN public.customers c ON c.id = e.customer_id;

CREATE VIEW visible.redemptions WITH (security_barrier = true) AS
SELECT r.* FROM public.redemptions r JOIN public.customers c ON c.id = r.customer_id
WHERE geocrm_exact() OR NOT geocrm_offer_asks_where(r.offer_id);

-- Geofences. What happened to customers, for readers of exact points: of small fences it tells where somebody was. Positions
-- and presences have no view: nobody reads them through the API.
CREATE VIEW visible.events WITH (security_barrier = true) AS
SELECT e.* FROM public.events e JOIN public.customers c ON c.id = e.customer_id WHERE geocrm_exact();

-- Automations, audiences that customers are entered into, tasks. What tells where customers are or were is for readers of
-- exact points. How many a schedule left aside, for who sees all.
CREATE VIEW visible.automation_runs WITH (security_barrier = true) AS
SELECT r.* FROM public.automation_runs r LEFT JOIN public.customers c ON c.id = r.customer_id
WHERE (c.id IS NOT NULL OR (r.customer_id IS NULL AND geocrm_sees_all()))
  AND (geocrm_exact() OR NOT geocrm_automation_tells_where(r.automation_id));

CREATE VIEW visible.audience_entries WITH (security_barrier = true) AS
SELECT m.* FROM public.audience_members m JOIN public.customers c ON c.id = m.customer_id
WHERE m.entered_at IS NOT NULL AND (m.expires_at IS NULL OR m.expires_at > now()) AND geocrm_exact();

CREATE VIEW visible.tasks WITH (security_barrier = true) AS
SELECT t.* FROM public.tasks t JOIN public.customers c ON c.id = t.customer_id
WHERE geocrm_exact() OR t.automation_id IS NULL OR NOT geocrm_automation_tells_where(t.automation_id);

DO $$
DECLARE v record;
BEGIN
  FOR v IN SELECT viewname FROM pg_views WHERE schemaname = 'visible' LOOP
    EXECUTE format('ALTER VIEW visible.%I OWNER TO geocrm_views', v.viewname);
  END LOOP;
END
$$;

GRANT USAGE ON SCHEMA public TO geocrm_views, geocrm_api, geocrm_worker;
GRANT SELECT ON customers, sites, contacts, consents, sales, sale_lines, interactions, assignments, contradictions,
  named_accounts, customer_sources, former_primary_sites,
  segment_members, scores, segmentation_runs, jobs, import_batches TO geocrm_views;
GRANT SELECT ON audience_members, exposures, redemptions TO geocrm_views;
GRANT SELECT (id, role) ON users TO geocrm_views;
GRANT SELECT ON events, automation_runs, tasks TO geocrm_views;
GRANT SELECT ON geofences, geofence_revision, automations TO geocrm_api;
GRANT SELECT ON ALL TABLES IN SCHEMA visible TO geocrm_api, geocrm_worker;
GRANT SELECT ON customers, site_lookup, site_cells, site_cell_deltas, lookup_changes, lookup_counts TO geocrm_api;
GRANT SELECT ON roles, teams, products, places, layers, layer_versions, areas, area_versions, layer_areas, area_owners,
  layer_periods, area_periods, area_pieces, segmentations, segmentation_runs, segments, analyses TO geocrm_api;
GRANT SELECT (id, cutoff, currency, channels, categories, version, created_at, refreshed_at) ON feature_cutoffs TO geocrm_api;
GRANT SELECT (id, name, role, team_id, active) ON users TO geocrm_api;
GRANT SELECT ON offers, offer_versions, offer_areas, offer_openings, offer_counters, audiences TO geocrm_api;
GRANT EXECUTE ON FUNCTION geocrm_expose(bigint, timestamptz, bigint[], integer[], boolean[], text[], text[])
  TO geocrm_api;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO geocrm_worker;
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO geocrm_worker;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO geocrm_worker;
-- The ledger of actions is append-only, for the worker too.
REVOKE UPDATE, DELETE, TRUNCATE ON audit_log, audit_seals FROM geocrm_worker;
