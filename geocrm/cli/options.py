"""Options that several commands share."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
User = Annotated[str | None, typer.Option("--user", help="Whose eyes: e-mail or usr_7. Without it, everything.")]
Filter = Annotated[str | None, typer.Option("--filter", help="A filter of the filter language, as JSON.")]
NUMBERS = {"ignore_unknown_options": True}  # a western longitude begins with a minus
