"""The way in: one word a chore, nothing fetched twice, lock files without addresses, containers, reference pages."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import psycopg
import pytest
import yaml
from typer.testing import CliRunner

from geocrm import cli
from geocrm.db import local, reach
from geocrm.errors import SetupError

ROOT = Path(__file__).parent.parent


# ---------------------------------------------------------------- Makefile and set-up script


def test_make_knows_every_chore() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r"make (\w+)", said))
    assert {"setup", "demo", "test", "lint", "bench", "soak", "docs"} <= listed
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert (ROOT / ".ci" / "run").stat().st_mode & stat.S_IXUSR


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A small checkout and a machine whose uv, npm and apt-get only note that they were called."""
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", checkout / "scripts")
    (checkout / "scripts" / "find_postgresql.py").write_text(
        "import os, sys; sys.exit(not os.path.exists('postgis-installed'))"
    )
    (checkout / "requirements.lock").write_text("some-package==1.0 --hash=sha256:00\n")
    (checkout / "pyproject.toml").write_text("[project]\n")
    web = checkout / "maps"
    (web / "src").mkdir(parents=True)
    (web / "package.json").write_text("{}")
    (web / "package-lock.json").write_text("{}")
    (web / "src" / "main.ts").write_text("let a")
    programs = tmp_path / "programs"
    programs.mkdir()
    make_venv = f'mkdir -p .venv/bin && ln -sf "{sys.executable}" .venv/bin/python'
    for name, does in {
        "uv": f'if [ "$1" = venv ]; then {make_venv}; fi',
        "npm": "mkdir -p maps/node_modules maps/dist",
        "apt-get": 'if [ "$1" = install ]; then touch postgis-installed; fi',
        "node": "exit 0",
        "chromium": "exit 0",
        "sudo": '"$@"',
    }.items():
        program = programs / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >>"{tmp_path}/calls"\n{does}\n')
        program.chmod(0o755)
    return checkout


def set_up(machine: Path, *arguments: str, programs: str | None = None) -> tuple[int, list[str], str]:
    """Run the set-up there; its exit code, the calls it made, and what it said."""
    calls = machine.parent / "calls"
    calls.unlink(missing_ok=True)
    path = programs or f"{machine.parent / 'programs'}:/usr/bin:/bin"
    environment = {"PATH": path, "HOME": str(machine.parent)}
    if shutil.which("python3", path="/usr/bin:/bin") is None:  # a machine whose Python is elsewhere
        environment["PATH"] += f":{Path(sys.executable).resolve().parent}"
    done = subprocess.run(
        [machine / "scripts" / "setup", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    made = calls.read_text().splitlines() if calls.exists() else []
    return done.returncode, [call for call in made if not call.startswith(("node -e", "uv --version"))], done.stderr


def test_setup_does_everything_once(machine: Path) -> None:
    code, calls, said = set_up(machine)
    assert code == 0, said
    assert [call for call in calls if "--require-hashes -r requirements.lock" in call]
    assert [call for call in calls if "--no-deps --no-build-isolation -e ." in call]
    assert [call for call in calls if call.startswith("npm --prefix maps ci")]
    assert [call for call in calls if call.startswith("npm --prefix maps run build")]
    assert [call for call in calls if re.search(r"apt-get install .*postgresql.*postgis", call)]

    assert set_up(machine) == (0, [], ""), "the second time there is nothing to do, and nothing is asked of a network"
    assert set_up(machine, "--tests")[:2] == (0, []), "a browser is there"


def test_setup_renews_only_what_changed(machine: Path) -> None:
    set_up(machine)
    (machine / "maps" / "src" / "main.ts").write_text("let b")
    code, calls, _ = set_up(machine)
    assert (code, [call.split()[3] for call in calls]) == (0, ["run"])

    (machine / "maps" / "package-lock.json").write_text('{"lockfileVersion": 3}')
    code, calls, _ = set_up(machine)
    assert (code, [call.split()[3] for call in calls]) == (0, ["ci", "run"])

    (machine / "requirements.lock").write_text("some-package==1.1 --hash=sha256:00\n")
    code, calls, _ = set_up(machine)
    assert code == 0
    assert {call.split()[0] for call in calls} == {"uv"}


def test_setup_without_apt_names_the_packages(machine: Path) -> None:
    programs = machine.parent / "programs"
    (programs / "apt-get").unlink()
    bare = machine.parent / "bare"
    bare.mkdir()
    for name in ("bash", "env", "cat", "cut", "find", "sort", "tail", "awk", "ls", "mkdir", "ln", "id", "tr", "xargs"):
        (bare / name).symlink_to(str(shutil.which(name)))
    for name in ("sha256sum", "dirname", "flock", "rm"):
        (bare / name).symlink_to(str(shutil.which(name)))
    (bare / "python3").symlink_to(sys.executable)
    code, _, said = set_up(machine, programs=f"{programs}:{bare}")
    assert code == 1
    assert re.search(r"install postgresql\S* .*or what your system calls them.*docker compose up", said), said


# ---------------------------------------------------------------- lock files


@pytest.mark.parametrize("name", ["requirements.lock", "scripts/uv.lock", "scripts/node.lock"])
def test_python_locks_carry_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    requirements = re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).strip())
    assert requirements
    for requirement in requirements:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", requirement), requirement
        assert "--hash=sha256:" in requirement, requirement


