"""Runs of segmentations: start, progress, results, publish, compare."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response
from pydantic import Field

from geocrm import ids
from geocrm.access import Actor
from geocrm.api import pages
from geocrm.api.dependencies import CanEditSegments, CanPublishSegments, CanReadSegments, Reading, Writing, router
from geocrm.api.idempotency import Idempotent
from geocrm.api.jobs import StartedJob
from geocrm.api.segmentations import EXAMPLE_PARAMETERS, job_on_segmentation
from geocrm.api.shapes import Body, DayOrWhen, Flag, Named, Page, SegmentationId, Shown
from geocrm.db.models import Segmentation, SegmentationRun
from geocrm.errors import Conflict
from geocrm.segmentation import runs, segmentations, suppressing

routes = router("Segmentations")

RunNumber = Annotated[int, Path(ge=1, le=2_000_000_000, description="Number of the run.", examples=[3])]


class NewRun(Body):
    """By what was when, and with which chance."""

    cutoff: DayOrWhen | None = Field(None, description="Default: the beginning of today, UTC. Rules take none.")
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)] = runs.DEFAULT_SEED
    then_publish: Flag = Field(False, description="Publish it when it is done.")


class ShownRun(Shown):
    """A run."""

    segmentation_id: str = Field(examples=["sgm_2"])
    number: int = Field(examples=[3])
    status: str = Field(description="queued, running, done, failed or cancelled.", examples=["done"])
    is_current: bool = Field(description="It is the published one.")
    cutoff: datetime
    seed: int
    parameters: dict[str, Any] = Field(examples=[EXAMPLE_PARAMETERS])
    code_version: str | None = Field(examples=["0.1.0+3f2a9c0b1d4e"])
    data_version: str | None = Field(description="SHA-256 of all that was read.", examples=["9f86d081884c7d65"])
    result_version: str | None = Field(description="SHA-256 of members and scores.", examples=["60303ae22b998861"])
    score_names: list[str] = Field(examples=[["r", "f", "m"]])
    customers: int | None = Field(
        description="In a segment; null where they are fewer than 10 and you may not see each.", examples=[4180]
    )
    progress: dict[str, Any] = Field(examples=[{"phase": "done", "done": 4180}])
    error: dict[str, Any] | None = Field(examples=[None])
    kept: bool = Field(description="Members and scores are still there.")
    job_id: str | None = Field(examples=["job_12"])
    by: str | None = Field(examples=["usr_7"])
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    published_at: datetime | None


class ShownRunWithResults(ShownRun):
    """A run with what it found: segments, profiles, the choice of the number of groups, drift …, by method."""

    results: dict[str, Any] = Field(
        examples=[{"segments": [{"id": "seg_4", "name": "Champions", "size": 418, "share": 0.1}], "drift": None}]
    )


class StartedRun(Shown):
    """A run in the queue: look at its job, or at itself."""

    job_id: str = Field(examples=["job_12"])
    number: int = Field(examples=[3])


class Move(Shown):
    """Customers by their segments in two runs; null: in none."""

    from_segment: Named | None
    to_segment: Named | None
    customers: int = Field(examples=[37])


class Moves(Shown):
    """Who moved where between two runs, of the customers that you see."""

    from_run: int = Field(examples=[2])
    to_run: int = Field(examples=[3])
    data: list[Move]


def _run(actor: Actor, held: Segmentation, run: SegmentationRun) -> dict[str, Any]:
    return {
        "segmentation_id": ids.show("sgm", held.id),
        "number": run.number,
        "status": run.status,
        "is_current": run.id == held.current_run_id,
        "cutoff": run.cutoff,
        "seed": run.seed,
        "parameters": run.parameters,
        "code_version": run.code_version,
        "data_version": run.data_version,
        "result_version": run.result_version,
        "score_names": run.score_names,
        "customers": suppressing.customers_for(actor, run.customers),
        "progress": suppressing.progress_for(actor, run.progress),
        "error": suppressing.error_for(actor, run.error),
        "kept": run.kept,
        "job_id": ids.show("job", run.job_id),
        "by": ids.show("usr", run.actor_id),
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "published_at": run.published_at,
    }


@routes.post(
    "/segmentations/{segmentation_id}/runs",
    status_code=202,
    operation_id="run_segmentation",
    response_model=StartedRun,
    summary="Run a segmentation",
)
def run_segmentation(
    session: Writing, actor: CanEditSegments, once: Idempotent, segmentation_id: SegmentationId, new: NewRun
) -> Response:
    """A job beside what is published; nothing is shown of it before it is published."""

    def produce() -> tuple[Any, dict[str, str]]:
        run = runs.start(session, segmentation_id, actor=actor, **new.model_dump())
        shown = {"job_id": ids.show("job", run.job_id), "number": run.number}
        return shown, {"Location": f"/v1/segmentations/sgm_{segmentation_id}/runs/{run.number}"}

    return once.answer(session, actor, produce, shape=StartedRun, status=202)


@routes.get(
    "/segmentations/{segmentation_id}/runs",
    operation_id="list_segmentation_runs",
    response_model=Page[ShownRun],
    summary="List runs",
)
def list_segmentation_runs(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadSegments,
    segmentation_id: SegmentationId,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """The newest first, with progress, and why one failed."""
    held = segmentations.get_segmentation(session, segmentation_id)
    found = runs.find_runs(session, held.id, before=pages.read_id(cursor), limit=limit + 1)
    shown = [_run(actor, held, run) for run in found]
    return pages.page(request, response, shown, limit, lambda row: [row["number"]])


@routes.get(
    "/segmentations/{segmentation_id}/runs/{number}",
    operation_id="get_segmentation_run",
    response_model=ShownRunWithResults,
    summary="One run with its results",
)
def get_segmentation_run(
    session: Reading, actor: CanReadSegments, segmentation_id: SegmentationId, number: RunNumber
) -> object:
    """What it was made from and what it found, segments by the names that somebody gave them. Who does not see every
    customer is not told of groups under 10."""
    held = segmentations.get_segmentation(session, segmentation_id)
    run = runs.get_run(session, held.id, number)
    results = suppressing.results_for(actor, run.results)
    given = {
        ids.show("seg", one.id): one.name for one, _ in segmentations.segments_of(session, run) if one.named_by_hand
    }
    for row in results["segments"]:
        row["name"] = given.get(row["id"], row["name"])
    return _run(actor, held, run) | {"results": results}


@routes.post(
    "/segmentations/{segmentation_id}/runs/{number}/cancel",
    operation_id="cancel_segmentation_run",
    response_model=ShownRun,
    summary="Cancel a run",
)
def cancel_segmentation_run(
    session: Writing, actor: CanEditSegments, segmentation_id: SegmentationId, number: RunNumber
) -> object:
    """One that waits or is going on; it leaves nothing behind."""
    held = segmentations.get_segmentation(session, segmentation_id)
    return _run(actor, held, runs.cancel(session, held.id, number, actor=actor))


@routes.post(
    "/segmentations/{segmentation_id}/runs/{number}/publish",
    status_code=202,
    operation_id="publish_segmentation_run",
    response_model=StartedJob,
    summary="Publish a run",
)
def publish_segmentation_run(
    session: Writing, actor: CanPublishSegments, segmentation_id: SegmentationId, number: RunNumber
) -> object:
    """A job, in one transaction: filters, cards and, where the segmentation is active, lookups and tiles show this run
    from then on. A former run may be published again."""
    held = segmentations.get_segmentation(session, segmentation_id)
    run = runs.get_run(session, held.id, number)
    if run.status != "done" or not run.kept:
        why = f"it is {run.status}" if run.kept else "its members were deleted to make room"
        raise Conflict(f"Run {number} cannot be published: {why}.")
    return job_on_segmentation(session, actor, "segmentation.publish", held, {"number": number})


@routes.get(
    "/segmentations/{segmentation_id}/moves",
    operation_id="compare_segmentation_runs",
    response_model=Moves,
    summary="Who moved where",
)
def compare_segmentation_runs(
    session: Reading,
    actor: CanReadSegments,
    segmentation_id: SegmentationId,
    from_run: Annotated[int, Query(ge=1, le=2_000_000_000, examples=[2])],
    to_run: Annotated[int, Query(ge=1, le=2_000_000_000, examples=[3])],
) -> object:
    """Customers that you see by their segments in two runs."""
    held = segmentations.get_segmentation(session, segmentation_id)
    old, new = (runs.get_run(session, held.id, number) for number in (from_run, to_run))
    moves = runs.compare(session, old, new)
    names = {segment.id: segment.name for run in (old, new) for segment, _ in segmentations.segments_of(session, run)}
    return {
        "from_run": from_run,
        "to_run": to_run,
        "data": [
            {
                "from_segment": ids.reference("seg", before, names.get(before or 0)),
                "to_segment": ids.reference("seg", after, names.get(after or 0)),
                "customers": number,
            }
            for before, after, number in moves
        ],
    }
