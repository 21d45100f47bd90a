"""Segmentations: how customers are divided, runs, publishing, members, previews while one is made."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor
from geocrm.api import pages
from geocrm.api.customer_edits import Attributes
from geocrm.api.dependencies import (
    CanEditSegments,
    CanPublishSegments,
    CanReadSegments,
    IfMatch,
    Reading,
    Writing,
    etag,
    router,
)
from geocrm.api.drafts import StartedJob
from geocrm.api.idempotency import Idempotent
from geocrm.api.shapes import Body, Flag, Name, Named, Page, SegmentationId, SegmentId, Shown, When
from geocrm.db import queue
from geocrm.db.models import Segment, Segmentation, SegmentationRun
from geocrm.errors import Conflict, Invalid
from geocrm.segmentation import groups, rules, runs, segmentations, suppressing

routes = router("Segmentations")

RunNumber = Annotated[int, Path(ge=1, le=2_000_000_000, description="Number of the run.", examples=[3])]
_RULE = {"field": "scores.rfm.m", "op": ">=", "value": 4}
_PARAMETERS = {"rules": [{"name": "Big spenders", "filter": _RULE}]}
MethodName = Literal["rfm", "groups", "value", "rule"]
RefreshDays = Annotated[
    int, Field(ge=1, le=366, strict=True, description="Run and publish by itself so often, in days.")
]


class ShownSegment(Shown):
    """A segment of the published run, the largest first."""

    id: str = Field(examples=["seg_4"])
    name: str = Field(examples=["Champions"])
    sentence: str = Field(examples=["recency 4 or 5, frequency and money 4 or 5, of 5"])
    rule: str = Field(description="In words, what tells a member; empty where nothing simple does.", examples=[""])
    customers: int | None = Field(
        description="Members that you see; null where there are fewer than 10 and you may not see each.", examples=[418]
    )
    share: float | None = Field(description="Of all in a segment.", examples=[0.17])
    version: int = Field(description="Its ETag.")


class ShownSegmentation(Shown):
    """A way to divide customers, with the segments of its published run."""

    id: str = Field(examples=["sgm_2"])
    key: str = Field(examples=["rfm"])
    name: str = Field(examples=["Recency, frequency, money"])
    method: str = Field(examples=["rule"])
    parameters: dict[str, Any] = Field(examples=[_PARAMETERS])
    refresh_days: int | None = Field(examples=[7])
    current_run: int | None = Field(description="Number of the published run.", examples=[3])
    cutoff: datetime | None = Field(description="What happened before it is what the published run knows.")
    score_names: list[str] = Field(description="For filters on scores.KEY.NAME.", examples=[["r", "f", "m"]])
    is_active: bool = Field(description="Lookups and tiles carry its segments.")
    archived_at: datetime | None
    version: int = Field(description="Its ETag.")
    created_at: datetime
    updated_at: datetime
    segments: list[ShownSegment]


class SegmentationList(Shown):
    """All segmentations, the active one first."""

    data: list[ShownSegmentation]
    methods: list[str] = Field(description="What a segmentation can be made by.", examples=[["rfm", "rule"]])


class NewSegmentation(Body):
    """A segmentation without runs yet."""

    key: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,60}$", examples=["spenders"])]
    name: Annotated[Name, Field(max_length=200, examples=["Spenders"])]
    method: MethodName = Field(examples=["rule"])
    parameters: Attributes = Field(default_factory=dict, description="By method.", examples=[_PARAMETERS])
    refresh_days: RefreshDays | None = None


class SegmentationEdit(Body):
    """What is to be different."""

    name: Annotated[Name, Field(max_length=200, examples=["Big spenders"])] | None = None
    parameters: Attributes | None = Field(None, examples=[_PARAMETERS])
    refresh_days: RefreshDays | None = None
    archived: Flag | None = Field(None, examples=[False])


class NewRun(Body):
    """By what was when, and with which chance."""

    cutoff: When | None = Field(None, description="Default: the beginning of today, UTC. Rules take none.")
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
    parameters: dict[str, Any] = Field(examples=[_PARAMETERS])
    code_version: str | None = Field(examples=["0.1.0+3f2a9c0b1d4e"])
    data_version: str | None = Field(description="SHA-256 of all that was read.", examples=["9f86d081884c7d65"])
    result_version: str | None = Field(description="SHA-256 of members and scores.", examples=["60303ae22b998861"])
    score_names: list[str] = Field(examples=[["r", "f", "m"]])
    customers: int | None = Field(description="In a segment.", examples=[4180])
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


class SegmentName(Body):
    """Another name."""

    name: Annotated[Name, Field(max_length=200, examples=["Regulars near a shop"])]


class OneSegment(Shown):
    """A segment by itself."""

    id: str = Field(examples=["seg_4"])
    name: str = Field(examples=["Champions"])
    named_by_hand: bool
    sentence: str
    rule: str = Field(examples=[""])
    segmentation: Named
    version: int = Field(description="Its ETag.")


class Member(Shown):
    """A member of a segment."""

    id: str = Field(examples=["cus_1042"])
    name: str
    kind: str
    stage: str = Field(examples=["active"])
    owner: Named | None
    scores: dict[str, float | None] = Field(examples=[{"r": 5.0, "f": 4.0, "m": 5.0}])


class PreviewOf(Body):
    """What to preview: a rule, or groups."""

    method: Literal["rule", "groups"] = Field(examples=["rule"])
    filter: Attributes | None = Field(None, description="Of a rule: the filter.", examples=[_RULE])
    parameters: Attributes | None = Field(None, description="Of groups: as in a segmentation.", examples=[None])
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)] = runs.DEFAULT_SEED


class RulePreview(Shown):
    """A rule in words, and how many pass it."""

    sentence: str = Field(examples=["m (rfm) at least 4"])
    customers: int = Field(examples=[418])
    exact: bool = Field(description="Counted; else told from a sample, because counting takes long.")
    looked_at: int = Field(description="Customers counted, or looked at in the sample.", examples=[418])


class PreviewedGroup(Shown):
    """A group of the sample."""

    group: int = Field(examples=[0])
    name: str = Field(examples=["Frequent buyers, close to a shop"])
    sentence: str = Field(examples=["within 2.1 km of a shop, buys every 3 weeks"])
    customers: int = Field(description="In the sample.", examples=[418])
    share: float = Field(examples=[0.41])


class PreviewedCustomer(Shown):
    """A customer of the sample."""

    id: str = Field(examples=["cus_1042"])
    group: int = Field(examples=[0])
    lon: float | None
    lat: float | None


class GroupsPreview(Shown):
    """Groups as they would be, on a sample."""

    sample: int = Field(description="Customers in the sample.", examples=[1000])
    verdict: str = Field(
        examples=["A tree of three questions puts 91 % of customers it has not seen into their group."]
    )
    notes: list[str] = Field(examples=[[]])
    groups: list[PreviewedGroup]
    customers: list[PreviewedCustomer]


class Preview(Shown):
    """Of a rule or of groups, as was asked."""

    rule: RulePreview | None
    groups: GroupsPreview | None = Field(examples=[None])


# ---------------------------------------------------------------- showing


def _segmentation(session: Session, actor: Actor, held: Segmentation) -> dict[str, Any]:
    """A segmentation; the session is entered as the actor."""
    run = None if held.current_run_id is None else session.get(SegmentationRun, held.current_run_id)
    return {
        "id": ids.show("sgm", held.id),
        "key": held.key,
        "name": held.name,
        "method": held.method,
        "parameters": held.parameters,
        "refresh_days": held.refresh_days,
        "current_run": None if run is None else run.number,
        "cutoff": None if run is None else run.cutoff,
        "score_names": [] if run is None else run.score_names,
        "is_active": held.is_active,
        "archived_at": held.archived_at,
        "version": held.version,
        "created_at": held.created_at,
        "updated_at": held.updated_at,
        "segments": [] if run is None else _segments(session, actor, run),
    }


def _segments(session: Session, actor: Actor, run: SegmentationRun) -> list[dict[str, Any]]:
    held = segmentations.segments_of(session, run)
    if actor.sees_all:
        seen = {segment.id: int(said["size"]) for segment, said in held}
    else:
        counted = segmentations.count_members(session, run)
        seen = {segment.id: counted.get(segment.id, 0) for segment, _ in held}
    total = sum(seen.values())
    return sorted(
        (
            {
                "id": ids.show("seg", segment.id),
                "name": segment.name,
                "sentence": said["sentence"],
                "rule": said["rule"],
                "customers": seen[segment.id],
                "share": seen[segment.id] / total if total else None,
                "version": segment.version,
            }
            for segment, said in held
        ),
        key=lambda row: -row["customers"],
    )


def _run(held: Segmentation, run: SegmentationRun) -> dict[str, Any]:
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
        "customers": run.customers,
        "progress": run.progress,
        "error": run.error,
        "kept": run.kept,
        "job_id": ids.show("job", run.job_id),
        "by": ids.show("usr", run.actor_id),
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "published_at": run.published_at,
    }


def _segment(segment: Segment, held: Segmentation) -> dict[str, Any]:
    return {
        "id": ids.show("seg", segment.id),
        "name": segment.name,
        "named_by_hand": segment.named_by_hand,
        "sentence": segment.sentence,
        "rule": segment.rule,
        "segmentation": ids.reference("sgm", held.id, held.name),
        "version": segment.version,
    }


# ---------------------------------------------------------------- segmentations


@routes.get(
    "/segmentations", operation_id="list_segmentations", response_model=SegmentationList, summary="List segmentations"
)
def list_segmentations(
    session: Reading,
    actor: CanReadSegments,
    archived: Annotated[bool, Query(description="Archived ones too.")] = False,
) -> object:
    """All of them, the active one first, with the segments of their published runs and how many members you see."""
    found = segmentations.find_segmentations(session, archived=archived)
    shown = [_segmentation(session, actor, held) for held in found]
    return {"data": shown, "methods": list(segmentations.METHODS)}


@routes.post(
    "/segmentations",
    status_code=201,
    operation_id="create_segmentation",
    response_model=ShownSegmentation,
    summary="Create a segmentation",
)
def create_segmentation(session: Writing, actor: CanEditSegments, once: Idempotent, new: NewSegmentation) -> Response:
    """Nothing is computed yet: run it next, look at the results, and publish them."""

    def produce() -> tuple[Any, dict[str, str]]:
        held = segmentations.create_segmentation(session, actor=actor, **new.model_dump())
        shown = _segmentation(session, actor, held)
        return shown, {"Location": f"/v1/segmentations/{shown['id']}", "ETag": etag(held.version)}

    return once.answer(session, actor, produce, shape=ShownSegmentation)


@routes.post(
    "/segmentations/preview",
    operation_id="preview_segmentation",
    response_model=Preview,
    summary="Preview a rule or groups",
)
def preview_segmentation(session: Writing, actor: CanEditSegments, wanted: PreviewOf) -> object:
    """A rule's sentence and live count; groups of a sample at a position of the dial, with its customers for the map.

    Nothing is stored. Groups need the statistics of a former run."""
    if wanted.method == "rule":
        if wanted.filter is None or wanted.parameters is not None:
            fault = "a rule's preview takes a filter, and no parameters"
            raise Invalid(fault, errors=[{"pointer": "/filter", "detail": fault}])
        with access.as_user(session, actor):
            counted = rules.preview(session, actor, wanted.filter)
        shown = {"sentence": counted.sentence, "customers": counted.customers, "exact": counted.exact}
        return {"rule": shown | {"looked_at": counted.looked_at}, "groups": None}
    if wanted.filter is not None:
        fault = "a preview of groups takes parameters, and no filter"
        raise Invalid(fault, errors=[{"pointer": "/filter", "detail": fault}])
    found = groups.preview(session, wanted.parameters or {}, seed=wanted.seed)
    customers = zip(found.ids, found.labels, found.lon, found.lat, strict=True)
    return {
        "rule": None,
        "groups": {
            "sample": found.sample,
            "verdict": found.verdict,
            "notes": list(found.notes),
            "groups": [
                {"group": one.group, "name": one.name, "sentence": one.sentence, "customers": one.size,
                 "share": one.share}
                for one in found.groups
            ],
            "customers": [
                {"id": ids.show("cus", int(number)), "group": int(group), "lon": _known(lon), "lat": _known(lat)}
                for number, group, lon, lat in customers
            ],
        },
    }  # fmt: skip


def _known(value: float) -> float | None:
    return float(value) if value == value else None


@routes.get(
    "/segmentations/{segmentation_id}",
    operation_id="get_segmentation",
    response_model=ShownSegmentation,
    summary="One segmentation",
)
def get_segmentation(
    response: Response, session: Reading, actor: CanReadSegments, segmentation_id: SegmentationId
) -> object:
    """A segmentation with the segments of its published run, largest first, and how many members you see."""
    held = segmentations.get_segmentation(session, segmentation_id)
    response.headers["ETag"] = etag(held.version)
    return _segmentation(session, actor, held)


@routes.patch(
    "/segmentations/{segmentation_id}",
    operation_id="edit_segmentation",
    response_model=ShownSegmentation,
    summary="Edit a segmentation",
)
def edit_segmentation(
    response: Response,
    session: Writing,
    actor: CanEditSegments,
    segmentation_id: SegmentationId,
    expected: IfMatch,
    edit: SegmentationEdit,
) -> object:
    """Name, parameters of the next run, how often it refreshes itself, whether it is archived. Runs made before keep
    what they were made with."""
    held = segmentations.get_segmentation(session, segmentation_id, lock=True)
    expected.check(held.version)
    held = segmentations.edit_segmentation(session, segmentation_id, actor=actor, **edit.model_dump(exclude_unset=True))
    response.headers["ETag"] = etag(held.version)
    return _segmentation(session, actor, held)


@routes.post(
    "/segmentations/{segmentation_id}/activate",
    status_code=202,
    operation_id="activate_segmentation",
    response_model=StartedJob,
    summary="Show it on map and lookups",
)
def activate_segmentation(session: Writing, actor: CanPublishSegments, segmentation_id: SegmentationId) -> object:
    """A job, in one transaction: lookups and tiles carry the segments of this segmentation instead of another's."""
    held = segmentations.get_segmentation(session, segmentation_id)
    if held.current_run_id is None:
        raise Conflict("Publish a run of this segmentation first.")
    return _enqueue(session, actor, "segmentation.activate", held, {})


