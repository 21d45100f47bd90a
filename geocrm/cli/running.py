"""Starting and stopping, the tables, the demo company."""

from typing import Annotated

import typer

app = typer.Typer()


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
    from geocrm.db.engine import command_database
    from geocrm.db.migrate import prepare_and_upgrade
    from geocrm.demo import load

    with command_database() as database:
        prepare_and_upgrade(database)
        progress = load.in_words(lambda line: typer.echo(line, err=True))
        loaded = load.load(database, customers=customers, seed=seed, progress=progress)
    for table, rows in loaded.rows.items():
        typer.echo(f"{table:<24}{rows:>12,}")
