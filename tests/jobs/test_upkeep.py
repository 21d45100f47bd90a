"""What is done by the clock leaves alone what is still needed."""

import os
import time
from collections.abc import Callable

from sqlalchemy import text

from geocrm import jobs
from geocrm.db import queue
from geocrm.db.engine import Database
from tests.jobs.conftest import JobOf

# imports whose files were last touched 8 days ago: status and age of the import in days
BATCHES = {
    "previewed": ("preview", 8),
    "failed": ("failed", 8),
    "done": ("done", 8),
    "undone": ("undone", 8),
    "running": ("running", 8),
    "young": ("preview", 6),
}


def test_old_uploads_are_cleaned_unless_an_import_still_needs_them(
    new_database: Callable[[], Database],
    job_of: JobOf,
) -> None:
    database = new_database()
    uploads = database.settings.uploads
    uploads.mkdir(parents=True, exist_ok=True)
    files = {name: uploads / f"import-{name}-{os.getpid()}" for name in (*BATCHES, "orphan", "fresh", "waiting")}
    with database.writing() as session:
        for name, path in files.items():
            path.write_text("id,name\n1,x\n")
            status, age = BATCHES.get(name, ("queued" if name == "waiting" else "preview", 8))
            if name != "fresh":
                os.utime(path, (time.time() - 8 * 86_400,) * 2)
            if name != "orphan":
                session.execute(
                    text(
                        "INSERT INTO import_batches (kind, source, file_name, file_path, status, created_at) VALUES"
                        " ('customers', 's', 'f.csv', :path, :status, now() - make_interval(days => :age))"
                    ),
                    {"path": path.name, "status": status, "age": age},
                )
    with database.writing() as session:
        number = queue.enqueue(session, "clean", {})
    jobs.run_queued(database)
    assert job_of(database, number).status == "done"
    assert {name for name, path in files.items() if path.exists()} == {"young", "running", "fresh", "waiting"}
    with database.writing() as session:
        assert session.scalar(text("SELECT count(*) FROM import_batches")) == len(files) - 1
    for path in files.values():
        path.unlink(missing_ok=True)
