"""The index serves nearby: for an administrator, for a manager, and for a rep who sees 0.2 % of the sites.

Plans are read from auto_explain, because the statements run inside SQL functions."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from geocrm import access
from geocrm.db.engine import Database
from geocrm.spatial import lookup
from tests.plans import touched

SITES = 60_000
OWNERS = 500
ADMIN = access.Actor(user_id=1, name="admin", role="administrator", sees_all=True)
REP = access.Actor(user_id=7, name="rep", role="rep", owners=(7,), territories=(7,))
MANAGER = access.Actor(
    user_id=2, name="manager", role="manager", owners=tuple(range(1, 26)), territories=tuple(range(1, 26))
)


@pytest.fixture(scope="module")
def plans(new_database: Callable[[], Database]) -> Iterator[Callable[..., list[str]]]:
    """`plans(actor, sql)`: the plans of everything that the SQL runs on site_lookup, as that actor."""
    database = new_database()
    with psycopg.connect(database.conninfo("admin")) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(
            "INSERT INTO customers (id, kind, name, stage, owner_id, territory_ids) OVERRIDING SYSTEM VALUE"
            " SELECT i, 'person', 'C' || i, CASE WHEN i %% 2000 = 0 THEN 'lead' ELSE 'active' END, 1 + i %% %s,"
            " ARRAY[1 + i %% %s] FROM generate_series(1, %s) i",
            (OWNERS, OWNERS, SITES),
        )
        connection.execute(
            "INSERT INTO sites (customer_id, id, location, location_precision, precision_m, location_source, placement,"
            " is_primary, territory_id) OVERRIDING SYSTEM VALUE SELECT i, i, ST_SetSRID(ST_MakePoint("
            " -120 + (i %% %s) / 10.0 + random(), 30 + 15 * random()), 4326), 'given', 25, 'file', 'placed', true,"
            " 1 + i %% %s FROM generate_series(1, %s) i",
            (OWNERS, OWNERS, SITES),
        )
    with database.writing() as session:
        assert lookup.rebuild(session) == SITES
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE customers, site_lookup, site_cells")
        connection.execute("LOAD 'auto_explain'")
        for setting in (
            "auto_explain.log_min_duration = 0", "auto_explain.log_nested_statements = on",
            "auto_explain.log_analyze = on", "auto_explain.log_timing = off", "client_min_messages = log", "jit = off",
        ):  # fmt: skip
            connection.execute(f"SET {setting}")  # type: ignore[arg-type]
        heard: list[str] = []
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))

        def run(actor: access.Actor, query: str, *values: object) -> list[str]:
            heard.clear()
            connection.execute("SET ROLE geocrm_api")
            with connection.transaction():
                connection.execute(
                    "SELECT geocrm_set_context(%s, %s, %s::bigint[], %s::bigint[], true, 'shown')",
                    (actor.user_id, actor.sees_all, list(actor.owners), list(actor.territories)),
                )
                rows = connection.execute(query, values).fetchall()  # type: ignore[arg-type]
            connection.execute("RESET ROLE")
            assert rows
            return [plan for plan in heard if "site_lookup" in plan]

        yield run


def near(*, stages: str = "NULL", owners: str = "NULL", radius: str = "NULL", lon: float = -100.0) -> str:
    """A question for the 20 nearest."""
    return (
        f"SELECT * FROM geocrm_near({lon}, 37.0, {radius}, 20, NULL, NULL, 0, {stages}, NULL,"
        f" CAST({owners} AS bigint[]), NULL, NULL)"
    )


@pytest.mark.parametrize(
    ("actor", "index", "most"),
    [(ADMIN, "ix_site_lookup_location", 200), (REP, "ix_site_lookup_owner_id_location", 400),
     (MANAGER, "ix_site_lookup_territory_id_location", 3000)],
)  # fmt: skip
def test_the_index_serves(plans: Callable[..., list[str]], actor: access.Actor, index: str, most: int) -> None:
    """No sequential scan, ordered by the index, and only a handful of rows touched, radius or not."""
    for question in (near(), near(radius="5000000"), near(stages="'{active}'"), near(lon=-119.5)):
        seen = plans(actor, question)
        assert seen
        assert all("Seq Scan on site_lookup" not in plan for plan in seen)
        assert any(f"using {index}" in plan and "Order By: (location <->" in plan for plan in seen)
        assert any("Index Cond:" in plan and "location &&" in plan for plan in seen)
        assert touched(seen, "site_lookup") <= most, "\n".join([question, *seen])


def test_an_owner_is_found_through_its_own_index(plans: Callable[..., list[str]]) -> None:
    """Filtered by owner, latency does not depend on how few they are: the multicolumn index has the condition."""
    seen = plans(ADMIN, near(owners="'{7, 499}'"))
    assert any("Index Cond: (owner_id = b.key)" in plan for plan in seen)
    assert touched(seen, "site_lookup") <= 200


def test_a_rare_stage_is_sorted(plans: Callable[..., list[str]]) -> None:
    """30 leads among 60,000: taken by stage and sorted, not searched for from the point outwards."""
    seen = plans(ADMIN, near(stages="'{lead}'"))
    assert any("ix_site_lookup_stage_kind" in plan for plan in seen)
    assert touched(seen, "site_lookup") <= 100


def test_an_adhoc_filter_starts_near(plans: Callable[..., list[str]]) -> None:
    """A filter without an index is tried on the nearest first."""
    question = (
        "SELECT * FROM geocrm_near_filtered(-100, 37, NULL, 20, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL,"
        " 'EXISTS (SELECT FROM customers c WHERE c.id = l.customer_id AND c.name LIKE ($9)[1])', '{%6}')"
    )
    for actor in (ADMIN, REP):
        seen = plans(actor, question.replace("%", "%%"))
        assert all("Seq Scan on site_lookup" not in plan for plan in seen)
        assert touched(seen, "site_lookup") <= 6000


def test_boxes_find_across_the_date_line(plans: Callable[..., list[str]]) -> None:
    """The filter language's near uses boxes, and boxes are served by the index under row security."""
    seen = plans(
        ADMIN,
        "SELECT count(*) FROM unnest(geocrm_boxes(-100, 37, 20000)) AS b(box)"
        " JOIN site_lookup l ON l.location && b.box",
    )
    assert any("ix_site_lookup_location" in plan and "&&" in plan for plan in seen)
