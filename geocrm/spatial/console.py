"""Layers at a terminal: what is in force, what a draft would change, publish it, go back."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import SYSTEM
from geocrm.db.engine import command_session
from geocrm.db.models import Layer
from geocrm.errors import Conflict, NotFound
from geocrm.spatial import layers, preview, publishing

Echo = Callable[[str], Any]
_LISTED = 10


def show_layers(*, as_json: bool = False, echo: Echo) -> None:
    """A line each, or JSON: the layer's key, its version in force, its drafts."""

    with command_session() as session:
        found = layers.find_layers(session)
        if as_json:
            rows = [
                {
                    "key": layer.key,
                    "name": layer.name,
                    "kind": layer.kind,
                    "is_primary": layer.is_primary,
                    "version_in_force": layer.current_version,
                    "waiting": [
                        {"version": v.version, "status": v.status}
                        for v in layers.find_versions(session, layer.id)
                        if v.status in ("draft", "scheduled")
                    ],
                }
                for layer in found
            ]
            echo(json.dumps(rows, ensure_ascii=False, indent=2))
            return
        if not found:
            echo("No layers yet: `geocrm import areas FILE` makes one.")
        for layer in found:
            drafts = [v.version for v in layers.find_versions(session, layer.id) if v.status in ("draft", "scheduled")]
            force = "nothing in force" if layer.current_version is None else f"version {layer.current_version} in force"
            waiting = f"; waiting: {', '.join(map(str, drafts))}" if drafts else ""
            echo(f"{layer.key:<20} {layer.name}: {force}{waiting}{' (primary)' if layer.is_primary else ''}")


def show_preview(layer: str, version: int | None, effective_from: datetime | None, *, echo: Echo) -> None:
    """Who would move if the draft were published; nothing is changed."""

    with command_session() as session:
        found = _layer(session, layer)
        number = _draft(session, found.id, found.key, version)
        seen = preview.preview(session, found.id, number, actor=SYSTEM, effective_from=effective_from)
        echo(
            f"Draft {number} of {found.key}, from {seen.effective_from:%Y-%m-%d %H:%M} UTC on: "
            f"{seen.moves} sites would move."
        )
        for balance in seen.by_area:
            echo(f"  {balance.name or 'no area':<30} −{balance.leaving:<8} +{balance.entering}")
        for move in seen.moving[:_LISTED]:
            echo(
                f"  {ids.show('cus', move.customer_id)} {move.customer_name}: {move.from_name or 'nobody'} → "
                f"{move.to_name or 'nobody'} ({move.to_basis})"
            )
        if seen.moves > _LISTED:
            echo(f"  … and {seen.moves - _LISTED} more")
        if seen.coverage is not None:
            echo(f"{seen.coverage.overlap_count} overlaps and {seen.coverage.gap_count} gaps between its areas.")


def publish(layer: str, version: int | None, reason: str, effective_from: datetime | None, *, echo: Echo) -> None:
    """Put a draft in force, now or from the given day on."""

    with command_session() as session:
        found = _layer(session, layer)
        number = _draft(session, found.id, found.key, version)
        done = publishing.publish(session, found.id, number, actor=SYSTEM, reason=reason, effective_from=effective_from)
        when = f"in force from {done.effective_from:%Y-%m-%d %H:%M} UTC" if done.status == "published" else done.status
        echo(f"Version {done.version} of {found.key} is {when}: {done.moved} sites moved, {done.concerned} looked at.")


def undo(layer: str, reason: str, version: int | None, *, echo: Echo) -> None:
    """Publish the version before again (or the given one)."""

    with command_session() as session:
        found = _layer(session, layer)
        done = publishing.undo(session, found.id, actor=SYSTEM, reason=reason, version=version)
        echo(f"Version {done.version} of {found.key} says what held before: {done.moved} sites moved back.")


def discard(layer: str, version: int, *, echo: Echo) -> None:
    """Throw a draft away."""

    with command_session() as session:
        found = _layer(session, layer)
        layers.discard_draft(session, found.id, version, actor=SYSTEM)
        echo(f"Draft {version} of {found.key} is gone.")


def _layer(session: Session, name: str) -> Layer:
    """The layer of a key, `lay_` before it or not. Raises NotFound, saying where the keys are listed."""
    try:
        return layers.get_layer(session, name.removeprefix("lay_"))
    except NotFound:
        raise NotFound(f"There is no layer {name}; `geocrm layers list` lists their keys.") from None


def _draft(session: Session, layer_id: int, key: str, version: int | None) -> int:
    if version is not None:
        return version
    drafts = [v.version for v in layers.find_versions(session, layer_id) if v.status == "draft"]
    if len(drafts) != 1:
        what = (
            f"has {len(drafts)} drafts ({', '.join(map(str, drafts))}); say which with --version"
            if drafts
            else f"has no draft; `geocrm import areas FILE --target-layer {key}` makes one"
        )
        raise Conflict(f"The layer {key!r} {what}.")
    return drafts[0]
