"""Migrations lead there and back."""

from collections.abc import Callable

from alembic import command
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from geocrm.db import migrate
from geocrm.db.engine import Database

# Everything in the database that is geocrm's: relations, functions and types, not those of extensions.
OBJECTS = text("""
    SELECT c.relnamespace::regnamespace || '.' || c.relname FROM pg_class c
    WHERE c.relnamespace::regnamespace::text IN ('public', 'visible') AND c.relkind <> 'c'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    UNION ALL
    SELECT p.oid::regprocedure::text || ' = ' || md5(p.prosrc) FROM pg_proc p
    WHERE p.pronamespace::regnamespace::text IN ('public', 'visible')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 'policy ' || policyname || ' on ' || tablename FROM pg_policies
    UNION ALL
    SELECT 'type ' || t.typname FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace AND t.typtype = 'e'
    UNION ALL
    SELECT table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable || coalesce(column_default, '')
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> ALL (:postgis)
    UNION ALL
    SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 AND conrelid <> to_regclass('spatial_ref_sys')
    UNION ALL
    SELECT table_schema || '.' || table_name || ' ' || grantee || ' ' || privilege_type
    FROM information_schema.table_privileges WHERE grantee LIKE 'geocrm%'
    ORDER BY 1""")
POSTGIS = ["geometry_columns", "geography_columns", "spatial_ref_sys"]
KEPT = [*POSTGIS, "alembic_version", "applied_sql"]  # what the migrations themselves need


def objects(database: Database) -> list[str]:
    engine = create_engine(database.admin_url, poolclass=NullPool)
    with engine.connect() as connection:
        found = list(connection.scalars(OBJECTS, {"postgis": POSTGIS}))
    engine.dispose()
    return found


def down_to_nothing(database: Database) -> None:
    engine = create_engine(database.admin_url, poolclass=NullPool)
    with engine.connect() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
    engine.dispose()


def test_down_to_nothing_and_up_again_is_where_we_were(new_database: Callable[[], Database]) -> None:
    database = new_database()
    before = objects(database)
    assert len(before) > 1000
    down_to_nothing(database)
    left = [line for line in objects(database) if not any(name in line for name in KEPT)]
    assert left == []
    migrate.prepare_and_upgrade(database)
    assert objects(database) == before
