"""Tasks: what somebody is to do for a customer, by when, and that it is done."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, text
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor, require
from geocrm.db import audit
from geocrm.db.models import Task
from geocrm.errors import NotFound

_COLUMNS = """
SELECT t.id, t.customer_id, c.name AS customer_name, t.title, t.details, t.assignee_id, a.name AS assignee, t.due_at,
       t.automation_id, t.done_at, t.done_by, d.name AS doer, t.version, t.created_at
FROM visible.tasks t JOIN customers c ON c.id = t.customer_id LEFT JOIN users a ON a.id = t.assignee_id
LEFT JOIN users d ON d.id = t.done_by
WHERE """


def find(
    session: Session,
    *,
    customer_id: int | None = None,
    assignee_id: int | None = None,
    is_open: bool = True,
    after: tuple[datetime, int] | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Tasks for customers that the reader sees, what is due first coming first: open ones, or done ones."""
    conditions = ["t.done_at IS NULL" if is_open else "t.done_at IS NOT NULL"]
    values: dict[str, Any] = {"limit": limit}
    if customer_id is not None:
        conditions.append("t.customer_id = CAST(:customer AS bigint)")
        values["customer"] = customer_id
    if assignee_id is not None:
        conditions.append("t.assignee_id = CAST(:assignee AS bigint)")
        values["assignee"] = assignee_id
    if after is not None:
        conditions.append("(t.due_at, t.id) > (CAST(:after_at AS timestamptz), CAST(:after AS bigint))")
        values |= {"after_at": after[0], "after": after[1]}
    sql = f"{_COLUMNS}{' AND '.join(conditions)} ORDER BY t.due_at, t.id LIMIT CAST(:limit AS bigint)"
    return [_task(row) for row in session.execute(text(sql), values)]


def get(session: Session, task_id: int) -> dict[str, Any]:
    """One task for a customer that the reader sees; raises NotFound."""
    row = session.execute(text(_COLUMNS + "t.id = CAST(:id AS bigint)"), {"id": task_id}).one_or_none()
    if row is None:
        raise NotFound()
    return _task(row)


def finish(session: Session, actor: Actor, task_id: int, *, done: bool = True) -> dict[str, Any]:
    """The task is done, or is not after all, in the worker's session; done twice it is done once. Raises Forbidden, and
    NotFound where the actor sees no such task."""
    require(actor, "customers:write")
    with access.as_user(session, actor):
        shown = get(session, task_id)
    key = (ids.read("cus", shown["customer"]["id"]), task_id)
    task = session.get(Task, key, with_for_update=True, populate_existing=True)
    if task is None:
        raise NotFound()
    if (task.done_at is not None) is not done:
        task.done_at, task.done_by = (func.now(), actor.user_id) if done else (None, None)
        task.version += 1
        session.flush()
        session.refresh(task)
        audit.record(
            session,
            "task.done" if done else "task.reopen",
            actor_id=actor.user_id,
            key_id=actor.key_id,
            object_id=ids.show("cus", task.customer_id),
            after={"task": ids.show("tsk", task_id)},
        )
    with access.as_user(session, actor):
        return get(session, task_id)


def _task(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": ids.show("tsk", row.id),
        "customer": ids.reference("cus", row.customer_id, row.customer_name),
        "title": row.title,
        "details": row.details,
        "assignee": ids.reference("usr", row.assignee_id, row.assignee),
        "due_at": row.due_at,
        "automation_id": ids.show("aut", row.automation_id),
        "done_at": row.done_at,
        "done_by": ids.reference("usr", row.done_by, row.doer),
        "version": row.version,
        "created_at": row.created_at,
    }
