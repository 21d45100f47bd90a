"""Who may call which operation, written down anew from the contract and not from the code: a role missing or too much
in `geocrm.access` shows."""

from tests.api.conftest import ROLES

A, M, R, K, N = "administrator", "manager", "rep", "marketer", "analyst"
KEYS = ("key:reader", "key:everything", "key:nothing")  # all three act for the rep
OPEN = {None, *ROLES, *KEYS}
SIGNED_IN = {*ROLES, *KEYS}
READ = {*ROLES, "key:reader", "key:everything"}
EDIT = {A, M, R, "key:everything"}
STEER = {A, M}
PLACES = {A, K}
IMPORT = {A, M, K}
EXPORT = {A, M, R, K}
ADMIN = {A}
DIVIDE = {A, K, N}
SHOW_SEGMENTS = {A, K}
OFFER, REDEEM = {A, K, N}, {A, M, R, K, "key:everything"}
FENCES = {A, K}

MAY: dict[str, set[str | None]] = {
    "get_health": OPEN, "get_ready": OPEN, "sign_in": OPEN,
    **dict.fromkeys(["sign_out", "get_me", "list_jobs", "get_job"], SIGNED_IN),
    **dict.fromkeys([
        "list_customers", "count_customers", "get_customer", "get_customer_history", "list_customer_sales",
        "get_customer_monthly_sales", "get_customer_next_offers", "get_sale", "list_customer_interactions",
        "get_interaction", "list_places", "get_place", "list_products", "list_layers", "get_layer",
        "list_layer_versions", "list_areas", "get_area",
        "list_named_accounts", "find_territories_at_points", "get_territories_at", "get_customer_territories",
        "list_contradictions", "count_contradictions", "get_coverage", "list_colleagues",
        "list_teams", "list_waiting_sites", "count_waiting_sites", "find_customers_nearby", "get_customer_tilejson",
        "get_customer_tile", "get_area_tilejson", "get_area_tile", "list_segmentations", "get_segmentation",
        "list_segmentation_runs", "get_segmentation_run", "compare_segmentation_runs", "get_segment",
        "list_segment_members", "list_geofences", "get_geofence", "find_nearest_geofences", "replay_walk",
        "list_automations", "get_automation", "list_automation_runs", "list_audiences", "get_audience", "list_tasks",
        "get_task",
    ], READ),
    **dict.fromkeys(["put_geofence", "delete_geofence", "import_geofences"], FENCES),
    "send_positions": EDIT | {K},
    "list_events": READ - {"key:reader"},  # whose points are not exact
    "list_audience_members": READ - {"key:reader"},
    **dict.fromkeys(["finish_task", "reopen_task"], EDIT),
    **dict.fromkeys([
        "create_automation", "edit_automation", "delete_automation", "check_automation", "preview_automation",
        "create_audience", "edit_audience",
    ], OFFER),
    **dict.fromkeys(["enable_automation", "disable_automation", "delete_audience"], SHOW_SEGMENTS),
    **dict.fromkeys([
        "create_customer", "edit_customer", "add_site", "edit_site", "delete_site", "add_contact", "edit_contact",
        "delete_contact", "grant_consent", "withdraw_consent", "create_sale", "edit_interaction", "create_interaction",
        "place_site_by_hand", "place_site_again",
    ], EDIT),
    "report_territory_sales": READ - {"key:reader"},  # whose points are not exact
    **dict.fromkeys(["create_place", "edit_place", "delete_place"], PLACES),
    **dict.fromkeys([
        "create_layer", "create_draft", "discard_draft", "add_area", "edit_area", "delete_area",
        "change_named_accounts", "preview_draft", "publish_draft", "undo_layer", "move_customers",
        "resolve_contradictions", "hand_over", "set_area_owner",
    ], STEER),
    **dict.fromkeys([
        "create_segmentation", "edit_segmentation", "preview_segmentation", "run_segmentation",
        "cancel_segmentation_run", "rename_segment", "start_analysis", "list_analyses", "get_analysis",
        "cancel_analysis",
    ], DIVIDE),
    **dict.fromkeys(
        ["publish_segmentation_run", "revert_segmentation", "activate_segmentation"], SHOW_SEGMENTS
    ),
    **dict.fromkeys([
        "list_imports", "create_import", "get_import", "preview_import", "change_import_recipe", "run_import",
        "undo_import", "get_import_rejected", "follow_import",
    ], IMPORT),
    **dict.fromkeys(
        ["list_offers", "get_offer", "list_offer_versions", "list_redemptions", "get_redemption"], READ
    ),
    "find_eligible_offers": READ - {"key:reader"},
    **dict.fromkeys(["create_offer", "edit_offer", "discard_offer_draft", "check_offer", "get_offer_results"], OFFER),
    **dict.fromkeys(["set_offer_live", "end_offer"], SHOW_SEGMENTS),
    **dict.fromkeys(["redeem_offer", "reverse_redemption"], REDEEM),
    "export_customers": EXPORT,
    "export_totals": {A, M, K, N},
    **dict.fromkeys([
        "list_users", "create_user", "get_user", "edit_user", "create_team", "edit_team", "list_keys", "create_key",
        "revoke_key", "list_key_requests", "list_audit_log", "list_webhooks", "create_webhook", "get_webhook",
        "edit_webhook", "delete_webhook", "change_webhook_secret", "test_webhook", "list_webhook_deliveries",
        "get_webhook_delivery", "resend_webhook_delivery",
    ], ADMIN),
}  # fmt: skip
