"""Write customers with their sites, contacts and consents.

Every function runs in the worker's session: it looks as the user first (a foreign object is NotFound, before anything
is written), writes, lets territories and lookups follow, and records what was done, in one transaction.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor
from geocrm.crm import consents as purposes
from geocrm.crm import customers, forgetting, points
from geocrm.db import audience_changes, audit
from geocrm.db.models import Consent, Contact, Customer, CustomerSource, Site, SiteSource
from geocrm.errors import Conflict, Forbidden, Invalid, NotFound
from geocrm.spatial import geocoding, territories

Values = Mapping[str, Any]
GIVEN_M = 25.0  # of given coordinates, unless the sender says otherwise
ADDRESS = ("line1", "line2", "city", "region", "postal_code", "country")
_SITE_SHOWN = ("label", *ADDRESS, "location_precision", "precision_m", "location_source", "placement", "is_primary")


def open_for_edit(
    session: Session, actor: Actor, customer_id: int, check: Callable[[int], None] | None = None
) -> Customer:
    """The customer, locked, where the actor sees it; `check` is given its version (If-Match).

    Raises NotFound where there is none that the actor sees.
    """
    with access.as_user(session, actor):
        customers.see(session, customer_id)
    customer = session.get(Customer, customer_id, with_for_update=True, populate_existing=True)
    if customer is None or customer.erased_at is not None:
        raise NotFound()
    if check is not None:
        check(customer.version)
    return customer


def create(
    session: Session,
    actor: Actor,
    values: Values,
    *,
    sites: Iterable[Values] = (),
    contacts: Iterable[Values] = (),
    consents: Iterable[Values] = (),
    source: tuple[str, str] | None = None,
) -> int:
    """A new customer; its id. Its owner is the actor where the actor sees only own rows and names nobody.

    Raises Conflict where the source system's id is taken, Forbidden for an owner that the actor may not choose.
    """
    given = dict(values)
    if given.get("owner_id") is None and not actor.sees_all:
        given["owner_id"] = actor.user_id
    _check_owner(session, actor, None, given.get("owner_id"))
    _check_parent(session, actor, None, given.get("parent_id"))
    customer = Customer(**given)
    session.add(customer)
    session.flush()
    if source is not None:
        _claim(session, "customer_sources", source)
        session.add(CustomerSource(source=source[0], external_id=source[1], customer_id=customer.id))
    placed = [_new_site(session, customer.id, site) for site in sites]
    if placed and not any(site.is_primary for site in placed):
        placed[0].is_primary = True
    for contact in contacts:
        session.add(Contact(customer_id=customer.id, **contact))
    for n, consent in enumerate(consents):
        session.add(Consent(customer_id=customer.id, **purposes.read(consent, f"/consents/{n}")))
    session.flush()
    if not _place(session, actor, placed, "customer created"):
        _follow(session, actor, customer.id, "customer created")
    audience_changes.tell(session, [customer.id])
    audit.record(
        session,
        "customer.create",
        actor_id=actor.user_id,
        key_id=actor.key_id,
        object_id=ids.show("cus", customer.id),
        after=given | {"sites": [_site_values(site) for site in placed]},
    )
    if not _sees(session, actor, customer.id):
        raise Forbidden("You would not see this customer: own it, or give it a site in a territory of yours.")
    return customer.id


def edit(session: Session, actor: Actor, customer: Customer, changes: Values) -> None:
    """Change fields of a customer (already opened for edit); raises Forbidden for an owner that is not the actor's to
    choose."""
    if "owner_id" in changes and changes["owner_id"] != customer.owner_id:
        _check_owner(session, actor, customer, changes["owner_id"])
    if "parent_id" in changes:
        _check_parent(session, actor, customer.id, changes["parent_id"])
    different = {name: value for name, value in changes.items() if getattr(customer, name) != value}
    if not different:
        return
    before = {name: getattr(customer, name) for name in different}
    for name, value in different.items():
        setattr(customer, name, value)
    _changed(session, customer)
    _follow(session, actor, customer.id, "customer edited")
    audit.record(
        session,
        "customer.update",
        actor_id=actor.user_id,
        key_id=actor.key_id,
        object_id=ids.show("cus", customer.id),
        before=before,
        after=different,
    )


# ---------------------------------------------------------------- sites


def add_site(session: Session, actor: Actor, customer: Customer, values: Values) -> int:
    """A new site of the customer; its id."""
    has_primary = session.scalar(
        select(func.count()).select_from(Site).where(Site.customer_id == customer.id, Site.is_primary)
    )
    wanted = bool(values.get("is_primary"))
    if wanted and has_primary:
        _end_primary(session, customer.id)
    site = _new_site(session, customer.id, dict(values) | {"is_primary": wanted or not has_primary})
    if not _place(session, actor, [site], "site added"):
        _follow(session, actor, customer.id, "site added")
    _changed(session, customer)
    _record(session, actor, "site.create", site.customer_id, after=_site_values(site))
    return site.id


def edit_site(session: Session, actor: Actor, customer: Customer, site_id: int, changes: Values) -> None:
    """Change a site. A changed address without coordinates places it anew from the address; given coordinates are
    checked and taken. Raises NotFound for a site that the actor does not see."""
    site = _open_site(session, actor, customer, site_id)
    if not actor.exact and ("location" in changes or set(ADDRESS) & set(changes)):
        raise Forbidden("A key without the scope locations:exact may not change where a site is.")
    before = _site_values(site)
    given = dict(changes)
    moved = "location" in given
    location = given.pop("location", None)
    precision = given.pop("location_precision", None)
    precision_m = given.pop("precision_m", None)
    if given.get("is_primary") is False and site.is_primary:
        raise Invalid(
            "Make another site the primary one instead.",
            errors=[{"pointer": "/is_primary", "detail": "make another site the primary one instead"}],
        )
    if given.get("is_primary") and not site.is_primary:
        _end_primary(session, customer.id)
    readdressed = any(name in given and given[name] != getattr(site, name) for name in ADDRESS)
    for name, value in given.items():
        setattr(site, name, value)
    if moved and location is not None:
        _take_point(site, location, precision, precision_m)
    elif moved:
        _unplace(site)
    elif precision is not None or precision_m is not None:
        site.location_precision = precision or site.location_precision
        site.precision_m = precision_m or site.precision_m
    site.updated_at = func.now()
    session.flush()
    reason = "address changed" if moved or readdressed else "site edited"
    if moved and location is None:
        followed = _place(session, actor, [site], reason)
    elif readdressed and not moved:
        followed = bool(geocoding.readdress(session, [site.id], actor=actor, reason=reason).customer_ids)
        session.refresh(site)
    else:
        followed = False
    if not followed:
        _follow(session, actor, customer.id, reason)
    _changed(session, customer)
    _record(session, actor, "site.update", site.customer_id, before=before, after=_site_values(site))


def delete_site(session: Session, actor: Actor, customer: Customer, site_id: int) -> None:
    """Take a site away; another one becomes the primary one.

    Raises Conflict for a site that has sales, those without a site of the time when it was the primary one among them:
    their territory at the time of sale is the site's, and would be lost with it."""
    site = _open_site(session, actor, customer, site_id)
    sales = _count_sales(session, site)
    if sales:
        raise Conflict(
            f"This site has {sales} {'sale' if sales == 1 else 'sales'}, and their territory is known by it. "
            "Keep it, and change its address or label instead.",
            sales=sales,
        )
    before = _site_values(site)
    was_primary = site.is_primary
    if was_primary:
        _end_primary(session, customer.id)
    session.execute(text("DELETE FROM site_sources WHERE site_id = CAST(:site_id AS bigint)"), {"site_id": site_id})
    session.delete(site)
    session.flush()
    if was_primary:
        heir = session.scalars(
            select(Site).where(Site.customer_id == customer.id).order_by(Site.id).limit(1)
        ).one_or_none()
        if heir is not None:
            heir.is_primary = True
    _changed(session, customer)
    _follow(session, actor, customer.id, "site removed")
    _record(session, actor, "site.delete", site.customer_id, before=before)


