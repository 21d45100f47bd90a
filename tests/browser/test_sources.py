"""The web application's own checks: unit tests, types, style and forbidden words."""

import subprocess

import pytest

from geocrm.settings import CHECKOUT

MAPS = CHECKOUT / "maps"


@pytest.mark.parametrize("chore", ["test", "check", "lint"])
def test_the_sources_pass_their_own_checks(chore: str) -> None:
    ran = subprocess.run(
        [CHECKOUT / "scripts" / "npm", "run", "--silent", chore], cwd=MAPS, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]


def test_the_lock_file_names_no_registry() -> None:
    content = (MAPS / "package-lock.json").read_text()
    assert '"resolved"' not in content
    assert '"integrity"' in content
