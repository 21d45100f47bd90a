"""A job is queued with what causes it, done once, done again after a deadlock, and at last given up."""

from collections.abc import Callable

import procrastinate
import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from geocrm import jobs
from geocrm.access import SYSTEM
from geocrm.db import models, queue
from geocrm.db.engine import Database
from geocrm.segmentation import analyses, runs, segmentations
from tests.jobs.conftest import JobOf
from tests.makers import DEADLOCK


def test_a_job_is_queued_with_its_cause_or_not_at_all(new_database: Callable[[], Database], job_of: JobOf) -> None:
    database = new_database()
    with database.writing() as session:
        queue.enqueue(session, "clean", {})
        session.rollback()
    assert jobs.run_queued(database) == 0
    with database.writing() as session:
        number = queue.enqueue(session, "clean", {}, user_id=None)
    assert jobs.run_queued(database) == 1
    done = job_of(database, number)
    assert (done.status, done.error) == ("done", None)
    assert done.result["sessions"] == 0
    # killed between its commit and telling the queue: it is not done again
    jobs.run_job(database, "clean", number, {})
    assert job_of(database, number).finished_at == done.finished_at


def test_a_job_that_ends_in_a_deadlock_is_done_again(
    new_database: Callable[[], Database], job_of: JobOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, tries = new_database(), []

    def work(session: Session, args: object) -> str:
        tries.append(1)
        if len(tries) == 1:
            session.execute(DEADLOCK)
        return "done"

    monkeypatch.setitem(jobs.HANDLERS, "test.deadlock", jobs.Handler("test.deadlock", work=work))
    with database.writing() as session:
        number = queue.enqueue(session, "test.deadlock", {})
    with pytest.raises(OperationalError) as lost:
        jobs.run_job(database, "test.deadlock", number, {})
    assert job_of(database, number).status == "queued"
    job = procrastinate.jobs.Job(
        id=number, queue="q", lock=None, queueing_lock=None, task_name="test.deadlock", attempts=1
    )
    assert jobs.RETRY.get_retry_decision(exception=lost.value, job=job) is not None  # the queue does it again
    jobs.run_job(database, "test.deadlock", number, {})
    assert job_of(database, number).result == "done"


def test_what_waits_for_a_job_that_is_given_up_has_failed(new_database: Callable[[], Database], job_of: JobOf) -> None:
    database = new_database()
    with database.writing() as session:
        held = segmentations.create_segmentation(session, actor=SYSTEM, key="rfm", name="RFM", method="rfm")
        run = runs.start(session, held.id, actor=SYSTEM)
        asked = analyses.start(session, "affinity", actor=SYSTEM)
        numbers = [int(one.job_id or 0) for one in (run, asked)]
    for number in numbers:
        jobs.give_up(database, number)
        assert job_of(database, number).status == "failed"
    with database.writing() as session:
        for model, one in ((models.SegmentationRun, run), (models.Analysis, asked)):
            row = session.get_one(model, one.id)
            assert row.status == "failed"
            assert row.error is not None
            assert row.error["title"]
            assert "tried again" in row.error["detail"]
            assert row.finished_at is not None
