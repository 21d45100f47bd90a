"""Offers and geofences."""

from pathlib import Path
from typing import Annotated

import typer

from geocrm.cli.options import Json

app = typer.Typer()

offers_app = typer.Typer(help="Offers: what customers may have, where and when.", no_args_is_help=True)
app.add_typer(offers_app, name="offers")


@offers_app.command("list")
def offers_list(
    status: Annotated[str | None, typer.Option(help="draft, live or ended; default all.")] = None,
    as_json: Json = False,
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
    tag: Annotated[str | None, typer.Option(help="Only of this tag.")] = None, as_json: Json = False
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
    recipe = fence_files.Recipe(
        tag, {field: column for field, column in named.items() if column is not None}, metadata or (), radius_m,
        dwell_s, Options(crs=crs, sheet=sheet, layer=layer),
    )  # fmt: skip
    fence_files.import_at_terminal(file, recipe, dry_run=dry_run, echo=typer.echo)
