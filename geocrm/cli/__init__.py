"""The command line: parse, call, print. What a command does stands in the module it calls.

A module a subject, each with its commands.
"""

import os
import sys

import typer

from geocrm.cli import imports, layers, lookups, offers, people, running, segments
from geocrm.errors import GeocrmError

app = typer.Typer(
    name="geocrm",
    help="A geographic CRM: customers, sales and territories on PostGIS, with lookups, a map and an API.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _subject in (running, imports, lookups, segments, layers, offers, people):
    app.add_typer(_subject.app)


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
