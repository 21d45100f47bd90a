"""The worker as a process, killed and started anew."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from geocrm.db import queue
from geocrm.db.engine import Database
from tests.jobs.conftest import JobOf


@pytest.mark.faults
def test_a_killed_worker_s_job_is_done_by_the_next_one(new_database: Callable[[], Database], job_of: JobOf) -> None:
    """A worker is killed in the middle of a job; the next one finds it and does it."""
    database = new_database()
    program = (
        "import sys, time\n"
        "from geocrm import jobs\n"
        "from geocrm.db import engine\n"
        "from geocrm.db.engine import Database\n"
        "from geocrm.jobs import worker\n"
        "from sqlalchemy import make_url\n"
        "def slow(session, args):\n"
        "    if sys.argv[3] == 'slow':\n"
        "        print('begun', flush=True)\n"
        "        time.sleep(60)\n"
        "    return 'done'\n"
        "jobs.HANDLERS.clear()\n"
        "jobs.HANDLERS['test.slow'] = jobs.Handler('test.slow', work=slow)\n"
        "url = make_url(sys.argv[1])\n"
        "engine.open_database = lambda settings: Database(url, url, make_url(sys.argv[2]))\n"
        "worker.main()\n"
    )
    with database.writing() as session:
        number = queue.enqueue(session, "test.slow", {})
    urls = [url.render_as_string(hide_password=False) for url in (database.admin_url, database.worker_url)]

    def start(how: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", program, *urls, how],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"GEOCRM_HOME": str(database.settings.home)},
        )

    first = start("slow")
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    assert job_of(database, number).status == "running"
    first.kill()
    first.wait()
    first.stdout.close()
    second = start("quick")
    assert second.stdout is not None
    try:
        until = time.monotonic() + 60
        while job_of(database, number).status != "done" and time.monotonic() < until:
            time.sleep(0.2)
        assert job_of(database, number).result == "done"
    finally:
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
        second.stdout.close()
