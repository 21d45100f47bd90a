"""The filter language: what is refused and where, sentences, and SQL against a plain evaluation by hand."""

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, errors, filters
from geocrm.db import models
from geocrm.settings import CHECKOUT
from geocrm.spatial import lookup
from tests.makers import make_customer, make_place, make_sale, make_site, make_user, multi, square

EXAMPLE = {
    "all": [
        {"field": "stage", "op": "in", "value": ["active", "lapsed"]},
        {
            "any": [
                {"field": "attributes.plan", "op": "=", "value": "gold"},
                {"field": "sales.amount", "op": ">=", "value": 500, "window_days": 365},
            ]
        },
        {"within": {"area": "ter_12"}},
        {"near": {"place_kind": "own", "radius_m": 2100}},
        {"not": {"consent": {"purpose": "marketing", "channel": "email"}}},
    ]
}


def test_the_sentence_of_the_example() -> None:
    """As the reference gives it."""
    names = {"ter_12": "Northwest"}
    assert filters.parse(EXAMPLE).sentence(lambda shown: names[shown]) == (
        "active or lapsed, on plan gold or with sales of at least 500 in the last year, inside Northwest, "
        "within 2.1 km of an own shop, without consent to marketing by e-mail"
    )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"all": []}, "everything"),
        ({"field": "stage", "op": "!=", "value": "lead"}, "not lead"),
        ({"field": "owner", "value": "usr_7"}, "owned by usr_7"),
        ({"field": "owner", "op": "exists", "value": False}, "without an owner"),
        ({"field": "country", "op": "in", "value": ["US", "CA"]}, "country US or CA"),
        ({"field": "name", "op": "contains", "value": "bike"}, "name containing “bike”"),
        ({"field": "sales.count", "op": "between", "value": [2, 5]}, "with number of sales between 2 and 5"),
        ({"field": "sales.last_at", "op": "<", "value": "2026-01-31"}, "with last sale before 2026-01-31"),
        ({"field": "attributes.fleet", "op": ">", "value": 10}, "fleet above 10"),
        ({"not": {"within": {"area": "are_3"}}}, "outside are_3"),
        ({"near": {"lon": 8.5, "lat": 47.4, "radius_m": 500}}, "within 500 m of 47.4, 8.5"),
        (
            {
                "any": [
                    {"all": [{"field": "stage", "value": "lead"}, {"field": "kind", "value": "person"}]},
                    EXAMPLE["all"][0],
                ]
            },
            "(lead, person) or active or lapsed",
        ),
    ],
)
def test_sentences(value: dict[str, Any], sentence: str) -> None:
    """Plain words for every kind of condition, and the canonical form is the same filter."""
    made = filters.parse(value)
    assert made.sentence() == sentence
    assert filters.parse(json.dumps(made.to_json())) == made


