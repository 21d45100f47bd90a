"""Arrays of numbers as text: psycopg looks at each element of a list for what to quote, which takes its time."""

from collections.abc import Iterable


def of_numbers(values: Iterable[float | bool | None]) -> str:
    """A PostgreSQL array of numbers or truths, to be cast where it is bound; None is NULL."""
    return "{" + ",".join(["NULL" if value is None else repr(value) for value in values]) + "}"
