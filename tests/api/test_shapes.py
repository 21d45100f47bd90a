"""Shapes of what clients send."""

from itertools import chain

import pytest
from pydantic import ValidationError

from geocrm.api import app  # noqa: F401 (with it all shapes are there)
from geocrm.api.shapes import Body


def _all_below(kind: type[Body]) -> list[type[Body]]:
    return [kind, *chain.from_iterable(map(_all_below, kind.__subclasses__()))]


def test_what_may_be_left_out_is_not_null_where_it_is_sent() -> None:
    needed = [(kind, name) for kind in _all_below(Body) for name in kind.never_null]
    assert len({kind for kind, _ in needed}) >= 8
    for kind, name in needed:
        assert name not in kind.model_validate({}).model_fields_set
        with pytest.raises(ValidationError, match=f"{name} cannot be null"):
            kind.model_validate({name: None})
