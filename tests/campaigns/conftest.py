"""A fence that automations watch."""

import pytest
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM
from geocrm.campaigns import geofences
from tests.campaigns.automated import CIRCLE


@pytest.fixture
def fence(session: Session) -> int:
    return geofences.put(session, SYSTEM, "shops", "a", CIRCLE).fence_id
