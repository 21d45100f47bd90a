"""Shapes of what clients send."""

import json
import re
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from geocrm.api import app, faults  # noqa: F401 (with the application all shapes are there)
from geocrm.api.offers import FenceTag
from geocrm.api.people import Email
from geocrm.api.shapes import Body, DayOrWhen, Name, Point, When


def _all_below(kind: type[Body]) -> list[type[Body]]:
    return [kind, *chain.from_iterable(map(_all_below, kind.__subclasses__()))]


def test_what_may_be_left_out_is_not_null_where_it_is_sent() -> None:
    needed = [(kind, name) for kind in _all_below(Body) for name in kind.never_null]
    assert len({kind for kind, _ in needed}) >= 8
    for kind, name in needed:
        assert name not in kind.model_validate({}).model_fields_set
        with pytest.raises(ValidationError, match=f"{name} cannot be null"):
            kind.model_validate({name: None})


def test_a_moment_names_its_offset_and_a_name_is_more_than_blanks() -> None:
    for moment in ("2026-01-31T09:00:00", "2026-01-31", "20260131T090000Z", "1769850000", 1769850000):
        with pytest.raises(ValidationError) as caught:
            TypeAdapter(When).validate_python(moment)
        assert "a time with its offset from UTC, such as 2026-01-31T0" in faults.of(caught.value.errors()[0]), moment
    assert TypeAdapter(When).validate_python("2026-01-31T10:00:00+01:00").isoformat() == "2026-01-31T09:00:00+00:00"
    assert TypeAdapter(DayOrWhen).validate_python("2026-01-31").isoformat() == "2026-01-31T00:00:00+00:00"
    assert TypeAdapter(Name).validate_python(" Spring coffee ") == "Spring coffee"
    for blank in ("", "   ", "\u00a0\t"):
        with pytest.raises(ValidationError) as caught:
            TypeAdapter(Name).validate_python(blank)
        assert faults.of(caught.value.errors()[0]) == "this may not be empty"


@pytest.mark.parametrize(
    ("shape", "given", "said"),
    [
        (Point, {"lon": 39.7, "lat": -104.9}, "expected at least -90: perhaps lon and lat are exchanged"),
        (Point, {"lon": "x", "lat": 0.0}, "expected a number"),
        (Point, {"lon": 0.0}, "this is needed"),
        (Point, [], "expected an object { … }"),
        (FenceTag, "Shops", f"expected {faults._TAG}, such as shops"),
        (Email, "a@", "expected at least 3 characters, not 2"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "expected at most 1 entries, not 2"),
        (Literal["a", "b"], "c", "expected 'a' or 'b'"),
    ],
)
def test_a_fault_says_what_is_expected(shape: Any, given: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(shape).validate_python(given)
    assert faults.of(caught.value.errors()[0]) == said


def test_every_pattern_that_the_api_asks_for_has_its_words() -> None:
    """Those of `Field(pattern=…)` stand in the description of the API; those of ids have sentences of their own."""
    described = (Path(__file__).parents[2] / "maps" / "openapi.json").read_text()
    asked = {json.loads(one) for one in re.findall(r'"pattern": ("[^\n]*")', described)}
    own = {r"\S", r'^(\*|"[^",]*"( *, *"[^",]*")*)$', r"^-?[0-9]{1,14}(\.[0-9]{1,4})?$"}  # these are read by hand
    assert "^[A-Z]{2}$" in asked
    assert {one for one in asked - own if "_[1-9][0-9]{0,17}" not in one} <= set(faults._FORMS)
