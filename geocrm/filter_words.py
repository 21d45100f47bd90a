"""Filters in plain words, and back in their canonical JSON."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from geocrm.filter_tree import FIELDS, NAMED_BY_KEY, Consent, Entered, Group, Leaf, Near, Node, Not, Within

Names = Callable[[str], str]
"""Gives the words for a prefixed id, as in ``{"ter_12": "Northwest"}.get``."""

_PLACES: Final = {"own": "an own shop", "competitor": "a competitor", "depot": "a depot", "branch": "a branch"}

_OP_WORDS: Final = {"<": "below", "<=": "at most", ">": "above", ">=": "at least"}
_WINDOWS: Final = {1: "in the last day", 7: "in the last week", 30: "in the last 30 days", 365: "in the last year"}


def sentence(node: Node, names: Names, inside: str = "") -> str:
    match node:
        case Group(word, parts):
            joint = ", " if word == "all" else " or "
            said = joint.join(sentence(p, names, word) for p in parts)
            nested = any(isinstance(p, Group) and len(p.parts) > 1 for p in parts)
            return (
                f"({said})"
                if len(parts) > 1 and ((inside == "any" and word == "all") or (inside == "not" and nested))
                else said
            )
        case Not(Consent(purpose, channel)):
            return "without consent to " + purpose + (f" by {_channel(channel)}" if channel else "")
        case Not(Within(_, shown)):
            return f"outside {names(shown)}"
        case Not(part):
            said = sentence(part, names, "not")
            return f"not ({said})" if isinstance(part, Group) and len(part.parts) > 1 else f"not {said}"
        case Within(_, shown):
            return f"inside {names(shown)}"
        case Consent(purpose, channel):
            return "with consent to " + purpose + (f" by {_channel(channel)}" if channel else "")
        case Entered(audience_id):
            return f"in audience {names(f'aud_{audience_id}')}"
        case Near(radius_m, place_kind, place_id, point):
            what = (
                _PLACES[place_kind]
                if place_kind
                else names(f"pla_{place_id}") if place_id is not None
                else f"{point[1]:g}, {point[0]:g}" if point else ""
            )  # fmt: skip
            return f"within {_metres(radius_m)} of {what}"
        case Leaf():
            return _leaf_sentence(node, names)
    raise AssertionError(node)


def _leaf_sentence(leaf: Leaf, names: Names) -> str:
    found = FIELDS.get(leaf.field) or NAMED_BY_KEY.get(leaf.field)

    def say(value: Any) -> str:
        if found is not None and found.type == "id":
            return names(f"{found.prefix[0]}_{value}")
        if isinstance(value, dt.datetime):
            return f"{value:%Y-%m-%d}" if value.time() == dt.time() else f"{value:%Y-%m-%d %H:%M %Z}"
        if isinstance(value, bool):
            return "yes" if value else "no"
        return f"{value:,}" if isinstance(value, int) else str(value)

    values = " or ".join(say(v) for v in leaf.value) if leaf.op in ("in", "not_in") else ""
    one = say(leaf.value) if leaf.op not in ("in", "not_in", "between") else ""
    if found is not None and found.name == "is_primary":
        return f"{'' if leaf.value == (leaf.op != '!=') else 'not '}{found.words}"
    if found is not None and found.words is None and found.type == "choice":
        if leaf.op == "exists":
            return f"with a {found.name}" if leaf.value else f"without a {found.name}"
        return ("not " if leaf.op in ("!=", "not_in") else "") + (values or one)
    if found is not None and found.type == "id":
        if leaf.op == "exists":
            nouns = {"owner": "an owner", "territory": "a territory", "segment": "a segment"}
            noun = nouns.get(found.name) or f"a segment of {leaf.key}"
            return f"with {noun}" if leaf.value else f"without {noun}"
        return ("not " if leaf.op in ("!=", "not_in") else "") + f"{found.words} {values or one}"
    noun = (found.words if found is not None else None) or str(leaf.key)
    if leaf.field == "scores.*":
        segmentation, _, score = noun.partition(".")
        noun = f"{score.replace('_', ' ')} ({segmentation})"
    window = ""
    if leaf.window_days is not None:
        window = " " + _WINDOWS.get(leaf.window_days, f"in the last {leaf.window_days:,} days")
    if found is not None and found.over:
        noun = f"with {noun}"
    match leaf.op:
        case "exists":
            return (
                f"with {noun.removeprefix('with ')}{window}"
                if leaf.value
                else f"without {noun.removeprefix('with ')}{window}"
            )
        case "=":
            return (
                f"on {noun} {one}" if found is None else f"{noun} of {one}" if found.over else f"{noun} {one}"
            ) + window
        case "in":
            return (f"on {noun} {values}" if found is None else f"{noun} {values}") + window
        case "!=" | "not_in":
            return f"{noun} not {values or one}{window}"
        case "between":
            return f"{noun} between {say(leaf.value[0])} and {say(leaf.value[1])}{window}"
        case "contains":
            return f"{noun} containing “{one}”"
    if found is not None and found.type == "time":
        return f"{noun} {'before' if leaf.op[0] == '<' else 'after' if leaf.op == '>' else 'since'} {one}{window}"
    return f"{noun}{' of' if found is not None and found.over else ''} {_OP_WORDS[leaf.op]} {one}{window}"


def _channel(channel: str) -> str:
    return "e-mail" if channel == "email" else channel


def _metres(radius_m: float) -> str:
    return f"{radius_m / 1000:g} km" if radius_m >= 1000 else f"{radius_m:g} m"


def to_json(node: Node) -> dict[str, Any]:
    match node:
        case Group(word, parts):
            return {word: [to_json(p) for p in parts]}
        case Not(part):
            return {"not": to_json(part)}
        case Within(_, shown):
            return {"within": {"area": shown}}
        case Near(radius_m, place_kind, place_id, point):
            if place_kind is not None:
                return {"near": {"place_kind": place_kind, "radius_m": radius_m}}
            if place_id is not None:
                return {"near": {"place": f"pla_{place_id}", "radius_m": radius_m}}
            assert point is not None
            return {"near": {"lon": point[0], "lat": point[1], "radius_m": radius_m}}
        case Consent(purpose, channel):
            return {"consent": {"purpose": purpose} | ({"channel": channel} if channel is not None else {})}
        case Entered(audience_id):
            return {"audience": f"aud_{audience_id}"}
        case Leaf(name, op, value, window_days, key):
            found = FIELDS.get(name) or NAMED_BY_KEY.get(name)

            def plain(v: Any) -> Any:
                if isinstance(v, tuple):
                    return [plain(inner) for inner in v]
                if isinstance(v, dt.datetime):
                    return v.isoformat()
                if isinstance(v, Decimal):
                    return int(v) if v == v.to_integral_value() else float(v)
                return f"{found.prefix[0]}_{v}" if found is not None and found.type == "id" and op != "exists" else v

            made = {"field": name if key is None else name.replace("*", key), "op": op, "value": plain(value)}
            return made | ({"window_days": window_days} if window_days is not None else {})
    raise AssertionError(node)
