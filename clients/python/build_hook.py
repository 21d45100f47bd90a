"""Writes the generated modules whenever the package is built or installed, so that they are never out of date."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Generated(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the files are collected."""
        here = Path(self.root)
        write = runpy.run_path(str(here / "generate.py"))["write"]
        kept = here / "openapi.json"  # in a source distribution
        described = kept if kept.is_file() else here.parent.parent / "maps" / "openapi.json"
        made = write(described, here / "src" / "geocrm_client")
        build_data["artifacts"] += [f"/{path.relative_to(here).as_posix()}" for path in made]