def nested(depth: int) -> dict[str, Any]:
    """A filter with `depth` levels."""
    made: dict[str, Any] = {"field": "stage", "value": "lead"}
    for _ in range(depth - 1):
        made = {"not": made}
    return made


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ([], "/filter"),
        ({}, "/filter"),
        ({"all": [], "any": []}, "/filter"),
        ({"all": {}}, "/filter/all"),
        ({"any": []}, "/filter/any"),
        ({"all": [{"field": "nope", "value": 1}]}, "/filter/all/0/field"),
        ({"field": "stage"}, "/filter"),
        ({"field": "stage", "value": "gone"}, "/filter/value"),
        ({"field": "stage", "op": "<", "value": "lead"}, "/filter/op"),
        ({"field": "stage", "op": "like", "value": "lead"}, "/filter/op"),
        ({"field": "stage", "op": "in", "value": "lead"}, "/filter/value"),
        ({"field": "stage", "op": "in", "value": []}, "/filter/value"),
        ({"field": "stage", "op": "in", "value": ["lead", 3]}, "/filter/value/1"),
        ({"field": "stage", "value": "lead", "values": []}, "/filter/values"),
        ({"field": "stage", "value": "lead", "window_days": 3}, "/filter/window_days"),
        ({"field": "owner", "value": "7"}, "/filter/value"),
        ({"field": "owner", "value": "usr_99999999999999999999"}, "/filter/value"),
        ({"field": "owner", "value": "ter_7"}, "/filter/value"),
        ({"field": "sales.amount", "op": ">", "value": "5"}, "/filter/value"),
        ({"field": "sales.amount", "op": ">", "value": float("nan")}, "/filter/value"),
        ({"field": "sales.amount", "op": ">", "value": float("inf")}, "/filter/value"),
        ({"field": "sales.amount", "op": ">", "value": True}, "/filter/value"),
        ({"field": "sales.amount", "op": ">", "value": 10**400}, "/filter/value"),
        ({"field": "sales.amount", "op": "between", "value": [5, 1]}, "/filter/value"),
        ({"field": "sales.amount", "op": ">", "value": 1, "window_days": 0}, "/filter/window_days"),
        ({"field": "sales.last_at", "op": ">", "value": "soon"}, "/filter/value"),
        ({"field": "name", "op": "contains", "value": ""}, "/filter/value"),
        ({"field": "name", "value": "a\x00b"}, "/filter/value"),
        ({"field": "name", "value": "\ud800"}, "/filter/value"),
        ({"field": "name", "value": "x" * 1001}, "/filter/value"),
        ({"field": "attributes.a\x00", "value": 1}, "/filter/field"),
        ({"field": "attributes.a", "value": {}}, "/filter/value"),
        ({"field": "attributes.a", "op": "in", "value": [1, "1"]}, "/filter/value"),
        ({"field": "attributes.a", "op": "<", "value": "1"}, "/filter/value"),
        ({"field": "name", "op": "in", "value": ["x"] * 1001}, "/filter/value"),
        ({"within": {"area": 3}}, "/filter/within/area"),
        ({"within": {"polygon": "ter_1"}}, "/filter/within/polygon"),
        ({"near": {"place_kind": "own"}}, "/filter/near"),
        ({"near": {"place_kind": "home", "radius_m": 5}}, "/filter/near/place_kind"),
        ({"near": {"place_kind": "own", "radius_m": 0}}, "/filter/near/radius_m"),
        ({"near": {"lon": 200, "lat": 0, "radius_m": 5}}, "/filter/near/lon"),
        ({"near": {"lon": 2, "radius_m": 5}}, "/filter/near"),
        ({"consent": {"channel": "email"}}, "/filter/consent"),
        (nested(9), "/filter" + "/not" * 8),
        ({"all": [{"field": "stage", "value": "lead"}] * 201}, "/filter/all"),
        ({"all": [{"any": [{"field": "stage", "value": "lead"}] * 101}] * 2}, "/filter/all/1/any/99"),
        ("{", "/filter"),
        ("[" * 100_000, "/filter"),
        ('{"field": "precision_m", "op": ">", "value": NaN}', "/filter"),
    ],
)
def test_what_is_refused(value: Any, pointer: str) -> None:
    """Refused, with the place of the fault."""
    with pytest.raises(errors.InvalidFilter) as refused:
        filters.parse(value)
    assert refused.value.errors[0]["pointer"] == pointer


def test_depth_and_length_allowed() -> None:
    """Eight levels and 200 conditions are fine."""
    filters.parse(nested(8))
    filters.parse({"all": [{"field": "stage", "value": "lead"}] * 200})


def test_what_the_reader_may_name() -> None:
    """Hidden fields cannot be filtered by; a rule names attributes only."""
    email = {"field": "contact.email", "op": "contains", "value": "@"}
    with pytest.raises(errors.InvalidFilter):
        filters.parse(email)
    assert filters.parse(email, reader=filters.Reader(contacts=True))
    code = {"field": "postal_code", "value": "80202"}
    with pytest.raises(errors.InvalidFilter):
        filters.parse(code, reader=filters.Reader(exact=False))
    assert filters.parse(code, use="rule")
    for value in (
        {"field": "stage", "value": "lead"},
        {"within": {"area": "ter_1"}},
        {"field": "sales.count", "value": 1},
    ):
        with pytest.raises(errors.InvalidFilter):
            filters.parse(value, use="rule")


def test_short_forms() -> None:
    """Query parameters are the same filter."""
    made = filters.from_query([("stage", "active,lapsed"), ("owner", "usr_7"), ("page", "3"), ("stage", "lead")])
    dims, rest = made.split()
    assert dims == filters.Indexed(stages=("active", "lapsed", "lead"), owners=(7,))
    assert not rest
    both = filters.from_query([("stage", "active"), ("filter", '{"field": "country", "value": "US"}')])
    assert both.fields() == {"stage", "country"}
    with pytest.raises(errors.InvalidFilter) as refused:
        filters.from_query([("owner", "7")])
    assert refused.value.errors[0]["pointer"] == "/owner"


