"""Files in, and what was imported out again."""

from pathlib import Path
from typing import Annotated

import typer

from geocrm.cli.options import Json

app = typer.Typer()

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
def import_list(as_json: Json = False) -> None:
    """List the imports, newest first."""
    from geocrm.ingest import console

    console.list_batches(as_json=as_json, echo=typer.echo)
