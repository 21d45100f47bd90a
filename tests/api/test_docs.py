"""The reference of the API says what there is."""

import json
import re
from functools import cache
from typing import Any

from geocrm import access, errors
from geocrm.api import errors as answers
from geocrm.api.app import create_app
from geocrm.settings import CHECKOUT

PAGE = (CHECKOUT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")


@cache
def description() -> dict[str, Any]:
    """The document of the API, made once."""
    made: dict[str, Any] = json.loads(json.dumps(create_app().openapi()))
    return made


def every_error() -> set[type[errors.GeocrmError]]:
    found = {errors.GeocrmError}
    while True:
        more = {below for kind in found for below in kind.__subclasses__()} - found
        if not more:
            return {kind for kind in found if kind.__module__ == "geocrm.errors"}
        found |= more


def test_every_error_is_described_with_its_status() -> None:
    rows = dict.fromkeys(re.findall(r"`([a-z-]+)`", PAGE))
    for kind in every_error():
        assert kind.slug in rows, kind
        line = next(line for line in PAGE.splitlines() if line.startswith("|") and f"`{kind.slug}`" in line)
        assert f"| {answers.status_of(kind())} |" in line, kind
    for status, (slug, _) in answers._PLAIN.items():
        assert any(f"`{slug}`" in line and f"| {status} |" in line for line in PAGE.splitlines()), slug


def test_every_scope_is_described() -> None:
    for scope in access.SCOPES:
        assert f"`{scope}`" in PAGE, scope


def test_paths_in_the_reference_exist() -> None:
    paths = set(description()["paths"])
    for path in re.findall(r"`(?:GET|POST) (/v1/[^`?]*)`", PAGE):
        assert path in paths, path


def test_the_description_that_the_map_is_made_from_is_current() -> None:
    kept = json.loads((CHECKOUT / "maps" / "openapi.json").read_text(encoding="utf-8"))
    made = description()
    where = [
        f"{part}/{name}"
        for part in sorted(kept | made)
        for name in sorted(set(kept.get(part, ())) | set(made.get(part, ())))
        if kept.get(part) != made.get(part) and isinstance(made.get(part), dict)
        and kept.get(part, {}).get(name) != made[part].get(name)
    ]  # fmt: skip
    mend = "python -m geocrm.api.openapi > maps/openapi.json && scripts/npm run generate"
    assert kept == made, f"maps/openapi.json is out of date ({where[:5]}): {mend}"