def place_by_hand(
    session: Session,
    actor: Actor,
    customer: Customer,
    site_id: int,
    lon: float,
    lat: float,
    *,
    precision_m: float = GIVEN_M,
    confirmed: bool = False,
) -> None:
    """Put a site where somebody who knows says it is. Raises Invalid for a point outside the site's country, unless it
    is confirmed."""
    site = _open_site(session, actor, customer, site_id)
    if not actor.exact:
        raise Forbidden("A key without the scope locations:exact may not change where a site is.")
    before = _site_values(site)
    geocoding.place_by_hand(session, site_id, lon, lat, precision_m=precision_m, confirmed=confirmed, actor=actor)
    session.refresh(site)
    _changed(session, customer)
    _record(session, actor, "site.place", site.customer_id, before=before, after=_site_values(site))


def place_again(session: Session, actor: Actor, customer: Customer, site_id: int) -> None:
    """Place a site anew from its address, whatever point it has."""
    site = _open_site(session, actor, customer, site_id)
    before = _site_values(site)
    if site.placement == "flagged":  # stays as it is where the address is not found
        geocoding.replace_flagged(session, [site_id], actor=actor)
    elif site.placement in ("pending", "failed"):
        geocoding.retry(session, [site_id], actor=actor)
    else:
        _unplace(site)
        if not _place(session, actor, [site], "placed anew from the address"):
            _follow(session, actor, customer.id, "placed anew from the address")
    session.refresh(site)
    _changed(session, customer)
    _record(session, actor, "site.place", site.customer_id, before=before, after=_site_values(site))


