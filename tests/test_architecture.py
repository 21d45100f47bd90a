"""The house keeps its plan: who may import whom, where frameworks may be named, what the tree never names."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "geocrm"

# A part may import parts of a lower number, and itself. Equal numbers do not import each other.
LEVELS = {
    **dict.fromkeys(["settings", "errors"], -1),
    **dict.fromkeys(["ids", "logs"], 0),
    "db": 1,
    "access": 2,
    **dict.fromkeys(["filter_words", "filter_tree", "filter_sql", "filters"], 3),
    "spatial": 4,
    "segmentation": 5,
    "crm": 6,
    **dict.fromkeys(["ingest", "campaigns"], 7),
    **dict.fromkeys(["frames", "fence_files"], 8),
    **dict.fromkeys(["reports", "demo"], 9),
    "jobs": 10,
    **dict.fromkeys(["api", "up", "texts"], 11),
    "cli": 12,
}
FILTERS = {"filter_words", "filter_tree", "filter_sql", "filters"}  # one language in several files

PURE = [
    "spatial/crs.py",
    "spatial/huff.py",
    "spatial/hotspots.py",
    "spatial/intervals.py",
    "spatial/neighbours.py",
    "spatial/penetration.py",
    "spatial/randomisation.py",
    "spatial/rates.py",
    "spatial/suppression.py",
    "segmentation/rfm.py",
    "segmentation/clv",
    "segmentation/as_json.py",
    "segmentation/calibration.py",
    "segmentation/churn.py",
    "segmentation/churn_rate.py",
    "segmentation/classifiers.py",
    "segmentation/clusters.py",
    "segmentation/drift.py",
    "segmentation/explain.py",
    "segmentation/feature_registry.py",
    "segmentation/drivers.py",
    "segmentation/adding_up.py",
    "segmentation/backtest.py",
    "segmentation/forecast.py",
    "segmentation/handing_on.py",
    "segmentation/kmeans.py",
    "segmentation/lift.py",
    "segmentation/offers.py",
    "segmentation/place.py",
    "segmentation/place_gain.py",
    "segmentation/regions.py",
    "segmentation/sales_statistics.py",
    "segmentation/scaling.py",
    "segmentation/shades.py",
    "segmentation/smoothing.py",
    "segmentation/stability.py",
    "segmentation/validation.py",
    "campaigns/crossings.py",
    "campaigns/experiments.py",
    "campaigns/fence_index.py",
    "campaigns/holdouts.py",
    "campaigns/hours.py",
    "campaigns/schedules.py",
    "reports/charts.py",
    "reports/segments_content.py",
    "reports/segments_page.py",
    "reports/segments_what.py",
    "reports/segments_who.py",
]
DATABASE_AND_NETWORK = {
    *("sqlalchemy", "psycopg", "geoalchemy2", "alembic", "procrastinate", "asyncpg", "socket", "http", "urllib"),
    *("requests", "httpx", "httpx2", "aiohttp"),
}
FORBIDDEN_NAMES = {
    *("util", "utils", "utility", "utilities", "helper", "helpers", "service", "services", "manager", "managers"),
    *("repository", "repositories", "misc", "common"),
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The first word of a module below geocrm: `spatial` for geocrm/spatial/areas.py."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and full name of every import that runs (also those inside functions; not those for type checkers)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    package = ["geocrm", *path.relative_to(PACKAGE).parts[:-1]]
    found = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            found += [(node.lineno, f"{name}.{alias.name}") for alias in node.names]
    return found


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_every_part_has_its_place() -> None:
    parts = {part_of(path) for path in modules()} - {"__init__", "__main__"}
    assert parts <= set(LEVELS), f"{parts - set(LEVELS)}: give it a level in {Path(__file__).name}"


def test_imports_go_one_way() -> None:
    wrong = []
    for path in modules():
        own = part_of(path)
        if own in ("__init__", "__main__"):  # the front door may name everything
            continue
        for line, name in imports(path):
            words = name.split(".")
            if words[0] != "geocrm" or len(words) < 2 or words[1] not in LEVELS:
                continue
            other = words[1]
            if other == own or {own, other} <= FILTERS:
                continue
            if LEVELS[other] >= LEVELS[own]:
                wrong.append(f"{where(path, line)}: {own} may not import {other}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("framework", "place"),
    [("fastapi", "api"), ("starlette", "api"), ("typer", "cli"), ("click", "cli"), ("uvicorn", "api")],
)
def test_frameworks_stay_in_their_room(framework: str, place: str) -> None:
    wrong = [
        where(path, line)
        for path in modules()
        if part_of(path) != place
        for line, name in imports(path)
        if name.split(".")[0] == framework
    ]
    assert not wrong, f"{framework} belongs in {place} alone: {wrong}"


def test_mathematics_knows_no_database() -> None:
    present = [path for path in modules() for name in PURE if path.is_relative_to(PACKAGE / name)]
    assert present, "none of the pure files is there: the list is out of date"
    wrong = [
        f"{where(path, line)} imports {name}"
        for path in present
        for line, name in imports(path)
        if name.split(".")[0] in DATABASE_AND_NETWORK or name.startswith(("geocrm.db", "geocrm.settings"))
    ]
    assert not wrong, "\n".join(wrong)


def test_commits_are_made_in_one_place() -> None:
    """One transaction a request or job: elsewhere `flush`, never `commit`."""
    wrong = []
    for path in modules():
        if part_of(path) == "db" or path == PACKAGE / "api" / "dependencies.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit":
                wrong.append(where(path, node.lineno))
    assert not wrong, f"commit belongs into geocrm/db and geocrm/api/dependencies.py: {wrong}"


def committed() -> list[Path]:
    """Files that git knows; without git (an unpacked archive), there is nothing to say."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_module_without_a_subject() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in committed()
        for part in path.relative_to(ROOT).with_suffix("").parts
        if part.lower() in FORBIDDEN_NAMES
    ]
    assert not wrong, f"name the subject instead: {wrong}"


def test_tree_names_no_registry_and_no_machine() -> None:
    """Lock files carry versions and hashes; where packages come from is the machine's own setting."""
    hosts = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com", "registry." + "yarnpkg"]
    machine = re.compile("|".join(["/ro" + "ot/", "/wo" + "rk/", "/ho" + r"me/\w"]))
    wrong = []
    for path in committed():
        if path.stat().st_size > 5_000_000:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # pictures and other binary files
        for number, line in enumerate(text.splitlines(), 1):
            if any(host in line for host in hosts):
                wrong.append(f"{path.relative_to(ROOT)}:{number} names a package registry")
            if machine.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number} names a path of one machine: {line.strip()[:80]}")
    assert not wrong, "\n".join(wrong)
