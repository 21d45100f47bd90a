"""Identifiers as people see them: `cus_42` outside, 42 inside."""

import re

from geocrm.errors import Invalid

PREFIXES = {
    "cus": "customer",
    "sit": "site",
    "con": "contact",
    "sal": "sale",
    "prd": "product",
    "pla": "place",
    "lay": "layer",
    "ter": "territory",
    "are": "area",
    "imp": "import",
    "int": "interaction",
    "usr": "user",
    "tea": "team",
    "key": "API key",
    "job": "job",
    "seg": "segment",
    "sgm": "segmentation",
    "ana": "analysis",
    "off": "offer",
    "red": "redemption",
    "cam": "campaign",
    "fen": "geofence",
    "evt": "event",
    "whk": "webhook",
    "dlv": "delivery",
    "aut": "automation",
    "run": "run of an automation",
    "aud": "audience",
    "tsk": "task",
}
_SHAPE = re.compile(r"^([a-z]{3})_([1-9][0-9]{0,18})$")
_LARGEST = 2**63 - 1


def show(prefix: str, number: int | None) -> str | None:
    """`show("cus", 42)` is `"cus_42"`; None stays None."""
    return None if number is None else f"{prefix}_{number}"


def reference(prefix: str, number: int | None, name: str | None) -> dict[str, str | None] | None:
    """Something by its prefixed id and name; None where there is none."""
    return None if number is None else {"id": show(prefix, number), "name": name}


def read(prefix: str | tuple[str, ...], text: str, *, pointer: str = "") -> int:
    """The number in `text`; raises Invalid where the prefix is another one or there is no number."""
    prefixes = (prefix,) if isinstance(prefix, str) else prefix
    match = _SHAPE.match(text) if isinstance(text, str) else None
    if match is None or match[1] not in prefixes or int(match[2]) > _LARGEST:
        wanted = " or ".join(f"{p}_…" for p in prefixes)
        what = PREFIXES[prefixes[0]]
        fault = f"{str(text)[:40]!r} is no {what} id; it looks like {wanted}"
        raise Invalid(fault, errors=[{"pointer": pointer, "detail": fault}])
    return int(match[2])
