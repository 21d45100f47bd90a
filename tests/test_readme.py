"""Every command of the README and of the how-to pages is run, in its order, against a running demo company (a small
one)."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from geocrm.settings import CHECKOUT
from tests.clients.conftest import build_python_client
from tests.faults.running import Running, fresh_home

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
FENCED = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = FENCED.findall(README)
COMMANDS = [text for kind, text in BLOCKS if kind == "console"]
MADE_WORDS = ("make demo\n", "make test\n")  # their parts run in CI and in tests/test_setup.py

# What each part of the tutorial must have shown, beside ending well.
SHOWN = (
    ("geocrm nearby", ("distance_m", "bearing_deg")),
    ("--preview", ("Latitude", "Account Name")),
    ("geocrm layers publish spring-campaign", ("Version 1 of spring-campaign is in force", "campaign.html")),
    ("geocrm segments run", ("Champions", "Lookups and tiles carry the segments of buyers now")),
    ("geocrm import undo", ("imp_2 is undone", "imp_1 is undone")),
    ("geocrm users key", ('"role":"rep"', '"distance_m"', '"territory"', "application/problem+json", "422")),
    ("geocrm users add", ("ada@example.com signs in as administrator", "Version 1 of sales is in force")),
)


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    with fresh_home() as home:
        running = Running(home / "home", GEOCRM_WEBHOOK_ALLOW_PRIVATE="true")  # as the page for app builders says
        loaded = running.run("demo", "load", "--customers", "2000")
        assert loaded.returncode == 0, loaded.stderr
        running.start()
        running.wait_for("ready after")
        yield running
        running.clean_up()


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    assert [text for text in COMMANDS if text in MADE_WORDS] == list(MADE_WORDS)
    for word in ("demo", "test"):
        assert re.search(rf"^{word}:", makefile, re.MULTILINE)


def run_blocks(demo: Running, folder: Path, blocks: list[str], **environment: str) -> dict[str, str]:
    """Run blocks of commands in one shell, in this folder, as somebody in the checkout would; what each one said."""
    for name in ("data", ".venv", "clients"):
        (folder / name).symlink_to(CHECKOUT / name)
    script = ["set -eo pipefail"]
    for number, text in enumerate(blocks):
        if text not in MADE_WORDS:
            script += [f"echo '=== block {number}'", text]
    with (folder / "said.txt").open("w") as output:
        done = subprocess.run(
            ["bash", "-c", "\n".join(script).replace("http://127.0.0.1:8000", f"http://127.0.0.1:{demo.port}")],
            cwd=folder,
            env=demo.environment | {"PATH": os.environ["PATH"]} | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=880,
        )
    said = (folder / "said.txt").read_text()
    assert done.returncode == 0, said[-4000:]
    return dict(re.findall(r"=== block (\d+)\n(.*?)(?==== block|\Z)", said, re.DOTALL))


@pytest.mark.timeout(900)
def test_every_command_works_and_shows_what_it_says(demo: Running, tmp_path: Path) -> None:
    said = run_blocks(demo, tmp_path, COMMANDS)
    for command, wanted in SHOWN:
        number = next(str(i) for i, text in enumerate(COMMANDS) if command in text)
        for words in wanted:
            assert words in said[number], f"{words!r} is not in what block {number} said:\n{said[number][-3000:]}"
    assert (tmp_path / "campaign.html").stat().st_size > 100_000


def test_the_python_example_works(demo: Running, tmp_path: Path) -> None:
    (example,) = [text for kind, text in BLOCKS if kind == "python"]
    done = subprocess.run(
        [CHECKOUT / ".venv" / "bin" / "python", "-c", example],
        cwd=tmp_path, env=demo.environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "distance_m" in done.stdout


HOW_TO = CHECKOUT / "docs" / "how-to"
# The pages whose commands are run, one after the other in this order, and what they must have shown in the end.
PAGES = {
    "territories": ("Downtown Denver", "of campaign is in force", '"status":"done"'),
    "people-and-keys": ("key.create",),
    "geofences": ("fences 1 new", '"dry_run":true', "shops/boulder-1", "ask_again_m", "geofence.entered"),
    "automation": ("the offer is not live", '"status":"done"', "A warm welcome", '"data":[]'),
    "first-app": (
        '"others" : null',
        "told: geofence.entered\n",
        "told: geofence.dwelled\n",
        "here and now: [",
        "'A coffee on us'",
        "a second one: 409 The offer cannot be redeemed: all of it is taken.\n",
        "told: geofence.exited\n",
        "404 not-found 404 There is no such object",
    ),
    "offers": ("an offer needs an end", "A coffee on us", "customer_cap_reached", "Rung up twice", '"ended"'),
    "import": ("is undone",),
    "notebooks": ("distance_m",),
    "report": ("accounts.html",),
    "segments": ("Champions", "is published"),
    "analyses": ("ana_1",),
    "segments-report": ("customers.html",),
}
SOAKED = {"import", "report", "segments", "analyses", "segments-report"}
NOT_RUN = {"running"}  # starts and stops services, see tests/faults/test_up.py
# Around the blocks of Python of a page: what the page says is there, and that something came out.
IN_A_SESSION = (
    "from geocrm.access import SYSTEM as actor\nfrom geocrm.db.engine import command_session\n"
    "scope, wanted = command_session(), None\nsession = scope.__enter__()",
    "scope.__exit__(None, None, None)\nassert len(html) > 10_000",
)
AROUND = {
    "report": IN_A_SESSION,
    "segments-report": IN_A_SESSION,
    "analyses": (
        "from geocrm.db.engine import command_database\nmade = command_database()\ndatabase = made.__enter__()",
        "made.__exit__(None, None, None)\nassert asked.id",
    ),
    "first-app": ("", ""),
    "notebooks": ("", "print(list(near.columns))\nassert len(near) == 20 and total > 0"),
}


# the README's own commands are an import, its undo and a report already, and tests/segmentation/ runs what the others
# compute for minutes: these pages need not be in every run
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.soak] if page in SOAKED else []) for page in PAGES]
)
@pytest.mark.timeout(900)
def test_every_command_of_a_how_to_page_works(demo: Running, tmp_path: Path, page: str) -> None:
    blocks = FENCED.findall((HOW_TO / f"{page}.md").read_text(encoding="utf-8"))
    commands = [text for kind, text in blocks if kind in ("console", "bash")]
    (tmp_path / "customers.csv").symlink_to(CHECKOUT / "data" / "samples" / "customers.csv")
    # the import just made has another number here
    commands = [text.replace("imp_9", "$(grep -oE 'imp_[0-9]+' said.txt | tail -1)") for text in commands]
    examples = [text for kind, text in blocks if kind == "python"]
    if examples:
        before, after = AROUND[page]
        (tmp_path / "example.py").write_text("\n".join([before, *examples, after]))
        commands.append("python example.py" if page != "first-app" else "my-app/bin/python example.py")
    if page == "first-app":
        commands = install_without_a_network(commands, tmp_path)
    path = f"{CHECKOUT / '.venv' / 'bin'}:{os.environ['PATH']}"
    said = "".join(run_blocks(demo, tmp_path, commands, PATH=path).values())
    for words in PAGES[page]:
        assert words in said, said[-3000:]
    if page == "territories":  # the undo takes back the split, not only the move by hand after it
        _, _, after = said.rpartition('"name":"layer.undo"')
        assert '"areas"' in after or '"data"' in after, said[-3000:]
        assert "Downtown Denver" not in after, said[-3000:]


def install_without_a_network(commands: list[str], folder: Path) -> list[str]:
    """pip gets its tools from a registry: here the client is built by the same hook, alone on the path."""
    (folder / "my-app" / "bin").mkdir(parents=True)
    python = folder / "my-app" / "bin" / "python"
    site = build_python_client(folder / "built")
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {CHECKOUT / ".venv" / "bin" / "python"} "$@"\n')
    python.chmod(0o755)
    install = "python3 -m venv my-app && my-app/bin/pip install ./clients/python\n"
    assert sum(install in text for text in commands) == 1
    return [text.replace(install, "") for text in commands]


def test_every_how_to_page_is_run_or_named() -> None:
    assert {path.stem for path in HOW_TO.glob("*.md")} == set(PAGES) | NOT_RUN


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", README)
    assert len(targets) > 10
    for target in targets:
        assert target.startswith("http") or (CHECKOUT / target).exists(), target
