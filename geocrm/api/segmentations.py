"""Segmentations: how customers are divided, what is shown, previews while one is made."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Response
from pydantic import Field
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor
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
from geocrm.api.idempotency import Idempotent
from geocrm.api.jobs import StartedJob, started_job
from geocrm.api.shapes import Body, Flag, Name, SegmentationId, Shown
from geocrm.db.models import Segmentation, SegmentationRun
from geocrm.errors import Conflict, Invalid
from geocrm.segmentation import groups, rules, runs, segmentations, suppressing

routes = router("Segmentations")

_RULE = {"field": "scores.rfm.m", "op": ">=", "value": 4}
EXAMPLE_PARAMETERS = {"rules": [{"name": "Big spenders", "filter": _RULE}]}
MethodName = Literal["rfm", "groups", "value", "churn", "hotspots", "rule"]
RefreshDays = Annotated[
    int, Field(ge=1, le=366, strict=True, description="Run and publish by itself so often, in days.")
]


class ShownSegment(Shown):
    """A segment of the published run, the largest first."""

    id: str = Field(examples=["seg_4"])
    name: str = Field(examples=["Champions"])
    sentence: str = Field(examples=["bought lately, often and for much (R 4–5, FM 4–5)"])
    rule: str = Field(description="In words, what tells a member; empty where nothing simple does.", examples=[""])
    customers: int | None = Field(
        description="Members that you see; null where there are fewer than 10 and you may not see each.", examples=[418]
    )
    share: float | None = Field(description="Of all in a segment.", examples=[0.17])
    version: int = Field(description="Its ETag.")


class ShownShades(Shown):
    """Where a map that is coloured by a score draws the lines: at most five shades."""

    cuts: list[float] = Field(
        description="The first score of each shade but the lowest, for `cuts` of tiles.",
        examples=[[0.05, 0.12, 0.2, 0.41]],
    )
    by: str = Field(
        description="value: each score is a shade; quantile: about a fifth of the customers is in each; lowest: the"
        " lowest score is one, and about a quarter of the others is in each of the rest.",
        examples=["quantile"],
    )
    values: list[float] = Field(description="The scores of the shades, where there are no others.", examples=[[]])
    customers: int = Field(description="Who have the score.", examples=[9210])
    unit: str | None = Field(description="The currency of an amount.", examples=["USD"])


class ShownSegmentation(Shown):
    """A way to divide customers, with the segments of its published run."""

    id: str = Field(examples=["sgm_2"])
    key: str = Field(examples=["rfm"])
    name: str = Field(examples=["Recency, frequency, money"])
    method: str = Field(examples=["rule"])
    parameters: dict[str, Any] = Field(examples=[EXAMPLE_PARAMETERS])
    refresh_days: int | None = Field(examples=[7])
    current_run: int | None = Field(description="Number of the published run.", examples=[3])
    cutoff: datetime | None = Field(description="What happened before it is what the published run knows.")
    score_names: list[str] = Field(description="For filters on scores.KEY.NAME.", examples=[["r", "f", "m"]])
    shades: dict[str, ShownShades] = Field(
        description="By score of the published run, for tiles with colour=scores.KEY.NAME; without those of so few"
        " customers that you may not be told.",
    )
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
    parameters: Attributes = Field(default_factory=dict, description="By method.", examples=[EXAMPLE_PARAMETERS])
    refresh_days: RefreshDays | None = None


class SegmentationEdit(Body):
    """What is to be different."""

    name: Annotated[Name, Field(max_length=200, examples=["Big spenders"])] | None = None
    parameters: Attributes | None = Field(None, examples=[EXAMPLE_PARAMETERS])
    refresh_days: RefreshDays | None = None
    archived: Flag | None = Field(None, examples=[False])


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
        "shades": {} if run is None else _shades(actor, run),
        "is_active": held.is_active,
        "archived_at": held.archived_at,
        "version": held.version,
        "created_at": held.created_at,
        "updated_at": held.updated_at,
        "segments": [] if run is None else _segments(session, actor, run),
    }


def _shades(actor: Actor, run: SegmentationRun) -> dict[str, Any]:
    told = suppressing.shades_for(actor, run.results)
    return {name: {field: said[field] for field in ShownShades.model_fields} for name, said in told.items()}


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


def job_on_segmentation(
    session: Session, actor: Actor, name: str, held: Segmentation, args: dict[str, Any]
) -> dict[str, Any]:
    """Queue the actor's work on a segmentation, one after another; the answer of `StartedJob`."""
    subject = ids.show("sgm", held.id)
    return started_job(session, actor, name, {"segmentation_id": held.id} | args, subject=subject, lock="segmentations")


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
    return job_on_segmentation(session, actor, "segmentation.activate", held, {})


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
    return job_on_segmentation(session, actor, "segmentation.publish", held, {"number": None})