def _count_sales(session: Session, site: Site) -> int:
    """Sales at the site; those without a site are those of the primary one of their time."""
    return int(
        session.scalar(
            text(
                "SELECT count(*) FROM sales s WHERE s.customer_id = CAST(:customer_id AS bigint)"
                " AND (s.site_id = CAST(:site_id AS bigint) OR (s.site_id IS NULL AND coalesce("
                "(SELECT f.site_id FROM former_primary_sites f WHERE f.customer_id = s.customer_id"
                " AND f.until > s.occurred_at ORDER BY f.until LIMIT 1),"
                " (SELECT p.id FROM sites p WHERE p.customer_id = s.customer_id AND p.is_primary))"
                " = CAST(:site_id AS bigint)))"
            ),
            {"customer_id": site.customer_id, "site_id": site.id},
        )
        or 0
    )


def _open_site(session: Session, actor: Actor, customer: Customer, site_id: int) -> Site:
    with access.as_user(session, actor):
        seen = session.scalar(
            text(
                "SELECT true FROM visible.sites WHERE customer_id = CAST(:customer_id AS bigint)"
                " AND id = CAST(:site_id AS bigint)"
            ),
            {"customer_id": customer.id, "site_id": site_id},
        )
    site = session.get(Site, (customer.id, site_id)) if seen else None
    if site is None:
        raise NotFound()
    return site


def _new_site(session: Session, customer_id: int, values: Values) -> Site:
    given = dict(values)
    location = given.pop("location", None)
    precision = given.pop("location_precision", None)
    precision_m = given.pop("precision_m", None)
    source = given.pop("source", None)
    site = Site(customer_id=customer_id, placement="pending", **given)
    site.flags = []
    if location is not None:
        _take_point(site, location, precision, precision_m)
    session.add(site)
    session.flush()
    if source is not None:
        _claim(session, "site_sources", source)
        session.add(SiteSource(source=source[0], external_id=source[1], customer_id=customer_id, site_id=site.id))
    return site


def _take_point(
    site: Site,
    location: Values,
    precision: str | None,
    precision_m: float | None,
) -> None:
    lon, lat = float(location["lon"]), float(location["lat"])
    flag = points.flag_of(lon, lat, site.country)
    site.location = points.make(lon, lat)
    site.location_precision = precision or "given"
    site.precision_m = precision_m or GIVEN_M
    site.location_source = "api"
    site.placement = "flagged" if flag else "placed"
    site.flags = [flag] if flag else []
    site.placing_error = None
    site.placing_next_at = None


def _unplace(site: Site) -> None:
    site.location = None
    site.location_precision = None
    site.precision_m = None
    site.location_source = None
    site.placement = "pending"
    site.flags = []
    site.placing_attempts = 0
    site.placing_next_at = None
    site.placing_error = None


