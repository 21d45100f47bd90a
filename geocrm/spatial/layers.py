"""Layers of areas and their versions: drafts, named accounts in them, and what was published meanwhile.

A layer version is a draft until it is published; then it is `published` (in force), `scheduled` (ahead) or `retired`
(over). `layer_areas` maps a version to area versions, so that a draft costs one row an area and geometry is copied on
write only. Named accounts are kept as changes of the version that a version is based on.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor, require
from geocrm.db import audit
from geocrm.db.models import Customer, Layer, LayerArea, LayerVersion, NamedAccountVersion
from geocrm.db.queries import named
from geocrm.errors import Conflict, Invalid, NotFound

LayerKind = Literal["territories", "trading_areas", "reference"]


def create_layer(
    session: Session, *, key: str, name: str, kind: LayerKind, actor: Actor, is_primary: bool = False
) -> Layer:
    """A new layer without versions. One layer of kind `territories` may be the primary one, whose territories stand on
    the sites and grant sight. Raises Invalid, Conflict, Forbidden."""
    require(actor, "territories:publish" if kind == "territories" else "trading_areas:write")
    if not key or not all(c.isascii() and (c.isalnum() or c in "_-") for c in key) or len(key) > 60:
        raise Invalid(
            "A layer's key has 1 to 60 letters, digits, _ and -.",
            errors=[{"pointer": "/key", "detail": "letters, digits, _ and - only"}],
        )
    if not name or len(name) > 200:
        raise Invalid("A layer needs a name.", errors=[{"pointer": "/name", "detail": "1 to 200 characters"}])
    if is_primary and kind != "territories":
        raise Invalid(
            "Only a layer of territories can be the primary one.",
            errors=[{"pointer": "/is_primary", "detail": "the layer's areas may overlap, so it cannot be primary"}],
        )
    if session.scalar(select(Layer.id).where(Layer.key == key)) is not None:
        raise Conflict(f"There is a layer {key!r} already.", errors=[{"pointer": "/key", "detail": "taken"}])
    if is_primary and session.scalar(select(Layer.id).where(Layer.is_primary)) is not None:
        raise Conflict(
            "There is a primary layer already.", errors=[{"pointer": "/is_primary", "detail": "another layer is"}]
        )
    layer = Layer(key=key, name=name, kind=kind, is_primary=is_primary)
    session.add(layer)
    session.flush()
    audit.record(
        session, "layer.create", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("lay", layer.id),
        after={"key": key, "name": name, "kind": kind, "is_primary": is_primary},
    )  # fmt: skip
    return layer


def get_layer(session: Session, layer: int | str) -> Layer:
    """The layer of that id or key; raises NotFound."""
    condition = Layer.id == layer if isinstance(layer, int) else Layer.key == layer
    found = session.scalar(select(Layer).where(condition))
    if found is None:
        raise NotFound(f"There is no layer {layer if isinstance(layer, str) else ids.show('lay', layer)}.")
    return found


def find_layers(session: Session) -> list[Layer]:
    """All layers, the primary one first."""
    return list(session.scalars(select(Layer).order_by(Layer.is_primary.desc(), Layer.id)))


def get_version(session: Session, layer_id: int, version: int) -> LayerVersion:
    """A version of a layer; raises NotFound."""
    found = session.get(LayerVersion, (layer_id, version))
    if found is None:
        raise NotFound(f"The layer {ids.show('lay', layer_id)} has no version {version}.")
    return found


def find_versions(session: Session, layer_id: int) -> list[LayerVersion]:
    """All versions of a layer, newest first."""
    found = select(LayerVersion).where(LayerVersion.layer_id == layer_id).order_by(LayerVersion.version.desc())
    return list(session.scalars(found))


def was_published(version: LayerVersion) -> bool:
    """Whether a version is or was in force, so that everybody may read it: no draft, not scheduled, not discarded."""
    if version.published_at is None or version.status not in ("published", "retired"):
        return False
    return version.effective_from is None or version.effective_from <= datetime.now(UTC)


def require_reading(session: Session, actor: Actor, layer: Layer, version: int) -> LayerVersion:
    """The version, where the actor may read it: what is or was in force everybody may, plans those who may draft.

    Raises NotFound, Forbidden."""
    found = get_version(session, layer.id, version)
    if not was_published(found):
        require_drafting(actor, layer)
    return found


def may_draft(actor: Actor, layer: Layer) -> bool:
    """Whether the actor may draft on this layer."""
    return actor.may("territories:draft" if layer.kind == "territories" else "trading_areas:write")


def require_drafting(actor: Actor, layer: Layer) -> None:
    """Raise Forbidden unless the actor may draft on this layer."""
    require(actor, "territories:draft" if layer.kind == "territories" else "trading_areas:write")


def require_publishing(actor: Actor, layer: Layer) -> None:
    """Raise Forbidden unless the actor may publish on this layer; a manager only where own team's territories change,
    which publishing itself checks."""
    require(actor, "territories:publish" if layer.kind == "territories" else "trading_areas:write")


def create_draft(
    session: Session, layer_id: int, *, actor: Actor, source: Literal["published", "empty"] | int = "published"
) -> LayerVersion:
    """A new draft of a layer: with what is in force now, with nothing, or with what version `source` had.

    A draft of a former version, published, undoes what came after it. Raises NotFound, Forbidden."""
    layer = get_layer(session, layer_id)
    require_drafting(actor, layer)
    base = layer.current_version
    copied: int | None = None
    if isinstance(source, int):
        if get_version(session, layer_id, source).status == "draft":
            raise Conflict(f"Version {source} is itself a draft; edit or publish it.")
        copied = source
    elif source == "published":
        copied = base
    # the row lock orders two drafts begun at the same moment
    session.execute(select(Layer.id).where(Layer.id == layer_id).with_for_update())
    number = int(session.scalar(text(named("territories_layers", "next_version")), {"layer": layer_id}) or 1)
    draft = LayerVersion(
        layer_id=layer_id,
        version=number,
        status="draft",
        based_on=None if source == "empty" else base,
        actor_id=actor.user_id,
    )
    session.add(draft)
    session.flush()
    values = {"layer": layer_id, "version": number, "source": copied, "base": base}
    if copied is not None:
        session.execute(text(named("territories_layers", "copy_areas")), values)
        if copied != base:
            session.execute(text(named("territories_layers", "names_as_in")), values)
    _record(session, "layer.draft", actor, layer_id, number, after={"from": source})
    return draft


def get_draft(session: Session, layer_id: int, version: int, *, actor: Actor) -> tuple[Layer, LayerVersion]:
    """A draft to edit, locked; raises NotFound, Forbidden, and Conflict where it is no draft any more."""
    layer = get_layer(session, layer_id)
    require_drafting(actor, layer)
    found = session.scalar(
        select(LayerVersion)
        .where(LayerVersion.layer_id == layer_id, LayerVersion.version == version)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(f"The layer {layer.key!r} has no version {version}.")
    if found.status != "draft":
        raise Conflict(
            f"Version {version} of the layer {layer.key!r} is {found.status}; make a new draft to change it."
        )
    return layer, found


def discard_draft(session: Session, layer_id: int, version: int, *, actor: Actor) -> None:
    """Put a draft away: it becomes `retired` without ever having been in force."""
    _, draft = get_draft(session, layer_id, version, actor=actor)
    draft.status = "retired"
    draft.reason = draft.reason or "discarded"
    session.flush()
    _record(session, "layer.discard", actor, layer_id, version)


def name_accounts(
    session: Session, layer_id: int, version: int, accounts: Iterable[tuple[int, int]], *, actor: Actor
) -> int:
    """Name customers in a draft: pairs (customer_id, area_id). Whoever is named belongs to the area, before any rule or
    polygon. Returns how many; raises NotFound for a customer or an area that the draft does not hold."""
    _, draft = get_draft(session, layer_id, version, actor=actor)
    wanted = dict(accounts)
    if not wanted:
        return 0
    held = set(
        session.scalars(
            select(LayerArea.area_id).where(LayerArea.layer_id == layer_id, LayerArea.layer_version == version)
        )
    )
    for area_id in wanted.values():
        if area_id not in held:
            raise NotFound(f"The draft {version} holds no area {ids.show('ter', area_id)}.")
    known = set(session.scalars(select(Customer.id).where(Customer.id.in_(wanted))))
    for customer_id in wanted:
        if customer_id not in known:
            raise NotFound(f"There is no customer {ids.show('cus', customer_id)}.")
    _write_names(session, draft, dict(wanted))
    return len(wanted)


def unname_accounts(session: Session, layer_id: int, version: int, customer_ids: Iterable[int], *, actor: Actor) -> int:
    """Take customers out of the named accounts of a draft; returns how many were named."""
    _, draft = get_draft(session, layer_id, version, actor=actor)
    present = named_accounts(session, layer_id, version)
    gone = {customer: None for customer in customer_ids if customer in present}
    _write_names(session, draft, dict(gone))
    return len(gone)


def named_accounts(session: Session, layer_id: int, version: int) -> dict[int, int]:
    """The named accounts of a version: customer id → area id."""
    rows = session.execute(
        text(
            "SELECT customer_id, area_id FROM geocrm_named_accounts(CAST(:layer AS bigint), CAST(:version AS integer))"
        ),
        {"layer": layer_id, "version": version},
    )
    return {row.customer_id: row.area_id for row in rows}


def _write_names(session: Session, draft: LayerVersion, names: dict[int, int | None]) -> None:
    for customer_id, area_id in names.items():
        session.merge(
            NamedAccountVersion(
                layer_id=draft.layer_id, layer_version=draft.version, customer_id=customer_id, area_id=area_id
            )
        )
    session.flush()
    if draft.based_on is not None:
        values = {"layer": draft.layer_id, "version": draft.version, "base": draft.based_on}
        session.execute(text(named("territories_layers", "drop_names_said")), values)
        session.expire_all()


def in_force_at(session: Session, layer_id: int, moment: datetime) -> int | None:
    """The version of a layer that is in force at a moment, as known now; None before its first."""
    version = session.scalar(text(named("territories_layers", "in_force_at")), {"layer": layer_id, "moment": moment})
    return None if version is None else int(version)


def carry_over(session: Session, layer_id: int, *, ours: int, base: int, theirs: int) -> None:
    """Take into version `ours` what `theirs` changed since `base`, where `ours` did not change it itself; `ours` is
    based on `theirs` from then on."""
    values = {"layer": layer_id, "ours": ours, "base": base, "theirs": theirs}
    session.execute(text(named("territories_layers", "carry_removals")), values)
    session.execute(text(named("territories_layers", "carry_changes")), values)
    session.execute(
        text(named("territories_layers", "drop_names_said")), {"layer": layer_id, "version": ours, "base": theirs}
    )
    session.execute(
        text(
            "UPDATE layer_versions SET based_on = CAST(:theirs AS integer) "
            "WHERE layer_id = CAST(:layer AS bigint) AND version = CAST(:ours AS integer)"
        ),
        values,
    )


def conflicts(session: Session, layer_id: int, *, ours: int, base: int, theirs: int) -> tuple[list[str], list[int]]:
    """Names of areas and ids of customers that `ours` and `theirs` both changed since `base`, differently."""
    values = {"layer": layer_id, "ours": ours, "base": base, "theirs": theirs}
    areas = [row.name for row in session.execute(text(named("territories_layers", "area_conflicts")), values)]
    customers = list(session.scalars(text(named("territories_layers", "name_conflicts")), values))
    return areas, customers


def count_areas(session: Session, layer_id: int, version: int) -> int:
    """How many areas a version holds."""
    held = select(func.count()).where(LayerArea.layer_id == layer_id, LayerArea.layer_version == version)
    return int(session.scalar(held) or 0)


def _record(
    session: Session, action: str, actor: Actor, layer_id: int, version: int, after: dict[str, object] | None = None
) -> None:
    audit.record(
        session, action, actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("lay", layer_id),
        after={"version": version} | (after or {}),
    )  # fmt: skip
