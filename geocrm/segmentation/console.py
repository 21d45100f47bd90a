"""What `geocrm segments` does: list, create, run, publish, look."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from geocrm.access import SYSTEM
from geocrm.db.engine import command_database, command_session
from geocrm.db.models import SegmentationRun
from geocrm.errors import Invalid
from geocrm.segmentation import publishing, runs, segmentations

Echo = Callable[[str], Any]


def show_list(*, as_json: bool, echo: Echo) -> None:
    """A line for each segmentation: key, method, what is published, whether lookups carry it."""
    with command_session() as session:
        rows = []
        for held in segmentations.find_segmentations(session):
            run = None if held.current_run_id is None else session.get_one(SegmentationRun, held.current_run_id)
            rows.append(
                {
                    "key": held.key,
                    "name": held.name,
                    "method": held.method,
                    "published_run": None if run is None else run.number,
                    "cutoff": None if run is None else run.cutoff.isoformat(),
                    "customers": None if run is None else run.customers,
                    "is_active": held.is_active,
                }
            )
    if as_json:
        echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    if not rows:
        echo("No segmentations yet: `geocrm segments create rfm --method rfm` makes one.")
    width = max((len(str(row["key"])) for row in rows), default=0)
    for row in rows:
        shown = "nothing published"
        if row["published_run"] is not None:
            shown = f"run {row['published_run']} published, {row['customers']:,} customers"
        active = " (active)" if row["is_active"] else ""
        echo(f"{row['key']:<{width}}  {row['method']:<8}  {row['name']}: {shown}{active}")


def read_parameters(file: Path | None) -> dict[str, Any]:
    """The parameters in a JSON file, none without one; raises Invalid for a file that holds no object."""
    if file is None:
        return {}
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise Invalid(f"{file} is not readable JSON: {error}") from None
    if not isinstance(given, dict):
        raise Invalid(f"{file} has to hold an object of parameters.")
    return given


def create(key: str, name: str | None, method: str, parameters: Path | None, *, echo: Echo) -> None:
    """Make a segmentation, its parameters from a JSON file."""
    given = read_parameters(parameters)
    with command_session() as session:
        held = segmentations.create_segmentation(
            session, actor=SYSTEM, key=key, name=name or key, method=method, parameters=given
        )
        echo(f"Segmentation {held.key} is there; `geocrm segments run {held.key}` computes it.")


def run(key: str, cutoff: datetime | None, seed: int, *, then_publish: bool, echo: Echo) -> None:
    """Run a segmentation here and now, and show its segments."""
    with command_database() as database:
        with database.writing() as session:
            held = segmentations.get_segmentation(session, key)
            started = runs.start(session, held.id, actor=SYSTEM, cutoff=cutoff, seed=seed, queued=False)
        runs.execute(database, started.id)
        with database.writing() as session:
            done = runs.get_run(session, held.id, started.number)
            if done.status != "done":
                echo(f"Run {done.number} of {key} was {done.status}.")
                return
            if then_publish:
                publishing.publish(session, held.id, done.number, actor=SYSTEM)
            say = "is published" if then_publish else "is done, not published"
            echo(f"Run {done.number} of {key} {say}: {done.customers:,} customers.")
            for segment, said in segmentations.segments_of(session, done):
                if said["size"]:
                    echo(f"  {segment.name:<40} {said['size']:>11,}  {100 * said['share']:5.1f} %  {said['sentence']}")
            for line in _found(done.results):
                echo(f"  {line}")


def _found(results: dict[str, Any]) -> Iterator[str]:
    """What else a run found, in sentences: why so many groups, does place help, what drives leaving, the churn rate,
    notes."""
    if results.get("choice"):
        yield results["choice"]["reason"]
    if results.get("place"):
        yield results["place"]["sentence"]
    if drivers := [row["meaning"] for row in results.get("drivers", []) if row["low"] > 0]:
        yield f"What drives leaving, the strongest first: {'; '.join(drivers[:5])}."
    yield from (row["sentence"] for row in results.get("churn_rate", []) if row["total"])
    yield from results.get("notes", [])


def publish(key: str, number: int, *, echo: Echo) -> None:
    """Let a run be the one that is shown."""
    with command_session() as session:
        held = segmentations.get_segmentation(session, key)
        done = publishing.publish(session, held.id, number, actor=SYSTEM)
        echo(f"Run {done.run} of {key} is published; {done.lookup_rows} lookup rows followed.")


def revert(key: str, *, echo: Echo) -> None:
    """Publish the run again that was published before."""
    with command_session() as session:
        held = segmentations.get_segmentation(session, key)
        done = publishing.revert(session, held.id, actor=SYSTEM)
        echo(f"Run {done.run} of {key} is published again; {done.lookup_rows} lookup rows followed.")


def activate(key: str, *, echo: Echo) -> None:
    """Let lookups and tiles carry the segments of a segmentation."""
    with command_session() as session:
        held = segmentations.get_segmentation(session, key)
        done = publishing.activate(session, held.id, actor=SYSTEM)
        echo(f"Lookups and tiles carry the segments of {key} now; {done.lookup_rows} rows followed.")
