"""The command line: parse, call, print. What a command does stands in the module it calls."""

import os
import sys
from pathlib import Path
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
        from geocrm import texts

        sys.exit(f"geocrm: {texts.of_error(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone: `geocrm … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        sys.exit(f"geocrm: {sentence}")


_WANTED = {
    "int_parsing": "a whole number is needed",
    "float_parsing": "a number is needed",
    "bool_parsing": "true or false is needed",
}


def _sentence(error: Exception) -> str | None:
    """What to say where the database is out of reach, the disk full or a setting wrong; None for every other error."""
    import psycopg
    import pydantic
    import sqlalchemy.exc

    from geocrm.db import reach

    if isinstance(error, psycopg.OperationalError | sqlalchemy.exc.OperationalError) or isinstance(
        getattr(error, "orig", None), psycopg.errors.UndefinedTable
    ):
        return reach.explain(error)
    if isinstance(error, pydantic.ValidationError) and error.title == "Settings":
        wrong = error.errors()[0]
        name = str(wrong["loc"][0])
        said = _WANTED.get(str(wrong["type"]), str(wrong["msg"]))
        return f"{name if name.isupper() else f'GEOCRM_{name.upper()}'}={wrong['input']!r}: {said}"
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
    from geocrm.db.engine import command_database
    from geocrm.db.migrate import prepare_and_upgrade
    from geocrm.demo import load

    with command_database() as database:
        prepare_and_upgrade(database)
        progress = load.in_words(lambda line: typer.echo(line, err=True))
        loaded = load.load(database, customers=customers, seed=seed, progress=progress)
    for table, rows in loaded.rows.items():
        typer.echo(f"{table:<24}{rows:>12,}")


_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# ---------------------------------------------------------------- imports

import_app = typer.Typer(
    help="Import customers, sales and the like from files, or take an import back.", no_args_is_help=True
)
app.add_typer(import_app, name="import")


def _add_import_command(kind: str, about: str) -> None:
    @import_app.command(kind, help=f"Import {about}.")
    def run_import(
        files: Annotated[
            list[Path], typer.Argument(help="CSV, XLSX, GeoJSON, GeoPackage, zipped Shapefile or Parquet.")
        ],
        recipe: Annotated[Path | None, typer.Option(help="A recipe (YAML): what the columns mean.")] = None,
        mapped: Annotated[
            list[str] | None,
            typer.Option(
                "--map",
                metavar="FIELD=COLUMN",
                help="What a column means, as name=Firm or attributes.size=Size; repeat for several.",
            ),
        ] = None,
        source: Annotated[str | None, typer.Option(help="Name of the system that the ids come from.")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")] = False,
        preview: Annotated[
            bool, typer.Option("--preview", help="Show how the columns are understood, and stop.")
        ] = False,
        save_recipe: Annotated[Path | None, typer.Option(help="Write the recipe that was used.")] = None,
        rejected: Annotated[Path | None, typer.Option(help="Where rejected rows go.")] = None,
        create_products: Annotated[bool, typer.Option("--create-products", help="Create unknown products.")] = False,
        create_customers: Annotated[bool, typer.Option("--create-customers", help="Create unknown customers.")] = False,
        crs: Annotated[str | None, typer.Option(help="Reference system of the coordinates, as EPSG:25832.")] = None,
        sheet: Annotated[str | None, typer.Option(help="Sheet of a workbook.")] = None,
        layer: Annotated[str | None, typer.Option(help="Layer of the file.")] = None,
        target_layer: Annotated[str | None, typer.Option(help="Key of the layer that areas go to.")] = None,
        layer_kind: Annotated[
            str | None,
            typer.Option(help="Kind of that layer where it is new: territories, trading_areas or reference."),
        ] = None,
    ) -> None:
        from geocrm.ingest import console

        given = {
            "source": source,
            "crs": crs,
            "sheet": sheet,
            "layer": layer,
            "target_layer": target_layer,
            "layer_kind": layer_kind,
            "create_products": create_products or None,
            "create_customers": create_customers or None,
        }
        for file in files:
            console.import_file(
                file,
                kind,
                recipe=recipe,
                given=given,
                mapped=mapped or (),
                dry_run=dry_run,
                preview=preview,
                save_recipe=save_recipe,
                rejected=rejected,
                echo=typer.echo,
            )


for _kind, _about in (
    ("customers", "customers with their sites and contacts"),
    ("sales", "sales with their lines"),
    ("products", "products"),
    ("interactions", "calls, e-mails, visits, tickets and the like"),
    ("places", "shops, depots and competitors"),
    ("areas", "territories and other areas, into a draft of their layer"),
):
    _add_import_command(_kind, _about)


@import_app.command("undo")
def import_undo(
    batch: Annotated[str, typer.Argument(help="The import, as imp_9.")],
    skip_conflicts: Annotated[
        bool, typer.Option("--skip-conflicts", help="Leave alone what was edited since.")
    ] = False,
) -> None:
    """Take an import back: every row becomes what it was before."""
    from geocrm.ingest import console

    console.undo(batch, skip_conflicts=skip_conflicts, echo=typer.echo)


@import_app.command("list")
def import_list(as_json: _Json = False) -> None:
    """List the imports, newest first."""
    from geocrm.ingest import console

    console.list_batches(as_json=as_json, echo=typer.echo)


# ---------------------------------------------------------------- lookups and reports

_NUMBERS = {"ignore_unknown_options": True}  # a western longitude begins with a minus
_User = Annotated[str | None, typer.Option("--user", help="Whose eyes: e-mail or usr_7. Without it, everything.")]
_Filter = Annotated[str | None, typer.Option("--filter", help="A filter of the filter language, as JSON.")]


@app.command(context_settings=_NUMBERS)
def nearby(
    lon: Annotated[float, typer.Argument(help="Degrees, west is negative.")],
    lat: Annotated[float, typer.Argument(help="Degrees, south is negative.")],
    radius_m: Annotated[float | None, typer.Option(help="Not further than this, metres.")] = None,
    limit: Annotated[int, typer.Option(help="How many, at most 1,000.")] = 20,
    filter: _Filter = None,
    user: _User = None,
    as_json: _Json = False,
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
_AsOf = Annotated[str | None, typer.Option("--as-of", help="A date or time, 2025-12-31; default now.")]


@territory_app.command("at", context_settings=_NUMBERS)
def territory_at(lon: float, lat: float, as_of: _AsOf = None, user: _User = None, as_json: _Json = False) -> None:
    """Print the territory at a point, for each layer, the primary one first."""
    from geocrm import frames, texts

    with frames.connect(user=user) as session:
        found = frames.territory_at(session, lon, lat, as_of=texts.read_moment(as_of))
    table = texts.as_table(texts.of_territories(found), empty="No layer of territories was in force then.")
    typer.echo(texts.territories_as_json(found) if as_json else table)


@territory_app.command("of")
def territory_of(customer: str, as_of: _AsOf = None, user: _User = None, as_json: _Json = False) -> None:
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
    filter: _Filter = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
    user: _User = None,
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
    user: _User = None,
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


# ---------------------------------------------------------------- layers

segments_app = typer.Typer(help="Segments: divide customers, look at what is found, show it.", no_args_is_help=True)
app.add_typer(segments_app, name="segments")
_Key = Annotated[str, typer.Argument(help="The key of the segmentation.")]


@segments_app.command("list")
def segments_list(as_json: _Json = False) -> None:
    """List segmentations, and what of each is published."""
    from geocrm.segmentation import console

    console.show_list(as_json=as_json, echo=typer.echo)


@segments_app.command("create")
def segments_create(
    key: _Key,
    method: Annotated[str, typer.Option(help="rfm, groups, value, churn, hotspots or rule.")],
    name: Annotated[str | None, typer.Option(help="Default: the key.")] = None,
    parameters: Annotated[Path | None, typer.Option(help="A JSON file with the method's parameters.")] = None,
) -> None:
    """Make a segmentation; nothing is computed yet."""
    from geocrm.segmentation import console

    console.create(key, name, method, parameters, echo=typer.echo)


@segments_app.command("run")
def segments_run(
    key: _Key,
    cutoff: Annotated[str | None, typer.Option(help="What happened before it counts; default today.")] = None,
    seed: Annotated[int, typer.Option(help="The same data and seed make the same segments.", min=0)] = 1,
    then_publish: Annotated[bool, typer.Option("--publish", help="Publish the run when it is done.")] = False,
) -> None:
    """Compute a segmentation and print its segments."""
    from geocrm import texts
    from geocrm.segmentation import console

    console.run(key, texts.read_moment(cutoff), seed, then_publish=then_publish, echo=typer.echo)


@segments_app.command("publish")
def segments_publish(key: _Key, number: Annotated[int, typer.Argument(help="Number of the run.", min=1)]) -> None:
    """Let a run be the one that filters, cards and maps show."""
    from geocrm.segmentation import console

    console.publish(key, number, echo=typer.echo)


@segments_app.command("revert")
def segments_revert(key: _Key) -> None:
    """Publish the run again that was published before."""
    from geocrm.segmentation import console

    console.revert(key, echo=typer.echo)


@segments_app.command("activate")
def segments_activate(key: _Key) -> None:
    """Let lookups and the map carry the segments of this segmentation."""
    from geocrm.segmentation import console

    console.activate(key, echo=typer.echo)


analyses_app = typer.Typer(
    help="Analyses: what goes together, forecasts, penetration, the track of purchases.", no_args_is_help=True
)
app.add_typer(analyses_app, name="analyses")


@analyses_app.command("list")
def analyses_list(
    kind: Annotated[str | None, typer.Option(help="Of this kind only.")] = None, as_json: _Json = False
) -> None:
    """List analyses, the newest first."""
    from geocrm.segmentation import analysis_console

    analysis_console.show_list(kind, as_json=as_json, echo=typer.echo)


@analyses_app.command("run")
def analyses_run(
    kind: Annotated[str, typer.Argument(help="affinity, forecast, penetration or tracking.")],
    parameters: Annotated[Path | None, typer.Option(help="A JSON file with the kind's parameters.")] = None,
    cutoff: Annotated[str | None, typer.Option(help="What happened before it counts; default today.")] = None,
    seed: Annotated[int, typer.Option(help="The same data and seed find the same.", min=0)] = 1,
    as_json: _Json = False,
) -> None:
    """Analyse, keep what was found, and print it."""
    from geocrm import texts
    from geocrm.segmentation import analysis_console

    analysis_console.run(kind, parameters, texts.read_moment(cutoff), seed, as_json=as_json, echo=typer.echo)


@analyses_app.command("show")
def analyses_show(analysis: Annotated[str, typer.Argument(help="As ana_5.")], as_json: _Json = False) -> None:
    """Print what an analysis found."""
    from geocrm.segmentation import analysis_console

    analysis_console.show(analysis, as_json=as_json, echo=typer.echo)


layers_app = typer.Typer(help="Layers of areas: see what a draft changes, publish it, go back.", no_args_is_help=True)
app.add_typer(layers_app, name="layers")
_Version = Annotated[int | None, typer.Option(help="Which version; default the only draft.")]
_Reason = Annotated[str, typer.Option(help="Why; it stands in the ledger beside every move.")]
_EffectiveFrom = Annotated[str | None, typer.Option("--effective-from", help="A date or time; default now.")]


@layers_app.command("list")
def layers_list(as_json: _Json = False) -> None:
    """List the layers, what is in force and what waits."""
    from geocrm.spatial import console

    console.show_layers(as_json=as_json, echo=typer.echo)


@layers_app.command("preview")
def layers_preview(layer: str, version: _Version = None, effective_from: _EffectiveFrom = None) -> None:
    """Say who would move if the draft of a layer were published; nothing is changed."""
    from geocrm import texts
    from geocrm.spatial import console

    console.show_preview(layer, version, texts.read_moment(effective_from), echo=typer.echo)


@layers_app.command("publish")
def layers_publish(
    layer: str, reason: _Reason, version: _Version = None, effective_from: _EffectiveFrom = None
) -> None:
    """Put the draft of a layer in force, now, later or from a past day on."""
    from geocrm import texts
    from geocrm.spatial import console

    console.publish(layer, version, reason, texts.read_moment(effective_from), echo=typer.echo)


@layers_app.command("undo")
def layers_undo(layer: str, reason: _Reason, version: _Version = None) -> None:
    """Publish what held before the version in force (or the version given)."""
    from geocrm.spatial import console

    console.undo(layer, reason, version, echo=typer.echo)


@layers_app.command("discard")
def layers_discard(layer: str, version: int) -> None:
    """Throw a draft away."""
    from geocrm.spatial import console

    console.discard(layer, version, echo=typer.echo)


# ---------------------------------------------------------------- offers and geofences

offers_app = typer.Typer(help="Offers: what customers may have, where and when.", no_args_is_help=True)
app.add_typer(offers_app, name="offers")


@offers_app.command("list")
def offers_list(
    status: Annotated[str | None, typer.Option(help="draft, live or ended; default all.")] = None,
    as_json: _Json = False,
) -> None:
    """List the offers: how each stands, when it ends, how often it was redeemed."""
    from geocrm import texts
    from geocrm.campaigns import console

    rows = console.list_offers(status)
    typer.echo(texts.as_json(rows) if as_json else texts.as_table(rows, empty="There are no such offers."))


geofences_app = typer.Typer(help="Geofences: what phones and offers watch.", no_args_is_help=True)
app.add_typer(geofences_app, name="geofences")


@geofences_app.command("list")
def geofences_list(
    tag: Annotated[str | None, typer.Option(help="Only of this tag.")] = None, as_json: _Json = False
) -> None:
    """List the geofences, and which live offers name each."""
    from geocrm import texts
    from geocrm.campaigns import console

    rows = console.list_fences(tag)
    typer.echo(texts.as_json(rows) if as_json else texts.as_table(rows, empty="There are no such geofences."))


@geofences_app.command("import")
def geofences_import(
    file: Annotated[
        Path, typer.Argument(help="GeoJSON, GeoPackage, zipped Shapefile, CSV, XLSX or Parquet: polygons, or points.")
    ],
    tag: Annotated[str, typer.Option(help="What kind of fences they are, in a word of your own.")],
    id_column: Annotated[str | None, typer.Option(help="The column that names a fence; default id.")] = None,
    name_column: Annotated[str | None, typer.Option(help="Default name.")] = None,
    lon_column: Annotated[str | None, typer.Option(help="Of files without geometry; default lon.")] = None,
    lat_column: Annotated[str | None, typer.Option(help="Of files without geometry; default lat.")] = None,
    radius_column: Annotated[str | None, typer.Option(help="Metres round a point; default radius_m.")] = None,
    radius_m: Annotated[float | None, typer.Option(help="Of points without a radius of their own.")] = None,
    dwell_s: Annotated[float | None, typer.Option(help="Who is inside for so many seconds has dwelled.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(help="A column that is kept with the fence; repeat for several.")
    ] = None,
    crs: Annotated[str | None, typer.Option(help="Reference system of the coordinates, as EPSG:25832.")] = None,
    sheet: Annotated[str | None, typer.Option(help="Sheet of a workbook.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of the file.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")] = False,
) -> None:
    """Import geofences from a file: all of it, or nothing, and which rows are wrong. The same again changes nothing."""
    from geocrm import fence_files
    from geocrm.ingest.formats import Options

    named = {"external_id": id_column, "name": name_column, "lon": lon_column, "lat": lat_column,
             "radius_m": radius_column}  # fmt: skip
    fence_files.import_at_terminal(
        file, tag=tag, columns={field: column for field, column in named.items() if column is not None},
        metadata=metadata or (), radius_m=radius_m, dwell_s=dwell_s,
        options=Options(crs=crs, sheet=sheet, layer=layer), dry_run=dry_run, echo=typer.echo,
    )  # fmt: skip


# ---------------------------------------------------------------- people

users_app = typer.Typer(help="The people who sign in.", no_args_is_help=True)
app.add_typer(users_app, name="users")


@users_app.command("add")
def users_add(
    email: str,
    name: Annotated[str, typer.Option(help="Name of the person.")],
    role: Annotated[str, typer.Option(help="administrator, manager, rep, marketer or analyst.")],
    team: Annotated[str | None, typer.Option(help="Name of the team; made where there is none.")] = None,
    password: Annotated[
        str, typer.Option(envvar="GEOCRM_NEW_PASSWORD", prompt=True, hide_input=True, confirmation_prompt=True)
    ] = "",
) -> None:
    """Add a user; the password is asked for, or taken from GEOCRM_NEW_PASSWORD."""
    from geocrm.crm import console

    console.add_user(email, name, role, team, password, echo=typer.echo)


@users_app.command("list")
def users_list(as_json: _Json = False) -> None:
    """List the users."""
    from geocrm.crm import console

    console.list_users(as_json=as_json, echo=typer.echo)


@users_app.command("key")
def users_key(
    email: str,
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: Annotated[list[str], typer.Option(help="A scope, as customers:read; repeat for several.")],
) -> None:
    """Make an API key that acts for a user. It is shown once."""
    from geocrm.crm import console

    console.make_key(email, name, scope, echo=typer.echo)


# The part that owns a subject adds its commands below, in a section of its own.

if __name__ == "__main__":
    main()
