"""Every command of the README is run, in its order, against a running demo company (a small one)."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from geocrm.settings import CHECKOUT
from tests.faults.running import Running, fresh_home

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
BLOCKS = [(kind, text) for kind, text in re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)]
COMMANDS = [text for kind, text in BLOCKS if kind == "console"]
MADE_WORDS = ("make demo\n", "make test\n")  # their parts run in CI and in tests/test_setup.py

# What each part of the tutorial must have shown, beside ending well.
SHOWN = (
    ("geocrm nearby", ("distance_m", "bearing_deg")),
    ("--preview", ("Latitude", "Account Name")),
    ("geocrm layers publish spring-campaign", ("Version 1 of spring-campaign is in force", "campaign.html")),
    ("geocrm import undo", ("imp_3 is undone", "imp_2 is undone")),
    ("geocrm users key", ('"role":"rep"', '"distance_m"', '"territory"', "application/problem+json", "422")),
    ("geocrm users add", ("ada@example.com signs in as administrator", "Version 1 of sales is in force")),
)


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    with fresh_home() as home:
        running = Running(home / "home")
        loaded = running.run("migrate")
        assert loaded.returncode == 0, loaded.stderr
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


@pytest.mark.timeout(900)
def test_every_command_works_and_shows_what_it_says(demo: Running, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(CHECKOUT / "data")
    (tmp_path / ".venv").symlink_to(CHECKOUT / ".venv")
    script = ["set -eo pipefail"]
    for number, text in enumerate(COMMANDS):
        if text not in MADE_WORDS:
            script += [f"echo '=== block {number}'", text]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script).replace("http://127.0.0.1:8000", f"http://127.0.0.1:{demo.port}")],
        cwd=tmp_path,
        env=demo.environment | {"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=880,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    said = dict(re.findall(r"=== block (\d+)\n(.*?)(?==== block|\Z)", done.stdout, re.DOTALL))
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


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", README)
    assert len(targets) > 10
    for target in targets:
        assert target.startswith("http") or (CHECKOUT / target).exists(), target
