"""Runs of segmentations: computed beside what is published, reproducible, with progress, to be cancelled at any time.

A run writes members, scores and results in one transaction, in which it is also done: a worker that is killed leaves
nothing but a run to be done again. Memory is that of a chunk of customers, of the method's sample, and of 12 bytes a
customer for its id and label (value: 20), whatever their number.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import select, text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor, require
from geocrm.db import audit
from geocrm.db.copying import copy_encoded, driver, encode
from geocrm.db.engine import Database
from geocrm.db.models import Segmentation, SegmentationRun
from geocrm.db.queries import named
from geocrm.db.queue import enqueue
from geocrm.errors import Conflict, GeocrmError, Invalid, NotFound, TryAgain
from geocrm.segmentation import identities, shades, statistics
from geocrm.segmentation.methods import NONE, Draw, Method, Reader
from geocrm.segmentation.segmentations import METHODS, get_segmentation

SQL: Final = "segmentation"
KEEP: Final = 5
"""So many newest runs keep their members and scores, and the published one."""
DEFAULT_SEED: Final = 1
MONEY_SCORES: Final = ("worth", "worth_low", "worth_high")
_LOCK: Final = 730_541_720
_WRITE_ROWS: Final = 200_000


AGAIN: Final = (TryAgain, OperationalError, InterfaceError, psycopg.OperationalError)
"""What happens to a run that is not its fault: it is done again."""


class Cancelled(Exception):
    """The run was cancelled."""


# ---------------------------------------------------------------- asking for runs


def start(
    session: Session,
    segmentation_id: int,
    *,
    actor: Actor,
    cutoff: datetime | None = None,
    seed: int = DEFAULT_SEED,
    then_publish: bool = False,
    queued: bool = True,
) -> SegmentationRun:
    """Queue a run (or not: who asks does it then, by `execute`) by what was before `cutoff`, default the beginning of
    today in UTC, with the parameters of now.

    The same data, parameters, seed and code give the same members bit for bit. Raises NotFound, Forbidden, Invalid for
    a cutoff without time zone or to come, Conflict for an archived segmentation."""
    require(actor, "segmentations:write")
    if then_publish:
        require(actor, "segmentations:publish")
    held = get_segmentation(session, segmentation_id, lock=True)
    if held.archived_at is not None:
        raise Conflict("This segmentation is archived; take it back first.")
    now = datetime.now(UTC)
    moment = now.replace(hour=0, minute=0, second=0, microsecond=0) if cutoff is None else cutoff
    if METHODS[held.method].at_cutoff:
        moment = statistics.cutoff_moment(moment)
        if moment > now:
            fault = "a cutoff to come would call customers gone who had no chance to buy yet"
            raise Invalid(f"cutoff: {fault}", errors=[{"pointer": "/cutoff", "detail": fault}])
    elif cutoff is not None:
        fault = "rules are asked of what is known now; leave it out"
        raise Invalid(f"cutoff: {fault}", errors=[{"pointer": "/cutoff", "detail": fault}])
    else:
        moment = now
    run = SegmentationRun(
        segmentation_id=held.id,
        number=session.scalar(text(named(SQL, "next_number")), {"segmentation_id": held.id}),
        cutoff=moment,
        seed=seed,
        parameters=held.parameters,
        then_publish=then_publish,
        actor_id=actor.user_id,
    )
    session.add(run)
    session.flush()
    if queued:
        run.job_id = enqueue(
            session, "segmentation.run", {"run_id": run.id}, user_id=actor.user_id, key_id=actor.key_id,
            subject=ids.show("sgm", held.id), lock=f"segmentation:{held.id}",
        )  # fmt: skip
    session.flush()
    session.refresh(run)
    audit.record(
        session, "segmentation.run", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("sgm", held.id),
        after={"run": run.number, "cutoff": moment.isoformat(), "seed": seed},
    )  # fmt: skip
    return run


def start_due(session: Session, *, actor: Actor) -> list[int]:
    """Start runs of segmentations that refresh themselves and are due; their ids. Meant to run now and then."""
    due = session.scalars(text(named(SQL, "due"))).all()
    return [start(session, segmentation_id, actor=actor, then_publish=True).id for segmentation_id in due]


def cancel(session: Session, segmentation_id: int, number: int, *, actor: Actor) -> SegmentationRun:
    """Cancel a run that waits or is going on: it leaves nothing. Raises NotFound, Forbidden, and Conflict
    where it ended."""
    require(actor, "segmentations:write")
    run = get_run(session, segmentation_id, number, lock=True)
    if run.status not in ("queued", "running"):
        raise Conflict(f"Run {number} is {run.status}; there is nothing to cancel.")
    run.status = "cancelled"
    run.finished_at = datetime.now(UTC)
    session.flush()
    audit.record(
        session, "segmentation.cancel", actor_id=actor.user_id, key_id=actor.key_id,
        object_id=ids.show("sgm", segmentation_id), after={"run": number},
    )  # fmt: skip
    return run


def find_runs(
    session: Session, segmentation_id: int, *, before: int | None = None, limit: int = 50
) -> Sequence[SegmentationRun]:
    """Runs of a segmentation, the newest first."""
    query = select(SegmentationRun).where(SegmentationRun.segmentation_id == segmentation_id)
    if before is not None:
        query = query.where(SegmentationRun.number < before)
    return session.scalars(query.order_by(SegmentationRun.number.desc()).limit(limit)).all()


def get_run(session: Session, segmentation_id: int, number: int, *, lock: bool = False) -> SegmentationRun:
    """A run by its number; raises NotFound."""
    query = (
        select(SegmentationRun)
        .where(SegmentationRun.segmentation_id == segmentation_id, SegmentationRun.number == number)
        .execution_options(populate_existing=True)
    )
    run = session.scalars(query.with_for_update(key_share=True) if lock else query).one_or_none()
    if run is None:
        raise NotFound(f"There is no run {number} of this segmentation.")
    return run


def compare(session: Session, old: SegmentationRun, new: SegmentationRun) -> list[tuple[int | None, int | None, int]]:
    """Customers that the reader sees by their segments in two runs, as (old, new, how many); None: in none.

    Raises Conflict where members of one of them were deleted to make room."""
    for run in (old, new):
        if run.status != "done" or not run.kept:
            raise Conflict(f"Run {run.number} has no members (any more); run the segmentation again.")
    rows = session.execute(text(named(SQL, "moves")), {"from_run": old.id, "to_run": new.id})
    return [(row.from_id, row.to_id, row.customers) for row in rows]


@cache
def code_version() -> str:
    """The version of geocrm and a digest of the methods' source."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted([*here.rglob("*.py"), *(here.parent / "spatial").rglob("*.py")]):
        digest.update(str(path.relative_to(here.parent)).encode() + b"\0" + path.read_bytes())
    return f"{version('geocrm')}+{digest.hexdigest()[:12]}"


