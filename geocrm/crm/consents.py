"""Purposes of consents: free words, so a misspelt one is told by what is like it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from geocrm.db.models import Consent
from geocrm.errors import Invalid

AHEAD: Final = timedelta(seconds=120)
"""A clock may be so much ahead of ours."""


def read(values: Mapping[str, Any], pointer: str = "") -> dict[str, Any]:
    """A consent to be recorded; one given within `AHEAD` from now is taken as given now, so that it holds at once.

    Raises Invalid for one that is given later: what stands in the future allows nothing."""
    now = datetime.now(UTC)
    if values["granted_at"] > now + AHEAD:
        fault = f"this is in the future (now it is {now:%Y-%m-%dT%H:%M:%SZ}): a consent is recorded once it was given"
        raise Invalid(
            f"{pointer.lstrip('/')}{'/' * bool(pointer)}granted_at: {fault}",
            errors=[{"pointer": f"{pointer}/granted_at", "detail": fault}],
        )
    return dict(values) | {"granted_at": min(values["granted_at"], now)}


def like(purpose: str, others: Iterable[str]) -> str:
    """What to say of a purpose that is not among these: the one that is like it, else nothing."""
    folded = {other.casefold(): other for other in others}
    near = difflib.get_close_matches(purpose.casefold(), folded, n=1, cutoff=0.7)
    return f"; there is one with the purpose {folded[near[0]]!r}: is either misspelt?" if near else ""


def doubt(session: Session, purpose: str | None) -> str | None:
    """Why nobody may ever pass this purpose: nobody gave such a consent. None where somebody did, or none is asked."""
    if purpose is None or session.scalar(select(exists().where(Consent.purpose == purpose))):
        return None
    # what is like it is looked for among some: all may be millions
    looked_at = select(Consent.purpose).limit(100_000).subquery()
    some = session.scalars(select(looked_at.c.purpose).distinct())
    return f"nobody ever gave a consent with the purpose {purpose!r}, so this holds for nobody yet{like(purpose, some)}"
