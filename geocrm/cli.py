"""The command line: parse, call, print. What a command does stands in the module it calls."""

import os
import sys
from typing import Annotated

import typer

from geocrm.errors import GeocrmError

app = typer.Typer(
    name="geocrm",
    help="A geographic CRM: customers, sales and territories on PostGIS, with lookups, a map and an API.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run a command; what geocrm itself refuses is one sentence on standard error and exit code 1."""
    try:
        app()
    except GeocrmError as error:
        sys.exit(f"geocrm: {error.detail}")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone: `geocrm … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        sentence = _database_trouble(error)
        if sentence is None:
            raise
        sys.exit(f"geocrm: {sentence}")


def _database_trouble(error: Exception) -> str | None:
    """A sentence where the database is out of reach or its disk full; None for every other error."""
    import psycopg
    import sqlalchemy.exc

    from geocrm.db import reach

    if isinstance(error, psycopg.OperationalError | sqlalchemy.exc.OperationalError):
        return reach.explain(error)
    return None


# ---------------------------------------------------------------- running


@app.command()
def up(
    demo: Annotated[bool, typer.Option("--demo", help="Load the demo company where the home is fresh.")] = False,
) -> None:
    """Start everything: the private PostgreSQL, API, worker and web application. Ctrl-C stops all of it."""
    from geocrm import up as supervisor

    supervisor.run(demo=demo)


@app.command()
def down() -> None:
    """Stop what runs on this home: the `geocrm up` of it, and its private PostgreSQL."""
    from geocrm import up as supervisor

    typer.echo(supervisor.end())


@app.command()
def migrate() -> None:
    """Prepare the database and bring its tables to this version (`geocrm up` does it by itself)."""
    from geocrm import up as supervisor

    supervisor.migrate()
    typer.echo("The database is prepared and at this version.")


@app.command()
def ready() -> None:
    """Ask the running geocrm whether it is ready; exit code 1 and the reasons where it is not."""
    from geocrm import up as supervisor

    answer = supervisor.ask_ready()
    typer.echo(answer.text)
    raise typer.Exit(0 if answer.ready else 1)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(installed("geocrm"))


demo_app = typer.Typer(
    help="The demo company: generated data with known truth on real geography.", no_args_is_help=True
)
app.add_typer(demo_app, name="demo")


@demo_app.command("load")
def demo_load(
    customers: Annotated[int, typer.Option(help="How many customers.", min=1000)] = 50_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same company.")] = 1,
) -> None:
    """Load the demo company into an empty database (`geocrm up --demo` does it by itself)."""
    from geocrm.db.engine import open_database
    from geocrm.demo import load
    from geocrm.settings import get_settings

    database = open_database(get_settings())
    try:
        loaded = load.load(database, customers=customers, seed=seed)
    finally:
        database.dispose()
    for table, rows in loaded.rows.items():
        typer.echo(f"{table:<24}{rows:>12,}")


# The part that owns a subject adds its commands below, in a section of its own.

if __name__ == "__main__":
    main()
