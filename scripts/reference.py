"""Writes docs/reference/: the command line and the settings, from the code itself. `--check` writes nothing and exits 1
where a page is out of date."""

import os
import sys
from pathlib import Path

os.environ["COLUMNS"] = "100"  # the help pages are wrapped alike on every machine
os.environ["TERM"] = "dumb"
os.environ["NO_COLOR"] = "1"

import typer
from typer.main import get_command

from geocrm.cli import app
from geocrm.settings import CHECKOUT, Settings

REFERENCE = CHECKOUT / "docs" / "reference"


def command_line() -> str:
    """A section for every command, holding its `--help`."""
    pages = ["# The command line\n\nWritten by `make docs` from the commands' own help.\n"]

    def walk(command: typer.core.TyperGroup | typer.core.TyperCommand, words: list[str]) -> None:
        with command.make_context(words[-1], [], resilient_parsing=True) as context:
            context.info_name = " ".join(words)
            context.terminal_width = 100
            text = command.get_help(context)
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        pages.append(f"## {' '.join(words)}\n\n```text\n{lines}\n```\n")
        for name, inner in sorted(getattr(command, "commands", {}).items()):
            walk(inner, [*words, name])

    walk(get_command(app), ["geocrm"])
    return "\n".join(pages)


def settings() -> str:
    """A row for every setting."""
    rows = [
        "# Settings\n",
        "Read from the environment. Written by `make docs` from `geocrm/settings.py`.\n",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        variable = "PORT" if name == "port" else f"GEOCRM_{name.upper()}"
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Path) and default.is_relative_to(CHECKOUT):
            shown = f"`{default.relative_to(CHECKOUT)}` in the checkout"
        else:
            shown = "" if default in (None, {}) else f"`{default}`"
        rows.append(f"| `{variable}` | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


PAGES = {"command-line.md": command_line, "settings.md": settings}


def main(*, check: bool) -> int:
    """Write (or compare) all pages; the number of pages out of date."""
    stale = 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        path, text = REFERENCE / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale += 1
            print(f"{path.relative_to(CHECKOUT)} {'is out of date: run `make docs`' if check else 'written'}")
            if not check:
                path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(1 if main(check="--check" in sys.argv) and "--check" in sys.argv else 0)