def _place(session: Session, actor: Actor, sites: Iterable[Site], reason: str) -> bool:
    """Place those that wait; whether territories and lookups have followed by that."""
    session.flush()
    waiting = [site for site in sites if site.placement == "pending"]
    if not waiting:
        return False
    outcome = geocoding.place(session, [site.id for site in waiting], actor=actor, reason=reason)
    for site in waiting:
        session.refresh(site)
    return bool(outcome.customer_ids)


def _end_primary(session: Session, customer_id: int) -> None:
    """The primary site is none from now on; it stays the one of the sales before now that name no site."""
    for site in session.scalars(select(Site).where(Site.customer_id == customer_id, Site.is_primary)):
        site.is_primary = False
        session.execute(
            text(
                "INSERT INTO former_primary_sites (customer_id, until, site_id) VALUES"
                " (CAST(:customer_id AS bigint), now(), CAST(:site_id AS bigint)) ON CONFLICT DO NOTHING"
            ),
            {"customer_id": customer_id, "site_id": site.id},
        )
    session.flush()


def _site_values(site: Site) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(site, name) for name in _SITE_SHOWN}
    values["lon"], values["lat"] = points.coordinates(site.location)
    values["site"] = ids.show("sit", site.id)
    return values


# ---------------------------------------------------------------- contacts and consents


def add_contact(session: Session, actor: Actor, customer: Customer, values: Values) -> int:
    """A new contact of the customer; its id."""
    contact = Contact(customer_id=customer.id, **values)
    session.add(contact)
    _changed(session, customer)
    _record(session, actor, "contact.create", customer.id, after=_contact_values(contact))
    return contact.id


def edit_contact(session: Session, actor: Actor, customer: Customer, contact_id: int, changes: Values) -> None:
    """Change a contact; raises Forbidden where the actor may not see contact details."""
    contact = _open_contact(session, actor, customer, contact_id)
    before = _contact_values(contact)
    for name, value in changes.items():
        setattr(contact, name, value)
    _changed(session, customer)
    _record(session, actor, "contact.update", customer.id, before=before, after=_contact_values(contact))


def delete_contact(session: Session, actor: Actor, customer: Customer, contact_id: int) -> None:
    """Take a contact away."""
    contact = _open_contact(session, actor, customer, contact_id)
    before = _contact_values(contact)
    session.delete(contact)
    _changed(session, customer)
    _record(session, actor, "contact.delete", customer.id, before=before)


def grant_consent(session: Session, actor: Actor, customer: Customer, values: Values) -> None:
    """The customer allows something; raises Conflict where it is allowed already, Invalid where it is given in the
    future."""
    values = purposes.read(values)
    standing = session.scalar(
        select(func.count())
        .select_from(Consent)
        .where(
            Consent.customer_id == customer.id,
            Consent.purpose == values["purpose"],
            Consent.channel == values["channel"],
            Consent.withdrawn_at.is_(None),
        )
    )
    if standing:
        raise Conflict("This consent stands already.")
    session.add(Consent(customer_id=customer.id, **values))
    _changed(session, customer)
    _record(session, actor, "consent.grant", customer.id, after=dict(values))


def withdraw_consent(session: Session, actor: Actor, customer: Customer, purpose: str, channel: str) -> None:
    """The customer allows it no longer, from now on; what was kept under it is deleted (`forgetting`).

    Raises NotFound where nothing stood."""
    standing = session.scalars(
        select(Consent).where(
            Consent.customer_id == customer.id,
            Consent.purpose == purpose,
            Consent.channel == channel,
            Consent.withdrawn_at.is_(None),
        )
    ).all()
    if not standing:
        given = session.execute(
            select(Consent.purpose, Consent.channel)
            .where(Consent.customer_id == customer.id, Consent.withdrawn_at.is_(None))
            .order_by(Consent.purpose, Consent.channel)
        ).all()
        stands = ", ".join(f"{row.purpose!r} by {row.channel!r}" for row in given) or "none"
        raise NotFound(
            f"No consent of this customer with the purpose {purpose!r} by {channel!r} stands, so there is nothing to"
            f" withdraw. Those that stand: {stands}."
        )
    for consent in standing:
        consent.withdrawn_at = func.greatest(func.now(), consent.granted_at)
    _changed(session, customer)
    forgetting.forget(session, customer.id, purpose)
    _record(session, actor, "consent.withdraw", customer.id, before={"purpose": purpose, "channel": channel})


