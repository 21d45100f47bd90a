"""Imports of files, and taking them back."""

from collections.abc import Mapping
from typing import Any

from geocrm import access
from geocrm.db.engine import Database
from geocrm.errors import Conflict
from geocrm.jobs.registry import Again, actor_of, long_handler


@long_handler("import.run")
def run_import(database: Database, args: Mapping[str, Any]) -> Any:
    """Run an import batch, for good or dry."""
    from geocrm.ingest import batches, load

    batch_id = int(args["batch_id"])
    try:
        return load.run(batch_id, database=database, dry_run=bool(args.get("dry_run")))
    except Conflict as error:
        with database.writing() as session:
            status = batches.find_batch(session, batch_id).status
        if status in ("queued", "running"):  # what a killed worker began has not ended yet
            raise Again(error.detail) from error
        raise


@long_handler("import.undo")
def undo_import(database: Database, args: Mapping[str, Any]) -> Any:
    """Undo an import batch."""
    from geocrm.ingest import undo

    with database.writing() as session:
        actor = actor_of(session, args)
    return undo.undo(
        int(args["batch_id"]), database=database, skip_conflicts=bool(args.get("skip_conflicts")), actor=actor
    )


@long_handler("geofences.import")
def import_geofences(database: Database, args: Mapping[str, Any]) -> Any:
    """Import an uploaded file of geofences, all of it or nothing."""
    from geocrm import fence_files

    with database.writing() as session:
        actor = actor_of(session, args)
    access.require(actor, "geofences:write")
    return fence_files.import_upload(
        database,
        actor,
        database.settings.uploads / str(args["file"]),
        fence_files.Recipe.of_job(args["recipe"]),
        name=str(args["name"]),
        dry_run=bool(args["dry_run"]),
    )
