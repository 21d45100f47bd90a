"""Alembic's environment: the connection is given by `geocrm.db.migrate`."""

from alembic import context
from geoalchemy2 import alembic_helpers
from sqlalchemy import text

from geocrm.db.models import Base

connection = context.config.attributes["connection"]


def include_object(item: object, name: str | None, kind: str, reflected: bool, compare_to: object) -> bool:
    """Leave alone what PostGIS, the job queue and `geocrm.db.migrate` keep."""
    if kind == "table" and reflected and compare_to is None:
        return not (str(name).startswith("procrastinate_") or name in ("applied_sql", "spatial_ref_sys"))
    return bool(alembic_helpers.include_object(item, name, kind, reflected, compare_to))


context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    include_object=include_object,
    process_revision_directives=alembic_helpers.writer,
    render_item=alembic_helpers.render_item,
    compare_server_default=True,
)
with context.begin_transaction():
    connection.execute(text("SET ROLE geocrm_owner"))
    context.run_migrations()
    connection.execute(text("RESET ROLE"))