def _open_contact(session: Session, actor: Actor, customer: Customer, contact_id: int) -> Contact:
    contact = session.get(Contact, (customer.id, contact_id))
    if contact is None:
        raise NotFound()
    if actor.contacts != "shown":
        raise Forbidden("A key without the scope contacts may not change contact details.")
    return contact


def _contact_values(contact: Contact) -> dict[str, Any]:
    return {name: getattr(contact, name) for name in ("name", "role", "email", "phone", "is_primary")}


def _record(
    session: Session,
    actor: Actor,
    action: str,
    customer_id: int,
    *,
    before: Values | None = None,
    after: Values | None = None,
) -> None:
    audit.record(
        session,
        action,
        actor_id=actor.user_id,
        key_id=actor.key_id,
        object_id=ids.show("cus", customer_id),
        before=before,
        after=after,
    )


# ---------------------------------------------------------------- rules that all of them share


def sees(session: Session, actor: Actor, customer_id: int) -> bool:
    """Whether the actor sees the customer now."""
    return _sees(session, actor, customer_id)


def _sees(session: Session, actor: Actor, customer_id: int) -> bool:
    with access.as_user(session, actor):
        try:
            customers.see(session, customer_id)
        except NotFound:
            return False
    return True


def _changed(session: Session, customer: Customer) -> None:
    customer.version += 1
    customer.updated_at = func.now()
    session.flush()
    audience_changes.tell(session, [customer.id])


def _follow(session: Session, actor: Actor, customer_id: int, reason: str) -> None:
    session.flush()
    territories.evaluate(session, [customer_id], actor=actor, reason=reason)


def _claim(session: Session, table: str, source: tuple[str, str]) -> None:
    """Raise Conflict where this name in a source system is taken; waits for whoever is taking it right now."""
    session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 12))"), {"name": f"{table}:{source[0]}:{source[1]}"}
    )
    model = {"customer_sources": CustomerSource, "site_sources": SiteSource}[table]
    if session.get(model, source) is not None:
        raise Conflict(f"{source[0]!r} has this external id already.")


def _check_owner(session: Session, actor: Actor, customer: Customer | None, owner_id: int | None) -> None:
    """Own customers are everybody's to make; to give one away or to take one needs the permission to reassign."""
    if customer is None and owner_id in (actor.user_id, None):
        return
    access.require(actor, "customers:reassign")
    if owner_id is None:
        return
    active = session.scalar(text("SELECT true FROM users WHERE id = CAST(:id AS bigint) AND active"), {"id": owner_id})
    if not active:
        fault = f"there is no active user {ids.show('usr', owner_id)}"
        raise Invalid(fault, errors=[{"pointer": "/owner_id", "detail": fault}])
    if not actor.sees_all and owner_id not in actor.owners:
        raise Forbidden("You may give customers to people of your own team only.")


def _check_parent(session: Session, actor: Actor, customer_id: int | None, parent_id: int | None) -> None:
    if parent_id is None:
        return
    fault = f"there is no customer {ids.show('cus', parent_id)} that you see"
    if not _sees(session, actor, parent_id):
        raise Invalid(fault, errors=[{"pointer": "/parent_id", "detail": fault}])
    if customer_id is None:
        return
    above = session.scalars(
        text(
            "WITH RECURSIVE above AS (SELECT id, parent_id FROM customers WHERE id = CAST(:id AS bigint) UNION"
            " SELECT c.id, c.parent_id FROM customers c JOIN above a ON c.id = a.parent_id) SELECT id FROM above"
        ),
        {"id": parent_id},
    ).all()
    if customer_id in above:
        fault = "a customer cannot stand below itself"
        raise Invalid(fault, errors=[{"pointer": "/parent_id", "detail": fault}])
