"""What can go wrong, said in words. No HTTP in here: the API maps each class to a status in one table."""

from collections.abc import Sequence
from typing import Any, TypedDict


class Fault(TypedDict, total=False):
    """One place in the input that is wrong: a JSON pointer, what is wrong there, and a line for files."""

    pointer: str
    detail: str
    line: int


class GeocrmError(Exception):
    """Something went wrong."""

    slug = "error"

    def __init__(self, detail: str | None = None, *, errors: Sequence[Fault] = (), **extra: Any) -> None:
        self.title = (type(self).__doc__ or "").strip().splitlines()[0]
        first = next(iter(errors), None)
        told = "" if first is None else f"{first.get('pointer', '').lstrip('/')}: {first.get('detail', '')}"
        self.detail = detail or told.removeprefix(": ").removesuffix(": ") or self.title
        self.errors = list(errors)
        self.extra = extra
        super().__init__(self.detail)


class Unauthenticated(GeocrmError):
    """Sign in, or send a valid API key."""

    slug = "unauthenticated"


class Forbidden(GeocrmError):
    """Your role or key does not allow this."""

    slug = "forbidden"


class ConsentRequired(Forbidden):
    """The customer's consent is needed for this."""

    slug = "consent-required"


class NotFound(GeocrmError):
    """There is no such object, or it is not yours to see."""

    slug = "not-found"


class Invalid(GeocrmError):
    """The input is not valid."""

    slug = "invalid"


class InvalidFilter(Invalid):
    """The filter is not valid."""

    slug = "invalid-filter"


class InvalidGeometry(Invalid):
    """The geometry is not valid."""

    slug = "invalid-geometry"


class InvalidFile(Invalid):
    """The file cannot be read."""

    slug = "invalid-file"


class TooLittleData(Invalid):
    """There is too little data for this method."""

    slug = "too-little-data"


class NotConverged(Invalid):
    """The method finds no answer in these data."""

    slug = "not-converged"


class TooLarge(GeocrmError):
    """The input is larger than allowed."""

    slug = "too-large"


class Conflict(GeocrmError):
    """The request conflicts with the present state."""

    slug = "conflict"


class TryAgain(Conflict):
    """Somebody else is changing the same things; nothing was changed here, try again."""

    slug = "try-again"
    retry_after_s = 1


class PreconditionFailed(GeocrmError):
    """Somebody changed it since you read it."""

    slug = "precondition-failed"


class PreconditionRequired(GeocrmError):
    """Send If-Match with the ETag you read, such as If-Match: "1"."""

    slug = "precondition-required"


class TooManyRequests(GeocrmError):
    """Too many requests."""

    slug = "too-many-requests"

    def __init__(self, detail: str | None = None, *, retry_after_s: int = 60, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after_s = retry_after_s


class Unavailable(GeocrmError):
    """The service cannot do this right now."""

    slug = "unavailable"


class SetupError(GeocrmError):
    """The machine or the database is not ready for geocrm."""

    slug = "setup"
