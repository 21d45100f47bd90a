"""The application: routes, errors, and what opens and closes with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIRouter
from starlette.routing import Route as PlainRoute

from geocrm import logs
from geocrm.api import (
    analyses,
    audiences,
    automations,
    customer_edits,
    customers,
    drafts,
    edge,
    errors,
    exports,
    fence_imports,
    geofences,
    hot,
    imports,
    jobs,
    layers,
    offer_results,
    offers,
    openapi,
    people,
    places,
    placing,
    positions,
    sales,
    segmentation_runs,
    segmentations,
    segments,
    sessions,
    steering,
    system,
    tasks,
    territories,
    walks,
    webhooks,
)
from geocrm.api.dependencies import Gate
from geocrm.api.following import Streams
from geocrm.api.request_log import RequestLog
from geocrm.api.web import Web
from geocrm.campaigns.geofences import Holder
from geocrm.db.engine import Database, open_database
from geocrm.settings import Settings, get_settings

SUBJECTS: tuple[APIRouter, ...] = (
    sessions.routes,
    customers.routes,
    customer_edits.routes,
    sales.routes,
    sales.interaction_routes,
    places.routes,
    layers.routes,
    drafts.routes,
    territories.routes,
    steering.routes,
    segmentations.routes,
    segmentation_runs.routes,
    segments.routes,
    analyses.routes,
    offers.routes,
    geofences.routes,
    fence_imports.routes,
    walks.routes,
    positions.routes,
    webhooks.routes,
    audiences.routes,
    automations.routes,
    tasks.routes,
    offer_results.routes,
    people.routes,
    imports.routes,
    placing.routes,
    exports.routes,
    jobs.routes,
)


def create_app(database: Database | None = None, settings: Settings | None = None) -> FastAPI:
    """The application on a database; without one it opens that of the settings when it starts."""
    requests = RequestLog()
    chosen = settings or (database.settings if database is not None else get_settings())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = database or open_database(chosen)
        app.state.database = opened
        app.state.gate = Gate(opened)
        stop = asyncio.Event()
        writing = asyncio.create_task(requests.keep_writing(opened, stop))
        yield
        stop.set()
        await writing
        await hot.close(app)
        if database is None:
            opened.dispose()

    logs.configure()
    app = FastAPI(
        title="geocrm",
        version=version("geocrm"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # served below: made in a thread, as the first making takes a second of computing
        generate_unique_id_function=_operation_id,
        separate_input_output_schemas=False,
        redirect_slashes=False,
    )
    app.state.settings = chosen
    app.state.fences = Holder()
    app.state.requests = requests
    app.state.streams = Streams(most=chosen.event_streams, most_of_user=chosen.event_streams_per_user)
    errors.install(app)
    app.router.routes.extend(hot.routes)  # before the others: /v1/customers/nearby is no customer's id
    app.include_router(system.routes)
    for subject in SUBJECTS:
        app.include_router(subject, prefix="/v1")
    app.router.routes.append(PlainRoute("/openapi.json", openapi.serve, methods=["GET"]))
    app.router.routes.append(PlainRoute("/{path:path}", Web(chosen.web_dir).__call__, methods=["GET", "HEAD"]))
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    app.add_middleware(edge.Edge, settings=chosen, requests=requests)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.operation_id or route.name


app = create_app()