# ---------------------------------------------------------------- doing them


class Progress:
    """Tells how far a run is, over a connection of its own, at most twice a second, and learns whether it was
    cancelled. `queries` is the file of SQL that says where runs of this sort stand, `lock` who is at one.

    As a context: what makes the run fail is noted in it and goes on, unless it is to be done again; a run that was
    cancelled just ends."""

    def __init__(self, database: Database, run_id: int, *, queries: str = SQL, lock: int = _LOCK) -> None:
        self._connection = psycopg.connect(database.conninfo("worker"), autocommit=True)
        self._queries, self._lock = queries, lock
        self._run_id = run_id
        self._last = 0.0
        self._phase = ""
        self.state: dict[str, Any] = {}

    def begin(self) -> bool:
        """The run is going on; False where it was cancelled or has ended. Raises TryAgain where another is at it."""
        alone = self._connection.execute(
            "SELECT pg_try_advisory_lock(%s, CAST(%s AS integer))", (self._lock, self._run_id)
        )
        if alone.fetchone() != (True,):
            raise TryAgain("This run is being done by another worker.")
        return self._connection.execute(named(self._queries, "begin_run"), (self._run_id,)).fetchone() is not None

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        """`done` of `total` customers in a phase. Raises Cancelled."""
        if phase == self._phase and time.monotonic() - self._last < 0.5:
            return
        self._phase, self._last = phase, time.monotonic()
        self.state = {"phase": phase, "done": done, "total": total}
        row = self._connection.execute(
            named(self._queries, "tell_run"), (json.dumps(self.state), self._run_id)
        ).fetchone()
        if row is None:
            raise Cancelled

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> bool:
        try:
            if isinstance(error, Exception) and not isinstance(error, (Cancelled, *AGAIN)):
                self._fail(error)
        finally:
            self._connection.close()
        return isinstance(error, Cancelled)

    def _fail(self, fault: Exception) -> None:
        logged = GeocrmError("Something went wrong here; it has been logged.")
        error = fault if isinstance(fault, GeocrmError) else logged
        problem = {"title": error.title, "detail": error.detail, "errors": list(error.errors)}
        self._connection.execute(named(self._queries, "fail_run"), (json.dumps(problem), self._run_id))