def test_split_meets() -> None:
    """The same dimension twice: what both allow; what no index serves is left over."""
    dims, rest = filters.parse(
        {"all": [{"field": "stage", "op": "in", "value": ["lead", "active"]}, {"field": "stage", "value": "active"},
                 {"not": {"field": "kind", "value": "person"}}]}
    ).split()  # fmt: skip
    assert dims.stages == ("active",)
    assert rest.sentence() == "not person"


# SQL against an evaluation by hand.

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def company(session: Session) -> dict[str, Any]:
    """Twelve customers that differ in everything a filter can name, with 0, 1 or 2 sites."""
    owner = make_user(session)
    layer = models.Layer(key="t", name="T", kind="territories", current_version=1)
    session.add(layer)
    session.flush()
    area = models.Area(layer_id=layer.id, name="West")
    session.add_all([area, models.LayerVersion(layer_id=layer.id, version=1, status="published")])
    session.flush()
    session.add(models.AreaVersion(area_id=area.id, version=1, name="West", geometry=multi(square(8, 47))))
    session.flush()
    session.add(models.LayerArea(layer_id=layer.id, layer_version=1, area_id=area.id, area_version=1))
    make_place(session, 8.01, 47.0)
    people: list[dict[str, Any]] = []
    stages = ["prospect", "lead", "active", "lapsed"]
    for i in range(12):
        row: dict[str, Any] = {
            "stage": stages[i % 4],
            "kind": ["person", "organisation"][i % 2],
            "owner": owner.id if i % 3 == 0 else None,
            "industry": [None, "retail", "100% 50_50 \\ 'quoted'"][i % 3],
            "attributes": [{}, {"plan": "gold"}, {"plan": None}, {"plan": 7}, {"plan": True}, {"plan": ["gold", "x"]}][
                i % 6
            ],
            "sales": [[], [100], [300, 300]][i % 3],
            "consent": i % 4 == 1,
            "sites": [[], [(8.0, 47.0, "CH")], [(8.2, 47.1, "CH"), (-104.0, 40.0, "US")], [(8.01, 47.0, None)]][i % 4],
        }
        customer = make_customer(
            session, kind=row["kind"], stage=row["stage"], owner_id=row["owner"], industry=row["industry"],
            attributes=row["attributes"], name=f"Firm {i}",
        )  # fmt: skip
        session.execute(text("DELETE FROM sites WHERE customer_id = :i"), {"i": customer.id})
        for at, (lon, lat, country) in enumerate(row["sites"]):
            make_site(session, customer, lon, lat, country=country, is_primary=at == 0)
        row["visited"] = {3: 10, 5: 400}.get(i % 6)  # days ago
        row["complained"] = i % 5 == 2
        for kind, there, days in (
            ("visit", row["visited"], row["visited"]),
            ("complaint", row["complained"], 5),
            ("note", True, 1),
        ):
            if there:
                at = NOW - dt.timedelta(days=days)
                session.add(models.Interaction(customer_id=customer.id, kind=kind, occurred_at=at))
        for amount in row["sales"]:
            make_sale(session, customer, str(amount), occurred_at=NOW - dt.timedelta(days=400 if amount == 100 else 10))
        if row["consent"]:
            session.add(models.Consent(customer_id=customer.id, purpose="marketing", channel="email", granted_at=NOW))
        session.flush()
        people.append(row | {"id": customer.id})
    lookup.refresh(session, [row["id"] for row in people])
    return {"people": people, "owner": owner.id, "area": area.id}


