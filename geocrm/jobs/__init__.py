"""Background jobs: `python -m geocrm.jobs` works through the queue until it is told to end.

A job that changes the database does so in one transaction, in which it is also marked done; so a worker that is killed
at any moment leaves a job either done or to be done again. `geocrm.db.queue.enqueue` puts jobs in; what each does
stands in `imports`, `layers`, `segments` and `upkeep`, `running` does one, and `worker` is the process that does all.
"""

from geocrm.jobs import imports, layers, segments, upkeep
from geocrm.jobs.registry import HANDLERS, RETRY, Again, Handler, handler, long_handler
from geocrm.jobs.running import give_up, run_job, run_queued

__all__ = [
    "HANDLERS",
    "RETRY",
    "Again",
    "Handler",
    "give_up",
    "handler",
    "imports",
    "layers",
    "long_handler",
    "run_job",
    "run_queued",
    "segments",
    "upkeep",
]
