"""Geofences from an uploaded file: its columns are looked at at once, its rows are imported by the worker."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError
from sqlalchemy.orm import Session

from geocrm import fence_files
from geocrm.api.dependencies import CanEditFences, in_transaction, on_files, router, settings_of
from geocrm.api.geofences import Metres
from geocrm.api.idempotency import REPLAYED, Idempotent
from geocrm.api.imports import keep_upload
from geocrm.api.jobs import StartedJob, started_job
from geocrm.api.shapes import Body, Name, Text
from geocrm.campaigns import geofences
from geocrm.ingest.formats import Options

routes = router("Geofences")

Column = Literal["external_id", "name", "lon", "lat", "radius_m", "dwell_s"]
Said = Annotated[Name, Field(max_length=200)]


class FenceRecipe(Body):
    """How the rows of a file become fences; what is left out is found by itself."""

    columns: dict[Column, Said] = Field(default_factory=dict, description="Where they are called otherwise.")
    metadata: list[Said] = Field(default_factory=list, max_length=50, description="Columns kept with the fence.")
    radius_m: Metres | None = Field(None, description="Of points without a radius of their own.")
    dwell_s: Annotated[float, Field(strict=True, gt=0, le=geofences.LONGEST_DWELL_S)] | None = None
    crs: Said | None = Field(None, description="Reference system of the coordinates, as EPSG:25832.")
    sheet: Said | None = Field(None, description="Sheet of a workbook.")
    layer: Said | None = Field(None, description="Layer of the file.")


_RECIPE = {"columns": {"external_id": "code"}, "metadata": ["city"], "radius_m": 150.0}


@routes.post(
    "/geofences/imports",
    status_code=202,
    operation_id="import_geofences",
    response_model=StartedJob,
    summary="Import geofences from a file",
)
async def import_geofences(
    request: Request,
    actor: CanEditFences,
    once: Idempotent,
    file: Annotated[UploadFile, File(description="CSV, XLSX, GeoJSON, GeoPackage, zipped Shapefile or Parquet.")],
    tag: Annotated[
        Text,
        Form(pattern="^[a-z0-9][a-z0-9_-]{0,62}$", description="What kind of fences they are.", examples=["shops"]),
    ],
    recipe: Annotated[
        Text | None,
        Form(
            max_length=20_000,
            description="As JSON: `columns`, `metadata`, `radius_m`, `dwell_s`, `crs`, `sheet`, `layer`.",
            examples=[json.dumps(_RECIPE)],
        ),
    ] = None,
    dry_run: Annotated[bool, Form(description="Say what would happen; change nothing.")] = False,
) -> Response:
    """Polygons, or points with a radius; the tag and the file's own ids name the fences, so the same file again changes
    nothing. A column that is missing is said at once, with `columns`, those of the file. The rows are the job's: while
    it runs its `result` says how many are `processed`, when it is done how many are `new`, `changed` and `unchanged`
    and which overlap. Where a row cannot be a fence nothing is imported, and its `error` says line by line why."""
    how = _read(tag, recipe)
    uploads = settings_of(request).uploads
    name = file.filename or "file"

    def receive() -> tuple[Path, str]:
        path = keep_upload(file, uploads)
        try:
            fence_files.open_fences(path, how, name=name)
            with path.open("rb") as kept:
                return path, hashlib.file_digest(kept, "sha256").hexdigest()
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    path, digest = await on_files(request, receive)
    fields = json.dumps([tag, recipe, dry_run, name, digest])

    def add(session: Session) -> Response:
        def produce() -> tuple[Any, dict[str, str]]:
            args = {"file": path.name, "name": name, "recipe": asdict(how), "dry_run": dry_run}
            started = started_job(session, actor, "geofences.import", args, subject=None, lock="geofences.import")
            return started, {"Location": f"/v1/jobs/{started['job_id']}"}

        return once.including(fields.encode()).answer(session, actor, produce, shape=StartedJob, status=202)

    try:
        answer = await in_transaction(request, add)
    except Exception:
        path.unlink(missing_ok=True)
        raise
    if REPLAYED in answer.headers:
        path.unlink(missing_ok=True)
    return answer


def _read(tag: str, recipe: str | None) -> fence_files.Recipe:
    try:
        said = FenceRecipe.model_validate_json(recipe if recipe and recipe.strip() else "{}")
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise RequestValidationError([fault | {"loc": ("body", "recipe", *fault["loc"])} for fault in faults]) from None
    reading = Options(crs=said.crs, sheet=said.sheet, layer=said.layer)
    columns = {str(column): name for column, name in said.columns.items()}
    return fence_files.Recipe(tag, columns, said.metadata, said.radius_m, said.dwell_s, reading)
