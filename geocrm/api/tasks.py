"""Tasks: what is to be done for customers, by whom and by when."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query, Request, Response
from pydantic import Field

from geocrm.api import pages
from geocrm.api.dependencies import CanEditCustomers, CanReadCustomers, Reading, Writing, router
from geocrm.api.shapes import CustomerId, Named, Page, Shown, TaskId, UserId
from geocrm.crm import tasks

routes = router("Tasks")


class ShownTask(Shown):
    """Something to be done for a customer."""

    id: str = Field(examples=["tsk_9"])
    customer: Named
    title: str = Field(examples=["Call about the visit"])
    details: str | None = Field(examples=[None])
    assignee: Named
    due_at: datetime
    automation_id: str | None = Field(description="The automation that made it.", examples=["aut_2"])
    done_at: datetime | None = Field(examples=[None])
    done_by: Named | None = Field(examples=[None])
    version: int
    created_at: datetime


@routes.get("/tasks", operation_id="list_tasks", response_model=Page[ShownTask], summary="List tasks")
def list_tasks(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadCustomers,
    customer: Annotated[CustomerId | None, Query(description="Only for this customer.", examples=["cus_1042"])] = None,
    assignee: Annotated[UserId | None, Query(description="Only of this user.", examples=["usr_7"])] = None,
    status: Annotated[Literal["open", "done"], Query(description="Open ones, or done ones.")] = "open",
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """For customers that you see, what is due first coming first. What geofences gave rise to, an API key sees with
    `locations:exact` alone."""
    rows = tasks.find(
        session,
        customer_id=customer,
        assignee_id=assignee,
        is_open=status == "open",
        after=pages.read_moment(cursor),
        limit=limit + 1,
    )
    return pages.page(
        request, response, rows, limit, lambda row: [row["due_at"].isoformat(), int(row["id"].removeprefix("tsk_"))]
    )


@routes.get("/tasks/{task_id}", operation_id="get_task", response_model=ShownTask, summary="One task")
def get_task(session: Reading, actor: CanReadCustomers, task_id: TaskId) -> object:
    """For a customer that you see."""
    return tasks.get(session, task_id)


@routes.post("/tasks/{task_id}/done", operation_id="finish_task", response_model=ShownTask, summary="A task is done")
def finish_task(session: Writing, actor: CanEditCustomers, task_id: TaskId) -> object:
    """Done twice is done once."""
    return tasks.finish(session, actor, task_id)


@routes.post(
    "/tasks/{task_id}/reopen", operation_id="reopen_task", response_model=ShownTask, summary="A task is not done"
)
def reopen_task(session: Writing, actor: CanEditCustomers, task_id: TaskId) -> object:
    """It is open again."""
    return tasks.finish(session, actor, task_id, done=False)