def execute(database: Database, run_id: int, *, chunk_rows: int = 100_000) -> dict[str, Any]:
    """Do a run, in transactions of its own; to do it again after it was killed does no harm. What came of it: `status`
    done or cancelled, `customers` in a segment, `segments`.

    Raises what the method raises (TooLittleData, NotConverged, Invalid …), noted in the run; and TryAgain where the
    statistics were refreshed by somebody else meanwhile: do it again."""
    with Progress(database, run_id) as progress:
        if progress.begin():
            with database.writing() as session:
                run = session.get_one(SegmentationRun, run_id)
                held = session.get_one(Segmentation, run.segmentation_id)
            kind = METHODS[held.method]
            with _learning(database, run, kind):
                kind.check(run.parameters)
                standing = _refresh(database, run, kind, progress) if kind.at_cutoff else {}
                with database.writing() as session:
                    done = _compute(session, held, run, standing, progress, chunk_rows)
            return {"status": "done", "run": run.number} | done
    return {"status": "cancelled"}


@contextmanager
def _learning(database: Database, run: SegmentationRun, kind: type[Method]) -> Iterator[None]:
    """A run that fails or is cancelled within the block leaves no statistics that it was to learn from, but one that is
    done again; one that is done has taken them away itself."""
    try:
        yield
    except AGAIN:
        raise
    except Exception:
        with database.writing() as session:
            _forget_learnt(session, run, kind)
        raise


def _refresh(
    database: Database, run: SegmentationRun, kind: type[Method], progress: Progress
) -> dict[datetime, tuple[int, int]]:
    """Statistics of sales at all cutoffs of a run, of one moment: old orders that are imported meanwhile are in all of
    them or in none, and nobody seems to have ordered between two of them who did not. Which stand now, by cutoff."""
    standing = {}
    with database.writing_at_one_moment(statistics.LOCK) as session:
        for moment in kind.cutoffs(run.cutoff, run.parameters):
            progress(f"statistics of sales before {moment:%Y-%m-%d}", 0, None)
            statistics.refresh(session, moment, folder=database.settings.home, **_money(run.parameters))
            standing[moment] = _standing(session, moment)
    return standing


def _standing(session: Session, moment: datetime) -> tuple[int, int]:
    """Which statistics stand at a cutoff."""
    present = statistics.find_cutoff(session, moment)
    return (0, 0) if present is None else (present.id, present.version)


