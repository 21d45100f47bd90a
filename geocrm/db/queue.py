"""Put work into the queue, in the transaction of what causes it: if that rolls back, so does the job.

The queue is procrastinate's, in the same database; the handlers stand in `geocrm.jobs`.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.models import Job

QUEUE = "geocrm"


def enqueue(
    session: Session,
    name: str,
    args: Mapping[str, Any],
    *,
    user_id: int | None = None,
    key_id: int | None = None,
    subject: str | None = None,
    lock: str | None = None,
    at: datetime | None = None,
) -> int:
    """Queue the handler `name` with JSON arguments; the id of the job, whose row in `jobs` its user may read, and the
    key `key_id` where it was a key that asked.

    Jobs of one `lock` run one after another, in the order of their ids. `at`: not before that time.
    """
    job_id: int = session.execute(
        text(
            "SELECT (procrastinate_defer_jobs_v1(ARRAY[ROW(CAST(:queue AS varchar), CAST(:name AS varchar), 0,"
            " CAST(:lock AS text), NULL, CAST(:args AS jsonb), CAST(:at AS timestamptz))"
            "]::procrastinate_job_to_defer_v1[]))[1]"
        ),
        {"queue": QUEUE, "name": name, "lock": lock, "args": json.dumps(dict(args)), "at": at},
    ).scalar_one()
    session.add(Job(id=job_id, name=name, subject=subject, user_id=user_id, key_id=key_id, status="queued"))
    session.flush()
    return job_id
