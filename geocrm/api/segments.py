"""Segments: one, its name, its members."""

from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import Field

from geocrm import ids
from geocrm.api import pages
from geocrm.api.dependencies import CanEditSegments, CanReadSegments, IfMatch, Reading, Writing, etag, router
from geocrm.api.shapes import Body, Name, Named, Page, SegmentId, Shown
from geocrm.db.models import Segment, Segmentation, SegmentationRun
from geocrm.segmentation import segmentations

routes = router("Segmentations")


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
    found: list[dict[str, Any]] = []
    if held.current_run_id is not None:
        run = session.get_one(SegmentationRun, held.current_run_id)
        found = segmentations.find_members(session, segment, run, after=pages.read_id(cursor) or 0, limit=limit + 1)
    return pages.page(request, response, found, limit, lambda row: [ids.read("cus", row["id"])])
