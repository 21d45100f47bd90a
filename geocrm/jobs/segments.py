"""Runs of segmentations, what of them is shown, analyses, and the audiences that follow."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy.orm import Session

from geocrm import access
from geocrm.access import SYSTEM
from geocrm.db.engine import Database
from geocrm.db.models import SegmentationRun
from geocrm.errors import TryAgain
from geocrm.jobs.registry import Again, actor_of, handler, long_handler


@long_handler("segmentation.run")
def run_segmentation(database: Database, args: Mapping[str, Any]) -> Any:
    """Do a run of a segmentation, and publish it where that was asked for."""
    from geocrm.segmentation import publishing, runs

    run_id = int(args["run_id"])
    try:
        done = runs.execute(database, run_id)
    except TryAgain as error:
        raise Again(error.detail) from error
    with database.writing() as session:
        run = session.get_one(SegmentationRun, run_id)
        if run.status == "done" and run.then_publish and run.published_at is None:
            actor = SYSTEM if run.actor_id is None else access.load_actor(session, run.actor_id)
            published = publishing.publish(session, run.segmentation_id, run.number, actor=actor)
            done |= {"published": published.run, "lookup_rows": published.lookup_rows}
    return done


@long_handler("analysis.run")
def run_analysis(database: Database, args: Mapping[str, Any]) -> Any:
    """Do an analysis."""
    from geocrm.segmentation import analyses

    try:
        return analyses.execute(database, int(args["analysis_id"]))
    except TryAgain as error:
        raise Again(error.detail) from error


@handler("segmentation.publish")
def publish_segmentation(session: Session, args: Mapping[str, Any]) -> Any:
    """Publish a run of a segmentation, or the one published before (`number` null)."""
    from geocrm.segmentation import publishing

    segmentation_id, number, actor = int(args["segmentation_id"]), args.get("number"), actor_of(session, args)
    if number is None:
        return asdict(publishing.revert(session, segmentation_id, actor=actor))
    return asdict(publishing.publish(session, segmentation_id, int(number), actor=actor))


@handler("segmentation.activate")
def activate_segmentation(session: Session, args: Mapping[str, Any]) -> Any:
    """Let lookups and tiles carry the segments of a segmentation, or of none."""
    from geocrm.segmentation import publishing

    segmentation_id = args.get("segmentation_id")
    chosen = None if segmentation_id is None else int(segmentation_id)
    return asdict(publishing.activate(session, chosen, actor=actor_of(session, args)))


@handler("segmentation.refresh", cron="23 * * * *")
def refresh_segmentations(session: Session, args: Mapping[str, Any]) -> Any:
    """Start the runs of segmentations that refresh themselves and are due."""
    from geocrm.segmentation import runs

    return {"runs": runs.start_due(session, actor=SYSTEM)}


@handler("audiences.follow")
def follow_audiences(session: Session, args: Mapping[str, Any]) -> Any:
    """Look at every audience for the customers that changed."""
    from geocrm.campaigns import audiences

    return {"customers": audiences.follow(session)}


@long_handler("audiences.refresh", cron="*/5 * * * *")
def refresh_audiences(database: Database, args: Mapping[str, Any]) -> Any:
    """Work out anew the audiences that are due."""
    from geocrm.campaigns import audiences

    return {"audiences": audiences.refresh_due(database)}
