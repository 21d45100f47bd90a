"""Who sees which rows, decided by the database."""

import pytest
from argon2 import extract_parameters
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.db import migrate, models
from geocrm.db.engine import Database
from geocrm.errors import Forbidden, Invalid, Unauthenticated
from tests.makers import actor_of, make_customer, make_team, make_user


def visible_names(session: Session, actor: access.Actor) -> set[str]:
    with access.as_user(session, actor):
        return set(session.scalars(select(models.Customer.name)))


def test_a_rep_sees_own_a_manager_the_team_below_an_administrator_all(session: Session) -> None:
    north = make_team(session)
    fjord = make_team(session, parent_id=north.id)
    south = make_team(session)
    manager = make_user(session, "manager", team_id=north.id)
    rep = make_user(session, "rep", team_id=fjord.id)
    other = make_user(session, "rep", team_id=south.id)
    make_customer(session, name="rep's", owner_id=rep.id)
    make_customer(session, name="other's", owner_id=other.id)
    make_customer(session, name="nobody's")
    assert visible_names(session, actor_of(session, rep)) == {"rep's"}
    assert visible_names(session, actor_of(session, manager)) == {"rep's"}
    for role in ("administrator", "marketer", "analyst"):
        assert visible_names(session, actor_of(session, make_user(session, role))) == {"rep's", "other's", "nobody's"}


def test_a_territory_gives_sight_of_its_customers(session: Session) -> None:
    rep = make_user(session, "rep")
    layer = models.Layer(key="sales", name="Sales", kind="territories", is_primary=True)
    session.add(layer)
    session.flush()
    area = models.Area(layer_id=layer.id, name="Front Range", owner_id=rep.id)
    session.add(area)
    session.flush()
    make_customer(session, name="in it", territory_ids=[area.id])
    make_customer(session, name="outside")
    assert visible_names(session, actor_of(session, rep)) == {"in it"}


def test_without_a_context_nothing_is_seen(session: Session) -> None:
    make_customer(session)
    session.execute(text("SET LOCAL ROLE geocrm_api"))
    assert session.scalars(select(models.Customer.id)).all() == []


@pytest.mark.parametrize(
    "table",
    ["sales", "sale_lines", "contacts", "interactions", "assignments", "api_keys", "user_sessions", "audit_log"],
)
def test_the_reading_login_has_no_grant_on_facts_and_secrets(database: Database, table: str) -> None:
    with database.reading_engine.connect() as connection:
        granted = connection.scalar(text("SELECT has_table_privilege(:table, 'SELECT')"), {"table": table})
        attributes = connection.execute(
            text(
                "SELECT rolsuper, rolbypassrls, pg_has_role(current_user, 'geocrm_worker', 'member') "
                "FROM pg_roles WHERE rolname = current_user"
            )
        ).one()
    assert granted is False
    assert tuple(attributes) == (False, False, False)


def test_every_table_under_row_security_forces_it(database: Database) -> None:
    with database.reading_engine.connect() as connection:
        forced = connection.execute(
            text("SELECT relname, relforcerowsecurity FROM pg_class WHERE relrowsecurity AND relkind = 'r'")
        ).all()
    of_customers = ("customers", "site_lookup", "site_cells", "site_cell_deltas")
    of_what_tells_where = ("segmentations", "segmentation_runs", "segments")
    assert dict(forced) == dict.fromkeys((*of_customers, *of_what_tells_where), True)


def test_contacts_are_masked_by_role_and_consent(session: Session) -> None:
    rep = make_user(session, "rep")
    customer = make_customer(session, owner_id=rep.id)
    session.add(models.Contact(customer_id=customer.id, name="Ada", email="ada@example.com", phone="+1 303 555 0100"))
    session.flush()

    def seen(actor: access.Actor) -> tuple[str | None, bool]:
        with access.as_user(session, actor):
            return tuple(session.execute(text("SELECT email, email_masked FROM visible.contacts")).one())  # type: ignore[return-value]

    marketer = actor_of(session, make_user(session, "marketer"))
    assert seen(actor_of(session, rep)) == ("ada@example.com", False)
    assert seen(marketer) == (None, True)
    session.execute(
        text(
            "INSERT INTO consents (customer_id, purpose, channel, granted_at) VALUES (:id, 'marketing', 'email', now())"
        ),
        {"id": customer.id},
    )
    assert seen(marketer) == ("ada@example.com", False)


def test_a_key_is_limited_by_its_scopes_and_its_role(session: Session) -> None:
    user = make_user(session, "marketer")
    token, digest = access.new_token("gk_")
    session.add(
        models.ApiKey(
            user_id=user.id, name="app", prefix=token[:8], digest=digest, scopes=["customers:read", "imports"]
        )
    )
    session.flush()
    actor = access.authenticate(session, token)
    assert (actor.exact, actor.contacts, actor.sees_all) == (False, "masked", True)
    allowed = {name for name in access.PERMISSIONS if actor.may(name)}
    assert allowed == {
        *("automations:read", "customers:read", "geofences:read", "layers:read", "offers:read", "segmentations:read"),
        "imports:reference",
    }
    for permission, said in (
        ("users:manage", "The role marketer, for which this API key acts, may not do this: it is for administrators."),
        ("automations:publish", "No API key may do this: it is for people"),
        ("offers:redeem", "This API key lacks the scope offers:redeem: an administrator makes keys"),
    ):
        with pytest.raises(Forbidden, match=said):
            access.require(actor, permission)
    with pytest.raises(Unauthenticated):
        access.authenticate(session, token + "x")


def test_passwords() -> None:
    stored = access.hash_password("correct horse")
    assert access.verify_password("correct horse", stored)
    assert not access.verify_password("wrong horse", stored)
    assert not access.verify_password("anything at all", None)
    assert extract_parameters(access._NOBODY) == extract_parameters(stored), "no account takes as long as a wrong word"
    with pytest.raises(VerifyMismatchError):  # and is worked out, not refused as no hash at all
        access._HASHER.verify(access._NOBODY, "anything at all")
    with pytest.raises(Invalid):
        access.hash_password("short")


def test_the_schema_is_the_models(database: Database) -> None:
    from alembic import command
    from sqlalchemy import create_engine

    engine = create_engine(database.admin_url)
    with engine.connect() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.check(config)  # raises where models and migrations differ
        assert migrate.readiness(connection) == {
            "migrations": True,
            "functions": True,
            "row_security": "row security with spatial index",
        }
    engine.dispose()


def test_an_error_as_user_is_the_error_that_is_told(session: Session) -> None:
    actor = actor_of(session, make_user(session, "rep"))
    with pytest.raises(ProgrammingError, match="no_such_table"), access.as_user(session, actor):
        session.execute(text("SELECT * FROM no_such_table"))


def test_after_a_refusal_as_user_the_session_is_the_workers_again(session: Session) -> None:
    actor = actor_of(session, make_user(session, "rep"))
    with pytest.raises(Forbidden), access.as_user(session, actor):
        raise Forbidden
    assert session.scalar(text("SELECT current_user")) == "geocrm_worker"