def cases(company: dict[str, Any]) -> list[tuple[dict[str, Any], Callable[[dict[str, Any], Any], bool]]]:
    """Conditions, and what they mean for a customer at a site (None: at no site)."""
    in_west = lambda p, s: s is not None and 7.5 <= s[0] <= 8.5 and 46.5 <= s[1] <= 47.5  # noqa: E731
    return [
        ({"field": "stage", "value": "lead"}, lambda p, s: p["stage"] == "lead"),
        (
            {"field": "stage", "op": "not_in", "value": ["lead", "active"]},
            lambda p, s: p["stage"] not in ("lead", "active"),
        ),
        ({"field": "kind", "op": "!=", "value": "person"}, lambda p, s: p["kind"] != "person"),
        ({"field": "owner", "value": f"usr_{company['owner']}"}, lambda p, s: p["owner"] is not None),
        ({"field": "owner", "op": "!=", "value": f"usr_{company['owner']}"}, lambda p, s: p["owner"] is None),
        ({"field": "owner", "op": "exists", "value": False}, lambda p, s: p["owner"] is None),
        ({"field": "industry", "op": "contains", "value": "RET"}, lambda p, s: "ret" in (p["industry"] or "").lower()),
        ({"field": "industry", "op": "contains", "value": "0% 50_"}, lambda p, s: "0% 50_" in (p["industry"] or "")),
        ({"field": "industry", "op": "contains", "value": "\\ '"}, lambda p, s: "\\ '" in (p["industry"] or "")),
        ({"field": "industry", "op": "contains", "value": "5%5"}, lambda p, s: False),
        ({"field": "industry", "op": "!=", "value": "retail"}, lambda p, s: p["industry"] != "retail"),
        ({"field": "attributes.plan", "value": "gold"}, lambda p, s: p["attributes"].get("plan") == "gold"),
        (
            {"field": "attributes.plan", "op": ">", "value": 6.5},
            lambda p, s: p["attributes"].get("plan") == 7 and p["attributes"]["plan"] is not True,
        ),
        ({"field": "attributes.plan", "value": True}, lambda p, s: p["attributes"].get("plan") is True),
        (
            {"field": "attributes.plan", "op": "contains", "value": "gold"},
            lambda p, s: p["attributes"].get("plan") in ("gold", ["gold", "x"]),
        ),
        (
            {"field": "attributes.plan", "op": "exists", "value": True},
            lambda p, s: p["attributes"].get("plan") is not None,
        ),
        ({"field": "attributes.it's", "value": "x"}, lambda p, s: False),
        ({"field": "sales.amount", "op": ">=", "value": 100}, lambda p, s: sum(p["sales"]) >= 100),
        (
            {"field": "sales.amount", "op": "=", "value": 0, "window_days": 365},
            lambda p, s: sum(a for a in p["sales"] if a != 100) == 0,
        ),
        ({"field": "sales.count", "op": "between", "value": [1, 1]}, lambda p, s: len(p["sales"]) == 1),
        ({"field": "sales.count", "value": 1.5}, lambda p, s: False),
        (
            {"field": "sales.last_at", "op": "<", "value": (NOW - dt.timedelta(days=100)).isoformat()},
            lambda p, s: p["sales"] == [100],
        ),
        ({"field": "sales.average", "op": "exists", "value": False}, lambda p, s: not p["sales"]),
        ({"field": "visits.count", "value": 0, "window_days": 90}, lambda p, s: p["visited"] != 10),
        (
            {"field": "visits.last_at", "op": "<", "value": (NOW - dt.timedelta(days=100)).isoformat()},
            lambda p, s: p["visited"] == 400,
        ),
        ({"field": "complaints.count", "op": ">=", "value": 1}, lambda p, s: p["complained"]),
        (
            {"field": "interactions.count", "op": ">", "value": 1},
            lambda p, s: p["complained"] and p["visited"] is not None,
        ),
        (
            {"field": "interactions.last_at", "op": "exists", "value": False},
            lambda p, s: not p["complained"] and p["visited"] is None,
        ),
        ({"consent": {"purpose": "marketing"}}, lambda p, s: p["consent"]),
        ({"consent": {"purpose": "marketing", "channel": "phone"}}, lambda p, s: False),
        ({"field": "country", "value": "CH"}, lambda p, s: s is not None and s[2] == "CH"),
        ({"field": "country", "op": "!=", "value": "CH"}, lambda p, s: s is None or s[2] != "CH"),
        ({"field": "country", "op": "not_in", "value": ["CH", "US"]}, lambda p, s: s is None or s[2] is None),
        ({"field": "country", "op": "exists", "value": True}, lambda p, s: s is not None and s[2] is not None),
        ({"field": "precision_m", "op": "<=", "value": 25}, lambda p, s: s is not None),
        ({"field": "location_precision", "value": "given"}, lambda p, s: s is not None),
        ({"within": {"area": f"ter_{company['area']}"}}, in_west),
        ({"near": {"place_kind": "own", "radius_m": 1000}}, lambda p, s: s is not None and s[1] == 47.0),
        ({"near": {"place_kind": "competitor", "radius_m": 1000}}, lambda p, s: False),
        ({"near": {"lon": -104.0, "lat": 40.0, "radius_m": 10}}, lambda p, s: s is not None and s[0] == -104.0),
    ]


def holds(value: dict[str, Any], truth: dict[str, Any], person: dict[str, Any], site: Any) -> bool:
    """A plain evaluation of all, any and not over the cases."""
    if "all" in value:
        return all(holds(v, truth, person, site) for v in value["all"])
    if "any" in value:
        return any(holds(v, truth, person, site) for v in value["any"])
    if "not" in value:
        return not holds(value["not"], truth, person, site)
    return bool(truth[json.dumps(value)](person, site))