@routes.post(
    "/segmentations/{segmentation_id}/revert",
    status_code=202,
    operation_id="revert_segmentation",
    response_model=StartedJob,
    summary="Go back to the former run",
)
def revert_segmentation(session: Writing, actor: CanPublishSegments, segmentation_id: SegmentationId) -> object:
    """A job that publishes the run again that was published before the present one."""
    held = segmentations.get_segmentation(session, segmentation_id)
    return _enqueue(session, actor, "segmentation.publish", held, {"number": None})


# ---------------------------------------------------------------- runs


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
    key = pages.read(cursor, int)
    found = runs.find_runs(session, held.id, before=key[0] if key else None, limit=limit + 1)
    shown = [_run(held, run) for run in found]
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
    """What it was made from and what it found. Who does not see every customer is not told of groups under 10."""
    held = segmentations.get_segmentation(session, segmentation_id)
    run = runs.get_run(session, held.id, number)
    return _run(held, run) | {"results": suppressing.results_for(actor, run.results)}


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
    return _run(held, runs.cancel(session, held.id, number, actor=actor))


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
    return _enqueue(session, actor, "segmentation.publish", held, {"number": number})


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


def _enqueue(session: Session, actor: Actor, name: str, held: Segmentation, args: dict[str, Any]) -> dict[str, Any]:
    job = queue.enqueue(
        session,
        name,
        {"segmentation_id": held.id, "user_id": actor.user_id, "key_id": actor.key_id} | args,
        user_id=actor.user_id,
        key_id=actor.key_id,
        subject=ids.show("sgm", held.id),
        lock="segmentations",
    )
    return {"job_id": ids.show("job", job)}


