"""Layers of territories, drafted and published."""

from typing import Annotated

import typer

from geocrm.cli.options import Json

app = typer.Typer()

layers_app = typer.Typer(help="Layers of areas: see what a draft changes, publish it, go back.", no_args_is_help=True)
app.add_typer(layers_app, name="layers")
Version = Annotated[int | None, typer.Option(help="Which version; default the only draft.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the ledger beside every move.")]
EffectiveFrom = Annotated[str | None, typer.Option("--effective-from", help="A date or time; default now.")]


@layers_app.command("list")
def layers_list(as_json: Json = False) -> None:
    """List the layers, what is in force and what waits."""
    from geocrm.spatial import console

    console.show_layers(as_json=as_json, echo=typer.echo)


@layers_app.command("preview")
def layers_preview(layer: str, version: Version = None, effective_from: EffectiveFrom = None) -> None:
    """Say who would move if the draft of a layer were published; nothing is changed."""
    from geocrm import texts
    from geocrm.spatial import console

    console.show_preview(layer, version, texts.read_moment(effective_from), echo=typer.echo)


@layers_app.command("publish")
def layers_publish(layer: str, reason: Reason, version: Version = None, effective_from: EffectiveFrom = None) -> None:
    """Put the draft of a layer in force, now, later or from a past day on."""
    from geocrm import texts
    from geocrm.spatial import console

    console.publish(layer, version, reason, texts.read_moment(effective_from), echo=typer.echo)


@layers_app.command("undo")
def layers_undo(layer: str, reason: Reason, version: Version = None) -> None:
    """Publish what held before the version in force (or the version given)."""
    from geocrm.spatial import console

    console.undo(layer, reason, version, echo=typer.echo)


@layers_app.command("discard")
def layers_discard(layer: str, version: int) -> None:
    """Throw a draft away."""
    from geocrm.spatial import console

    console.discard(layer, version, echo=typer.echo)
