"""Analyses: what goes together, forecasts, penetration, the track of purchases. Figures of all customers."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import Field

from geocrm import ids
from geocrm.api import pages
from geocrm.api.customer_edits import Attributes
from geocrm.api.dependencies import CanAnalyse, CanReadAnalyses, Reading, Writing, router
from geocrm.api.idempotency import Idempotent
from geocrm.api.shapes import AnalysisId, Body, DayOrWhen, Page, Shown
from geocrm.db.models import Analysis
from geocrm.segmentation import analyses, handing_on, runs

routes = router("Analyses")

KindName = Literal["affinity", "forecast", "penetration", "tracking"]
_PARAMETERS = {"by": "region", "horizon": 6}
_RESULTS = {"period": "month", "currency": "USD", "rows": [{"name": "whole", "mean": [1234.5]}], "notes": []}


class NewAnalysis(Body):
    """What to find out, by what was when, and with which chance."""

    kind: KindName = Field(examples=["forecast"])
    parameters: Attributes = Field(default_factory=dict, description="By kind.", examples=[_PARAMETERS])
    cutoff: DayOrWhen | None = Field(
        None, description="What happened before it counts; default: today's beginning, UTC."
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)] = runs.DEFAULT_SEED


class ShownAnalysis(Shown):
    """An analysis: how it was made and how far it is."""

    id: str = Field(examples=["ana_5"])
    kind: str = Field(examples=["forecast"])
    status: str = Field(description="queued, running, done, failed or cancelled.", examples=["done"])
    cutoff: datetime
    seed: int
    parameters: dict[str, Any] = Field(examples=[_PARAMETERS])
    code_version: str | None = Field(examples=["0.1.0+3f2a9c0b1d4e"])
    data_version: str | None = Field(description="SHA-256 of all that was read.", examples=["9f86d081884c7d65"])
    result_version: str | None = Field(description="SHA-256 of the results.", examples=["60303ae22b998861"])
    progress: dict[str, Any] = Field(examples=[{"phase": "done", "done": 1, "total": 1}])
    error: dict[str, Any] | None = Field(examples=[None])
    job_id: str | None = Field(examples=["job_12"])
    by: str | None = Field(examples=["usr_7"])
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class ShownAnalysisWithResults(ShownAnalysis):
    """An analysis with what it found, by kind."""

    results: dict[str, Any] = Field(examples=[_RESULTS])


class StartedAnalysis(Shown):
    """An analysis in the queue: look at its job, or at itself."""

    id: str = Field(examples=["ana_5"])
    job_id: str = Field(examples=["job_12"])


def _shown(held: Analysis) -> dict[str, Any]:
    return {
        "id": ids.show("ana", held.id),
        "kind": held.kind,
        "status": held.status,
        "cutoff": held.cutoff,
        "seed": held.seed,
        "parameters": held.parameters,
        "code_version": held.code_version,
        "data_version": held.data_version,
        "result_version": held.result_version,
        "progress": held.progress,
        "error": held.error,
        "job_id": ids.show("job", held.job_id),
        "by": ids.show("usr", held.actor_id),
        "created_at": held.created_at,
        "started_at": held.started_at,
        "finished_at": held.finished_at,
    }


@routes.post(
    "/analyses", status_code=202, operation_id="start_analysis", response_model=StartedAnalysis, summary="Analyse"
)
def start_analysis(session: Writing, actor: CanAnalyse, once: Idempotent, new: NewAnalysis) -> Response:
    """A job. The same data, parameters, seed and code find the same; analyses are kept, each by itself."""

    def produce() -> tuple[Any, dict[str, str]]:
        made = analyses.start(session, actor=actor, **new.model_dump())
        shown = {"id": ids.show("ana", made.id), "job_id": ids.show("job", made.job_id)}
        return shown, {"Location": f"/v1/analyses/{shown['id']}"}

    return once.answer(session, actor, produce, shape=StartedAnalysis, status=202)


@routes.get("/analyses", operation_id="list_analyses", response_model=Page[ShownAnalysis], summary="List analyses")
def list_analyses(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadAnalyses,
    kind: Annotated[KindName | None, Query(description="Of this kind only.", examples=["forecast"])] = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """The newest first, with progress, and why one failed."""
    found = analyses.find_analyses(session, kind=kind, before=pages.read_id(cursor), limit=limit + 1)
    shown = [_shown(held) for held in found]
    return pages.page(request, response, shown, limit, lambda row: [ids.read("ana", row["id"])])


@routes.get(
    "/analyses/{analysis_id}",
    operation_id="get_analysis",
    response_model=ShownAnalysisWithResults,
    summary="One analysis with its results",
)
def get_analysis(
    session: Reading,
    actor: CanReadAnalyses,
    analysis_id: AnalysisId,
    to_hand_on: Annotated[
        bool, Query(description="Without what fewer than ten customers made, or what tells it by subtraction.")
    ] = False,
) -> object:
    """What it was made from and what it found."""
    held = analyses.get_analysis(session, analysis_id)
    results = analyses.results_of(held)
    if to_hand_on and held.status == "done":
        results = handing_on.analysis(held.kind, results)
    return _shown(held) | {"results": results}


@routes.post(
    "/analyses/{analysis_id}/cancel",
    operation_id="cancel_analysis",
    response_model=ShownAnalysis,
    summary="Cancel an analysis",
)
def cancel_analysis(session: Writing, actor: CanAnalyse, analysis_id: AnalysisId) -> object:
    """One that waits or is going on; it leaves nothing behind."""
    return _shown(analyses.cancel(session, analysis_id, actor=actor))