@pytest.mark.parametrize("folder", ["maps", "clients/typescript"])
def test_web_lock_carries_hashes_and_no_address(folder: str) -> None:
    packages = json.loads((ROOT / folder / "package-lock.json").read_text())["packages"]
    assert len(packages) > 10
    for name, package in packages.items():
        assert "resolved" not in package, name
        # builds for other systems than those a mirror carries are named by version alone
        assert not name or "integrity" in package or package.get("optional"), name


# ---------------------------------------------------------------- containers


def compose_text() -> str:
    """The compose file with its variables at their defaults, as compose itself would read it."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "docker-compose.yml").read_text()).replace("$$", "$")


def test_compose_file_is_valid() -> None:
    """By `docker compose config` where the plugin is installed, else by the Compose Specification's own rules."""
    plugin = shutil.which("docker") and any(
        (Path(place) / "docker-compose").exists()
        for place in (
            "/usr/libexec/docker/cli-plugins",
            "/usr/lib/docker/cli-plugins",
            "/usr/local/lib/docker/cli-plugins",
        )
    )
    if plugin:
        command = ["docker", "compose", "--env-file", os.devnull, "config", "-q"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return
    print("no docker compose plugin here: the file is checked against the Compose Specification instead")
    from compose_spec import PyCompose

    assert PyCompose.from_yaml(compose_text()).to_dict()["services"]
    with pytest.raises(ValueError, match="unknown variant"):  # the check can fail
        PyCompose.from_yaml(compose_text().replace("condition: service_healthy", "condition: sometimes"))


def test_compose_runs_the_same_parts() -> None:
    services = yaml.safe_load(compose_text())["services"]
    assert set(services) == {"password", "db", "api", "worker"}
    assert services["db"]["image"].startswith("postgis/postgis:")
    assert services["api"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "${PORT:-8000}" in (ROOT / "docker-compose.yml").read_text()
    assert services["worker"]["command"] == ["python", "-m", "geocrm.jobs"]
    assert "ports" not in services["db"], "the database is nobody else's business"
    # nowhere a password that everybody knows
    assert services["db"]["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/database/password"
    for name in ("api", "worker"):
        url = services[name]["environment"]["GEOCRM_DATABASE_URL"]
        assert url == "postgresql://geocrm_admin@db:5432/geocrm?passfile=/run/database/passfile"
        assert "password:/run/database:ro" in services[name]["volumes"]
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), f"Dockerfile copies {name}"


@pytest.mark.parametrize("chosen", ["", "chosen0123"])
def test_compose_makes_one_password_and_keeps_it(tmp_path: Path, chosen: str) -> None:
    service = yaml.safe_load(compose_text())["services"]["password"]
    *shell, script = service["entrypoint"]
    assert shell == ["sh", "-euc"]
    assert service["environment"] == {"GEOCRM_DB_PASSWORD": ""}
    owners = tmp_path / "chown"  # who may read what is the container's business
    owners.write_text('#!/bin/sh\necho "$@" >>"$OWNERS"\n')
    owners.chmod(0o755)
    place = tmp_path / "database"
    place.mkdir()
    made = []
    for password in (chosen, "another"):
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "GEOCRM_DB_PASSWORD": password, "OWNERS": f"{tmp_path}/owners",
        }  # fmt: skip
        subprocess.run([*shell, script.replace("/run/database", str(place))], env=environment, check=True)
        made.append((place / "password").read_text())
    assert made[0] == made[1], "the database has taken the first one"
    assert made[0] == chosen if chosen else re.fullmatch("[0-9a-f]{48}", made[0])
    assert (place / "passfile").read_text() == f"*:*:*:geocrm_admin:{made[0]}\n"
    assert sorted(p.name for p in place.iterdir()) == ["passfile", "password"]
    assert {p.stat().st_mode & 0o777 for p in place.iterdir()} == {0o600}, (
        "libpq takes no passfile that others can read"
    )
    assert set((tmp_path / "owners").read_text().splitlines()) == {"postgres password", "10001 passfile"}
    assert "--uid 10001" in (ROOT / "Dockerfile").read_text()


# ---------------------------------------------------------------- reference pages, licence


def test_reference_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "reference.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text


# ---------------------------------------------------------------- one sentence for what is wrong


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql", "is not a database address: it looks like postgresql://"),
        ("postgresql://u:secret@[::1/x", "is not a database address"),
        (
            "postgresql://u:secret@nowhere.invalid/x",
            r"host nowhere\.invalid, database x\): there is no machine of that name",
        ),
        ("postgresql://u:secret@127.0.0.1:1/x", "nothing listens there: start that PostgreSQL, or check host and port"),
        ("postgresql://u:secret@/x?host=/nonexistent", "no server has its socket there"),
    ],
)
def test_wrong_database_url(url: str, says: str) -> None:
    with pytest.raises(SetupError, match=says) as caught:
        reach.check(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_database_that_does_not_exist(cluster: local.Cluster) -> None:
    with pytest.raises(SetupError, match=r'database "none_of_ours" does not exist: create it, or check the name'):
        reach.check(cluster.admin_url("none_of_ours"))
    with pytest.raises(SetupError, match=r'role "nobody_here" does not exist'):
        reach.check(cluster.url("nobody_here", "postgres"))
    reach.check(cluster.admin_url("postgres"))
    reach.check(cluster.admin_url("postgres").replace("postgresql://", "postgresql+psycopg://"))


@pytest.mark.parametrize(
    ("version", "postgis", "says"),
    [
        (140_012, True, "GEOCRM_DATABASE_URL names a PostgreSQL 14: geocrm needs 15 or newer"),
        (160_003, False, r"the PostgreSQL at host db\.example, database x has no PostGIS: install the package"),
    ],
)
def test_unsuited_server(version: int, postgis: bool, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = MagicMock()
    connection.__enter__.return_value = connection
    connection.info.server_version = version
    connection.execute.return_value.fetchone.return_value = (1,) if postgis else None
    monkeypatch.setattr(psycopg, "connect", lambda *_, **__: connection)
    with pytest.raises(SetupError, match=says):
        reach.check("postgresql://u:secret@db.example/x")


def test_full_disk_is_said() -> None:
    error = psycopg.errors.DiskFull('could not extend file "base/16384/2663": No space left on device')
    assert reach.explain(error) == "the disk of the database is full: free some space on it and start again"


def test_command_line_says_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "geocrm.cli", "migrate"],
        env=os.environ | {"GEOCRM_DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "geocrm: GEOCRM_DATABASE_URL (host 127.0.0.1, database x): nothing listens there: "
        "start that PostgreSQL, or check host and port"
    ]


def test_wrong_setting_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "geocrm.cli", "ready"],
        env=os.environ | {"PORT": "web"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("geocrm: PORT='web': a whole number is needed")


def test_every_command_has_help() -> None:
    runner = CliRunner()
    listed = runner.invoke(cli.app, ["--help"])
    assert listed.exit_code == 0
    for name in ("up", "down", "migrate", "ready", "version"):
        assert name in listed.output
        said = runner.invoke(cli.app, [name, "--help"])
        assert said.exit_code == 0
        assert len(said.output.splitlines()) > 4
