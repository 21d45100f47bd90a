"""Who is near a point, whose territory it is, and pages to hand on."""

from typing import Annotated

import typer

from geocrm.cli.options import NUMBERS, Filter, Json, User

app = typer.Typer()


@app.command(context_settings=NUMBERS)
def nearby(
    lon: Annotated[float, typer.Argument(help="Degrees, west is negative.")],
    lat: Annotated[float, typer.Argument(help="Degrees, south is negative.")],
    radius_m: Annotated[float | None, typer.Option(help="Not further than this, metres.")] = None,
    limit: Annotated[int, typer.Option(help="How many, at most 1,000.")] = 20,
    filter: Filter = None,
    user: User = None,
    as_json: Json = False,
) -> None:
    """Print the customers nearest to a point."""
    from geocrm import frames, texts

    with frames.connect(user=user) as session:
        wanted = frames.read_filter(texts.read_json(filter), session.actor)
        found = frames.nearby(session, lon, lat, radius_m=radius_m, limit=limit, filter=wanted)
    rows = found.drop(columns="geometry").assign(lon=found.geometry.x, lat=found.geometry.y)
    typer.echo(texts.as_json(rows) if as_json else texts.as_table(rows, empty="No customer is near that point."))


territory_app = typer.Typer(help="Whose territory.", no_args_is_help=True)
app.add_typer(territory_app, name="territory")
AsOf = Annotated[str | None, typer.Option("--as-of", help="A date or time, 2025-12-31; default now.")]


@territory_app.command("at", context_settings=NUMBERS)
def territory_at(lon: float, lat: float, as_of: AsOf = None, user: User = None, as_json: Json = False) -> None:
    """Print the territory at a point, for each layer, the primary one first."""
    from geocrm import frames, texts

    with frames.connect(user=user) as session:
        found = frames.territory_at(session, lon, lat, as_of=texts.read_moment(as_of))
    table = texts.as_table(texts.of_territories(found), empty="No layer of territories was in force then.")
    typer.echo(texts.territories_as_json(found) if as_json else table)


@territory_app.command("of")
def territory_of(customer: str, as_of: AsOf = None, user: User = None, as_json: Json = False) -> None:
    """Print whose territory a customer (cus_42) is in, for each site and layer, and why."""
    from geocrm import frames, texts

    with frames.connect(user=user) as session:
        found = frames.territories_of(session, customer, as_of=texts.read_moment(as_of))
    table = texts.as_table(texts.of_territories(found), empty="The ledger has nothing of this customer then.")
    typer.echo(texts.territories_as_json(found) if as_json else table)


report_app = typer.Typer(help="Pages to hand on, which open without a network.", no_args_is_help=True)
app.add_typer(report_app, name="report")


@report_app.command("map")
def report_map(
    output: Annotated[str, typer.Option("--output", "-o", help="The HTML file to write.")],
    layer: Annotated[str | None, typer.Option(help="Key of a layer; default the primary one.")] = None,
    filter: Filter = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
    user: User = None,
) -> None:
    """Write a map of customers and territories as one HTML file."""
    from geocrm import frames, texts
    from geocrm.db.engine import command_database
    from geocrm.reports import customer_map

    with command_database() as database:
        actor = frames.actor_of(database, user)
        wanted = frames.read_filter(texts.read_json(filter), actor)
        with database.writing() as session:
            page = customer_map.make(
                session, actor, layer=layer, filter=wanted, title=title, tell=lambda said: typer.echo(said, err=True)
            )
            size = texts.write(output, page)
    typer.echo(f"{output}: {size / 1e6:.1f} MB")


@report_app.command("segments")
def report_segments(
    output: Annotated[str, typer.Option("--output", "-o", help="The HTML file to write.")],
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
    user: User = None,
) -> None:
    """Write what is published of segments, and the newest analyses, as one HTML file."""
    from geocrm import frames, texts
    from geocrm.db.engine import command_database
    from geocrm.reports import segments_report

    with command_database() as database:
        actor = frames.actor_of(database, user)
        with database.writing() as session:
            page = segments_report.make(session, actor, title=title, tell=lambda said: typer.echo(said, err=True))
            size = texts.write(output, page)
    typer.echo(f"{output}: {size / 1e6:.1f} MB")
