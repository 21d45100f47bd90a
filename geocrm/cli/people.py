"""Users and their keys."""

from typing import Annotated

import typer

from geocrm.cli.options import Json

app = typer.Typer()

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
def users_list(as_json: Json = False) -> None:
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
