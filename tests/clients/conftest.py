"""The Python client as `pip install` would leave it, built without a network."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from geocrm.settings import CHECKOUT


def build_python_client(folder: Path) -> Path:
    """A directory for PYTHONPATH that holds nothing but the built client."""
    for name in ("clients/python", "maps/openapi.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    generated = shutil.ignore_patterns("shapes.py", "operations.py", "__pycache__", "dist")
    shutil.copytree(CHECKOUT / "clients" / "python", folder / "clients" / "python", ignore=generated)
    shutil.copy(CHECKOUT / "maps" / "openapi.json", folder / "maps")
    subprocess.run(
        # as pip asks for it: nothing of the current directory is importable
        [sys.executable, "-I", "-c", "from hatchling.build import build_wheel; build_wheel('dist')"],
        cwd=folder / "clients" / "python", check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = (folder / "clients" / "python" / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the client is installed; importable."""
    made = build_python_client(tmp_path_factory.mktemp("client"))
    sys.path.insert(0, str(made))
    yield made
    sys.path.remove(str(made))
