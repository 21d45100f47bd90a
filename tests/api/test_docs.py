"""The reference of the API says what there is."""

import json
import re
from collections.abc import Iterator
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
    for status, (slug, _) in answers.PLAIN.items():
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


ID_OF = {
    "customer": "cus", "parent": ("cus", "tea"), "site": "sit", "contact": "con", "sale": "sal", "product": "prd",
    "place": "pla", "layer": "lay", "area": "ter", "polygon_area": "ter", "wins_area": "ter", "other": "ter",
    "territory": "ter", "territories": "ter", "user": "usr", "owner": "usr", "territory_owner": "usr", "actor": "usr",
    "by": "usr", "from_user": "usr", "to_user": "usr", "team": "tea", "teams": "tea", "key": "key", "job": "job",
    "import": "imp", "segment": "seg", "from_segment": "seg", "to_segment": "seg", "segmentation": "sgm",
    "offer": "off", "campaign": "cam",
    "automation": "aut", "audience": "aud", "task": "tsk", "assignee": "usr", "done_by": "usr",
    "event": "evt", "geofence": "fen", "webhook": "whk", "delivery": "dlv", "request": "req",
}  # fmt: skip
OVER = {"done", "failed", "undone", "cancelled", "delivered"}


def examples() -> Iterator[tuple[str, str, str, Any]]:
    """Operation, status (empty: the request), media type and example."""
    for path, item in description()["paths"].items():
        for method, operation in item.items():
            contents = [("", operation.get("requestBody", {}).get("content", {}))]
            contents += [(status, answer.get("content", {})) for status, answer in operation["responses"].items()]
            for status, content in contents:
                for kind, body in content.items():
                    if "example" in body:
                        yield f"{method.upper()} {path} {status}", status, kind, body["example"]


def test_the_example_of_a_problem_is_the_answer_of_its_status() -> None:
    slugs = {(status, slug): title for status, (slug, title) in answers.PLAIN.items()}
    slugs |= {(answers.status_of(kind()), kind.slug): kind().title for kind in every_error()}
    seen = set()
    for where, status, kind, example in examples():
        assert (kind == answers.PROBLEM) == (status >= "400" and kind.endswith("json")), where
        if kind == answers.PROBLEM:
            slug = example["type"].removeprefix(answers.TYPES)
            assert (example["status"], example["title"]) == (int(status), slugs[int(status), slug]), where
            assert ("errors" in example) == (status == "422"), where
            seen.add(status)
    assert {"401", "403", "404", "409", "412", "413", "422", "428", "429", "503"} <= seen


def test_ids_and_states_in_examples_are_those_of_their_fields() -> None:
    def check(part: Any, where: str, name: str) -> None:
        if isinstance(part, list):
            for each in part:
                check(each, where, name)
            return
        if not isinstance(part, dict):
            return
        if name in ID_OF and isinstance(part.get("id"), str):
            assert part["id"].startswith(ID_OF[name]), f"{where}: {name}.id is {part['id']}"
        for key, value in part.items():
            if key.endswith("_id") and key not in ("client_id", "external_id") and value is not None:
                assert value.startswith(ID_OF[key.removesuffix("_id")]), f"{where}: {key} is {value}"
            check(value, where, key)
        if "finished_at" in part:
            assert (part["finished_at"] is not None) == (part["status"] in OVER), where
        assert part.get("status") != "published" or part.get("published_at", "") is not None, where
        assert part.get("error") is None or part["status"] == "failed", where
        assert not {part.get("id"), part.get("kind"), part.get("status"), part.get("file_name")} & {"text"}, where

    for where, _, _, example in examples():
        check(example, where, "")


def test_the_example_of_an_upload_is_a_preview() -> None:
    found = {where: example for where, _, _, example in examples()}
    made = found["POST /v1/imports 202"]
    assert (made["status"], made["kind"], made["finished_at"], made["processed"]) == ("preview", "customers", None, 0)
    assert found["POST /v1/imports/{import_id}/run 202"]["import"]["status"] == "queued"
    assert found["POST /v1/imports/{import_id}/undo 202"]["import"]["status"] == "undoing"
    assert found["POST /v1/layers/{layer}/drafts 201"]["status"] == "draft"