# ---------------------------------------------------------------- segments


@routes.get("/segments/{segment_id}", operation_id="get_segment", response_model=OneSegment, summary="One segment")
def get_segment(response: Response, session: Reading, actor: CanReadSegments, segment_id: SegmentId) -> object:
    """A segment: the same from run to run, for as long as most of its members stay together."""
    segment, held = segmentations.get_segment(session, segment_id)
    response.headers["ETag"] = etag(segment.version)
    return _segment(segment, held)


@routes.patch(
    "/segments/{segment_id}", operation_id="rename_segment", response_model=OneSegment, summary="Name a segment"
)
def rename_segment(
    response: Response,
    session: Writing,
    actor: CanEditSegments,
    segment_id: SegmentId,
    expected: IfMatch,
    new: SegmentName,
) -> object:
    """The name stays, whatever later runs would call it. A rule's segment is named in its rule."""
    expected.check(segmentations.get_segment(session, segment_id)[0].version)
    segment = segmentations.rename_segment(session, segment_id, new.name, actor=actor)
    response.headers["ETag"] = etag(segment.version)
    return _segment(segment, segmentations.get_segmentation(session, segment.segmentation_id))


@routes.get(
    "/segments/{segment_id}/members",
    operation_id="list_segment_members",
    response_model=Page[Member],
    summary="Members of a segment",
)
def list_segment_members(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadSegments,
    segment_id: SegmentId,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """The customers that you see in the segment by the published run, by id, with their scores."""
    segment, held = segmentations.get_segment(session, segment_id)
    key = pages.read(cursor, int)
    found: list[dict[str, Any]] = []
    if held.current_run_id is not None:
        run = session.get_one(SegmentationRun, held.current_run_id)
        found = segmentations.find_members(session, segment, run, after=key[0] if key else 0, limit=limit + 1)
    return pages.page(request, response, found, limit, lambda row: [ids.read("cus", row["id"])])
