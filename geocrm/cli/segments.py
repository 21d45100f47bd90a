"""Segmentations and analyses."""

from pathlib import Path
from typing import Annotated

import typer

from geocrm.cli.options import Json

app = typer.Typer()

segments_app = typer.Typer(help="Segments: divide customers, look at what is found, show it.", no_args_is_help=True)
app.add_typer(segments_app, name="segments")
Key = Annotated[str, typer.Argument(help="The key of the segmentation.")]


@segments_app.command("list")
def segments_list(as_json: Json = False) -> None:
    """List segmentations, and what of each is published."""
    from geocrm.segmentation import console

    console.show_list(as_json=as_json, echo=typer.echo)


@segments_app.command("create")
def segments_create(
    key: Key,
    method: Annotated[str, typer.Option(help="rfm, groups, value, churn, hotspots or rule.")],
    name: Annotated[str | None, typer.Option(help="Default: the key.")] = None,
    parameters: Annotated[Path | None, typer.Option(help="A JSON file with the method's parameters.")] = None,
) -> None:
    """Make a segmentation; nothing is computed yet."""
    from geocrm.segmentation import console

    console.create(key, name, method, parameters, echo=typer.echo)


@segments_app.command("run")
def segments_run(
    key: Key,
    cutoff: Annotated[str | None, typer.Option(help="What happened before it counts; default today.")] = None,
    seed: Annotated[int, typer.Option(help="The same data and seed make the same segments.", min=0)] = 1,
    then_publish: Annotated[bool, typer.Option("--publish", help="Publish the run when it is done.")] = False,
) -> None:
    """Compute a segmentation and print its segments."""
    from geocrm import texts
    from geocrm.segmentation import console

    console.run(key, texts.read_moment(cutoff), seed, then_publish=then_publish, echo=typer.echo)


@segments_app.command("publish")
def segments_publish(key: Key, number: Annotated[int, typer.Argument(help="Number of the run.", min=1)]) -> None:
    """Let a run be the one that filters, cards and maps show."""
    from geocrm.segmentation import console

    console.publish(key, number, echo=typer.echo)


@segments_app.command("revert")
def segments_revert(key: Key) -> None:
    """Publish the run again that was published before."""
    from geocrm.segmentation import console

    console.revert(key, echo=typer.echo)


@segments_app.command("activate")
def segments_activate(key: Key) -> None:
    """Let lookups and the map carry the segments of this segmentation."""
    from geocrm.segmentation import console

    console.activate(key, echo=typer.echo)


analyses_app = typer.Typer(
    help="Analyses: what goes together, forecasts, penetration, the track of purchases.", no_args_is_help=True
)
app.add_typer(analyses_app, name="analyses")


@analyses_app.command("list")
def analyses_list(
    kind: Annotated[str | None, typer.Option(help="Of this kind only.")] = None, as_json: Json = False
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
    as_json: Json = False,
) -> None:
    """Analyse, keep what was found, and print it."""
    from geocrm import texts
    from geocrm.segmentation import analysis_console

    analysis_console.run(kind, parameters, texts.read_moment(cutoff), seed, as_json=as_json, echo=typer.echo)


@analyses_app.command("show")
def analyses_show(analysis: Annotated[str, typer.Argument(help="As ana_5.")], as_json: Json = False) -> None:
    """Print what an analysis found."""
    from geocrm.segmentation import analysis_console

    analysis_console.show(analysis, as_json=as_json, echo=typer.echo)
