"""Fixtures of what is spatial."""

import pytest
from sqlalchemy.orm import Session

from tests.spatial.two_squares import Sales, make_sales_layer


@pytest.fixture
def sales(session: Session) -> Sales:
    """The primary layer, with two squares side by side."""
    return make_sales_layer(session)