def check(session: Session, company: dict[str, Any], value: dict[str, Any], truth: dict[str, Any]) -> None:
    """The SQL in all three scopes finds what the plain evaluation finds."""
    made = filters.parse(value)
    people = company["people"]
    wanted = {p["id"] for p in people if any(holds(value, truth, p, s) for s in (p["sites"] or [None]))}
    pairs = sorted(p["id"] for p in people for s in p["sites"] if holds(value, truth, p, s))
    for schema in ("visible", "public"):
        if schema == "visible":
            session.execute(text("SET LOCAL ROLE geocrm_api"))
            access.enter(session, access.SYSTEM)
        customers = made.compile("customer", schema=schema)  # type: ignore[arg-type]
        found = session.scalars(
            text(f"SELECT c.id FROM customers c WHERE {customers.named()}"), customers.params()
        ).all()
        assert set(found) == wanted, made.sentence()
        assert len(set(found)) == len(found)
        sited = made.compile("site", schema=schema)  # type: ignore[arg-type]
        query = f"SELECT c.id FROM customers c JOIN {schema}.sites s ON s.customer_id = c.id WHERE {sited.named()}"
        assert sorted(session.scalars(text(query), sited.params())) == pairs, made.sentence()
        looked = made.compile("lookup", schema=schema)  # type: ignore[arg-type]
        query = f"SELECT l.customer_id FROM site_lookup l WHERE {looked.named()}"
        assert sorted(session.scalars(text(query), looked.params())) == pairs, made.sentence()
        packed, values = looked.packed("CAST(:packed AS text[])")
        query = f"SELECT l.customer_id FROM site_lookup l WHERE {packed}"
        assert sorted(session.scalars(text(query), {"packed": values})) == pairs, made.sentence()
        if schema == "visible":
            session.execute(text("SET LOCAL ROLE geocrm_worker"))


def test_every_condition(session: Session, company: dict[str, Any]) -> None:
    """Each condition alone, and its complement."""
    every = cases(company)
    truth = {json.dumps(value): rule for value, rule in every}
    for value, _ in every:
        check(session, company, value, truth)
        check(session, company, {"not": value}, truth)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_trees(session: Session, company: dict[str, Any], data: st.DataObject) -> None:
    """Random trees of all, any and not: the SQL and the plain evaluation agree."""
    every = cases(company)
    truth = {json.dumps(value): rule for value, rule in every}
    leaf = st.sampled_from([value for value, _ in every])
    tree = st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(lambda parts: {"all": parts}, st.lists(inner, max_size=3)),
            st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda part: {"not": part}, inner),
        ),
        max_leaves=6,
    )
    value = data.draw(tree)
    try:
        filters.parse(value)
    except errors.InvalidFilter:
        return  # too deep
    check(session, company, value, truth)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.text(min_size=1, max_size=30).filter(lambda w: "\x00" not in w))
def test_values_stay_values(session: Session, words: str) -> None:
    """Whatever is written, it is compared and never run: a customer of that name, industry and attribute is found."""
    try:
        words.encode()
    except UnicodeEncodeError:
        return
    with session.begin_nested() as point:
        customer = make_customer(session, name=words, industry=words, attributes={words: words})
        for value in (
            {"field": "name", "value": words},
            {"field": "industry", "op": "contains", "value": words},
            {"field": f"attributes.{words}", "op": "in", "value": [words, "other"]},
        ):
            made = filters.parse(value).compile("customer", schema="public")
            query = f"SELECT c.id FROM customers c WHERE {made.named()}"
            assert customer.id in session.scalars(text(query), made.params()).all(), value
            packed, values = filters.parse(value).compile("customer", schema="public").packed("CAST(:v AS text[])")
            found = session.scalars(text(f"SELECT c.id FROM customers c WHERE {packed}"), {"v": values}).all()
            assert customer.id in found, value
        point.rollback()


def test_the_reference_names_every_field_and_short_form() -> None:
    """docs/reference/filters.md says what there is."""
    written = (CHECKOUT / "docs" / "reference" / "filters.md").read_text(encoding="utf-8")
    for found in filters.FIELDS.values():
        assert f"| `{found.name}` | {found.type} | {found.help}" in written
    for name in filters.SHORT_FORMS:
        assert f"`{name}`" in written.partition("## Short forms")[2]