def _money(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The currency of a run and what others are worth in it, as `statistics.refresh` takes them."""
    if "rates" not in parameters:
        return {}
    return {
        "currency": parameters["currency"],
        "rates": {name: Decimal(str(rate)) for name, rate in parameters["rates"].items()},
    }


def _compute(
    session: Session,
    held: Segmentation,
    run: SegmentationRun,
    standing: Mapping[datetime, tuple[int, int]],
    progress: Progress,
    chunk_rows: int,
) -> dict[str, Any]:
    session.execute(text(named(SQL, "empty_run")), {"run_id": run.id})
    kind = METHODS[held.method]
    reader = Reader(session, run.cutoff, tell=progress, chunk_rows=chunk_rows)
    method = kind(reader, run.parameters, run.seed)
    digest = hashlib.sha256()
    all_ids: list[NDArray[np.int64]] = []
    all_labels: list[NDArray[np.int32]] = []
    shown = _Scored(run.seed)
    for part in method.parts():
        if part.scores.shape[1]:
            shown.add(part.scores)
            digest.update(np.ascontiguousarray(part.scores).tobytes())
            _write_scores(session, run.id, part.ids, part.scores)
        grouped = part.labels != NONE
        all_ids.append(part.ids[grouped])
        all_labels.append(part.labels[grouped])
    outcome = method.outcome()
    if any(_standing(session, moment) != former for moment, former in standing.items()):
        raise TryAgain("The statistics of customers were refreshed while they were read.")
    customers = np.concatenate(all_ids) if all_ids else np.zeros(0, dtype=np.int64)
    labels = np.concatenate(all_labels) if all_labels else np.zeros(0, dtype=np.int32)
    del all_ids, all_labels
    if outcome.labels is not None:
        labels = outcome.labels
    digest.update(customers.tobytes() + labels.tobytes())
    progress("writing members", 0, len(customers))
    former = identities.read_members(session, held.current_run_id)
    segments, lineages = identities.find_segments(
        session, held, outcome, customers, labels, digest.hexdigest(), named_by_label=kind.named
    )
    of_label = np.zeros(max(segments, default=-1) + 1, dtype=np.int64)
    for label, segment in segments.items():
        of_label[label] = segment.id
    of_customer = of_label[labels] if len(labels) else np.zeros(0, dtype=np.int64)
    for first in range(0, len(customers), _WRITE_ROWS):
        part_ids = customers[first : first + _WRITE_ROWS]
        rows = pa.table(
            {
                "customer_id": part_ids,
                "run_id": np.full(len(part_ids), run.id, dtype=np.int64),
                "segment_id": of_customer[first : first + _WRITE_ROWS],
            }
        )
        copy_encoded(driver(session), encode("segment_members", rows))
        progress("writing members", first + len(part_ids), len(customers))
    sizes = np.bincount(labels, minlength=len(of_label)) if len(labels) else np.zeros(len(of_label), dtype=np.int64)
    words = {group.label: group for group in outcome.groups}
    results = outcome.results | {
        "segments": [
            {
                "label": label, "segment": segment.id, "name": words[label].name, "sentence": words[label].sentence,
                "rule": words[label].rule, "size": int(sizes[label]),
                "share": float(sizes[label] / len(labels)) if len(labels) else 0.0,
            }
            for label, segment in segments.items()
        ],
        "drift": identities.tell_drift(session, held.current_run_id, former, customers, of_customer, lineages),
        "profiles": {str(segments[label].identity): row for label, row in outcome.profiles.items()},
        "shades": shown.shades(method.scores, outcome.results.get("currency")),
    }  # fmt: skip
    # whoever publishes an old run meanwhile has locked the segmentation: wait, and make room knowing what is shown
    session.get_one(Segmentation, held.id, with_for_update=True, populate_existing=True)
    finished = session.execute(
        text(named(SQL, "finish_run")),
        {
            "run_id": run.id, "code_version": code_version(), "data_version": reader.digest(),
            "result_version": digest.hexdigest(), "score_names": list(method.scores), "customers": len(customers),
            "results": json.dumps(results), "progress": json.dumps({"phase": "done", "done": len(customers)}),
        },
    ).scalar()  # fmt: skip
    if finished is None:
        raise Cancelled
    _make_room(session, held.id)
    _forget_learnt(session, run, kind)
    return {"customers": len(customers), "segments": sum(1 for size in sizes if size)}


class _Scored:
    """How scores are spread: how many customers have each, and a sample of at most 100,000 customers with any."""

    _SAMPLE: Final = 100_000

    def __init__(self, seed: int) -> None:
        self._customers: NDArray[np.int64] | int = 0
        self._drawn = Draw(self._SAMPLE, seed)

    def add(self, scores: NDArray[np.float32]) -> None:
        """The scores of the next customers, (n, number of scores)."""
        self._customers = self._customers + np.isfinite(scores).sum(axis=0)
        self._drawn.add(pd.DataFrame(scores[np.isfinite(scores).any(axis=1)]))

    def shades(self, names: Sequence[str], currency: str | None) -> dict[str, Any]:
        """By score: where its shades begin, how these were found, how many customers have it, its unit if money."""
        sample = self._drawn.frame()
        made = {}
        for place, name in enumerate(names if len(sample) else ()):
            if (found := shades.shades_of(sample[place].to_numpy())) is not None:
                counted = int(np.atleast_1d(self._customers)[place])
                unit = currency if name in MONEY_SCORES else None
                made[name] = dataclasses.asdict(found) | {"customers": counted, "unit": unit}
        return made


def _write_scores(session: Session, run_id: int, part_ids: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
    known = ~np.isnan(scores).all(axis=1)
    rows, width = int(known.sum()), scores.shape[1]
    if not rows:
        return
    flat = pa.array(np.ascontiguousarray(scores[known]).ravel(), pa.float32())
    numbers = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * width), flat)
    table = pa.table(
        {"customer_id": part_ids[known], "run_id": np.full(rows, run_id, dtype=np.int64), "numbers": numbers}
    )
    copy_encoded(driver(session), encode("scores", table))


def _make_room(session: Session, segmentation_id: int) -> None:
    """Delete members and scores of old runs, and statistics at cutoffs that no run needs any more."""
    gone = session.scalars(text(named(SQL, "forget_runs")), {"segmentation_id": segmentation_id, "keep": KEEP}).all()
    for run_id in gone:
        session.execute(text(named(SQL, "empty_run")), {"run_id": run_id})
    for cutoff in session.scalars(text(named(SQL, "forgettable_cutoffs"))).all() if gone else ():
        if cutoff < datetime.now(UTC) - timedelta(days=2):  # others may be reading it
            statistics.forget(session, cutoff)


def _forget_learnt(session: Session, run: SegmentationRun, kind: type[Method]) -> None:
    """Delete the statistics at earlier cutoffs that a run has learnt from, unless others need them."""
    learnt = {moment for moment in kind.cutoffs(run.cutoff, run.parameters) if moment != run.cutoff}
    if not kind.at_cutoff or not learnt:
        return
    needed = set(session.scalars(text(named(SQL, "needed_cutoffs"))))
    for other in session.execute(text(named(SQL, "going_on")), {"run_id": run.id}):
        needed |= set(METHODS[other.method].cutoffs(other.cutoff, other.parameters))
    for moment in learnt - needed:
        if statistics.find_cutoff(session, moment) is not None:
            statistics.forget(session, moment)
