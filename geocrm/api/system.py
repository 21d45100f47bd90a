"""Alive, and ready."""

from fastapi import Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from geocrm.api.dependencies import gate_of, router
from geocrm.api.errors import problem
from geocrm.api.shapes import Shown
from geocrm.db import migrate
from geocrm.db.engine import Database

routes = router("System")


class Health(Shown):
    """The process is alive."""

    status: str = Field(examples=["alive"])


class Readiness(Shown):
    """Everything that requests need is there."""

    status: str = Field(examples=["ready"])
    migrations: bool
    functions: bool
    row_security: str = Field(examples=["row security with spatial index"])


@routes.get("/health", operation_id="get_health", response_model=Health, summary="Is the process alive?")
async def get_health() -> object:
    """Answers without the database."""
    return {"status": "alive"}


@routes.get("/ready", operation_id="get_ready", response_model=Readiness, summary="Is geocrm ready?")
async def get_ready(request: Request) -> object:
    """200 when the database answers and its tables and functions are those of this version, 503 otherwise."""
    database = gate_of(request).database
    try:
        found = await run_in_threadpool(_look, database)
    except Exception:
        return _not_ready(request, "The database does not answer.")
    if not found["migrations"]:
        return _not_ready(request, "The tables are not at this version: run `geocrm migrate`.")
    if not found["functions"]:
        return _not_ready(request, "The functions are not at this version: run `geocrm migrate`.")
    return {"status": "ready"} | found


def _look(database: Database) -> dict[str, object]:
    with database.writing_engine.connect() as connection:
        return migrate.readiness(connection)


def _not_ready(request: Request, detail: str) -> Response:
    return problem(request, 503, "not-ready", "geocrm is not ready.", detail, headers={"Retry-After": "2"})
