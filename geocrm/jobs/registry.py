"""What a job is called and what it does: a registry that the modules of handlers fill when they are imported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy.exc
from procrastinate import RetryStrategy
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.access import SYSTEM, Actor
from geocrm.db.engine import Database


class Again(Exception):
    """The job has to wait for something and is tried again."""


RETRY = RetryStrategy(
    max_attempts=12,
    exponential_wait=2,
    retry_exceptions=[Again, sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, psycopg.OperationalError],
)
Work = Callable[[Session, Mapping[str, Any]], Any]
Long = Callable[[Database, Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """What a job of a name does: `work` in the job's transaction, or `long` in transactions of its own (repeatable)."""

    name: str
    work: Work | None = None
    long: Long | None = None
    cron: str | None = None


HANDLERS: dict[str, Handler] = {}


def handler(name: str, cron: str | None = None) -> Callable[[Work], Work]:
    """Register what a job does in one transaction."""

    def register(work: Work) -> Work:
        HANDLERS[name] = Handler(name, work=work, cron=cron)
        return work

    return register


def long_handler(name: str, cron: str | None = None) -> Callable[[Long], Long]:
    """Register what a job does in transactions of its own; to do it again must do no harm."""

    def register(work: Long) -> Long:
        HANDLERS[name] = Handler(name, long=work, cron=cron)
        return work

    return register


def actor_of(session: Session, args: Mapping[str, Any]) -> Actor:
    """The user that a job works for, as they are allowed today; the system where nobody asked for it."""
    user_id = args.get("user_id")
    if user_id is None:
        return SYSTEM
    key_id = args.get("key_id")
    return access.load_actor(session, int(user_id), key_id=None if key_id is None else int(key_id))
