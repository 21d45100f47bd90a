"""What `geocrm analyses` does: list, run, show."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from geocrm import ids
from geocrm.access import SYSTEM
from geocrm.db.engine import command_database, command_session
from geocrm.db.models import Analysis
from geocrm.segmentation import analyses
from geocrm.segmentation.console import read_parameters

Echo = Callable[[str], Any]
MOST_LINES = 20


def show_list(kind: str | None, *, as_json: bool, echo: Echo) -> None:
    """A line for each analysis, the newest first."""
    with command_session() as session:
        found = analyses.find_analyses(session, kind=kind)
        rows = [
            {"id": ids.show("ana", held.id), "kind": held.kind, "status": held.status,
             "cutoff": held.cutoff.isoformat(), "parameters": held.parameters}
            for held in found
        ]  # fmt: skip
    if as_json:
        echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    if not rows:
        echo("No analyses yet: `geocrm analyses run affinity` makes one.")
    for row in rows:
        parameters = json.dumps(row["parameters"], ensure_ascii=False)
        echo(f"{row['id']:<10} {row['kind']:<12} {row['status']:<10} before {str(row['cutoff'])[:10]}  {parameters}")


def run(kind: str, parameters: Path | None, cutoff: datetime | None, seed: int, *, as_json: bool, echo: Echo) -> None:
    """Analyse here and now, and show what was found."""
    given = read_parameters(parameters)
    with command_database() as database:
        with database.writing() as session:
            started = analyses.start(
                session, kind, actor=SYSTEM, parameters=given, cutoff=cutoff, seed=seed, queued=False
            )
        analyses.execute(database, started.id)
        with database.writing() as session:
            _show(analyses.get_analysis(session, started.id), as_json=as_json, echo=echo)


def show(which: str, *, as_json: bool, echo: Echo) -> None:
    """What an analysis found."""
    with command_session() as session:
        _show(analyses.get_analysis(session, ids.read("ana", which)), as_json=as_json, echo=echo)


def _show(held: Analysis, *, as_json: bool, echo: Echo) -> None:
    if as_json:
        echo(json.dumps(analyses.results_of(held), ensure_ascii=False, indent=2))
        return
    echo(f"{ids.show('ana', held.id)}: {held.kind} of what was before {held.cutoff:%Y-%m-%d}, {held.status}.")
    if held.error is not None:
        echo(f"  {held.error['detail']}")
    if held.status == "done":
        for line in _SAID[held.kind](held.results):
            echo(f"  {line}")
        for note in held.results["notes"]:
            echo(f"  {note}")


def _affinity(results: dict[str, Any]) -> list[str]:
    offers = results["offers"]
    return [*results["sentences"], *([] if offers is None else [offers["sentence"]])]


def _forecast(results: dict[str, Any]) -> list[str]:
    place = results["levels"].index(max(results["levels"]))
    lines = [f"{results['currency']}, {results['periods'][0]} to {results['periods'][-1]}, by {results['period']}"]
    for row in results["rows"][:MOST_LINES]:
        if row["mean"][0] is None:
            lines.append(f"{row['name']}: {row['reason']}")
            continue
        low, high = row["low"][place][0], row["high"][place][0]
        lines.append(
            f"{row['name']}: {sum(row['mean']):,.0f} in all, next {row['mean'][0]:,.0f} ({low:,.0f} to {high:,.0f})"
            f"; {row['reason']}"
        )
    return lines


def _penetration(results: dict[str, Any]) -> list[str]:
    known = sorted((row for row in results["rows"] if row["share"] is not None), key=lambda row: -row["customers"])
    return [
        f"{row['name']}: {row['customers']:,} of {row['population']:,.0f}, {row['share']:.2%} ({row['low']:.2%} to "
        f"{row['high']:.2%})" + ("" if row["potential"] is None else f"; areas like it: {row['potential']:+,.0f}")
        for row in known[:MOST_LINES]
    ]


def _tracking(results: dict[str, Any]) -> list[str]:
    error = ""
    if results["error"] is not None:
        error = f": {abs(results['error']):.1%} too {'many' if results['error'] > 0 else 'few'} were expected"
    return [
        f"{results['customers']:,} customers who had bought {results['weeks']} weeks before: expected "
        f"{results['expected_of_histories']:,.0f} more purchases ({results['low']:,.0f} to {results['high']:,.0f}),"
        f" {results['came']:,.0f} came{error}; a week is off by {results['weekly_error']:,.1f} of "
        f"{results['weekly_mean']:,.1f} on average."
    ]


_SAID: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "affinity": _affinity, "forecast": _forecast, "penetration": _penetration, "tracking": _tracking,
}  # fmt: skip
