"""Runs the benchmarks: `python -m benchmarks.run [name …]`, all of them without names.

Results go to benchmarks/results/latest.json, one object a row; rows of benchmarks that did not run now are kept.
"""

import argparse
import importlib
import json
import pkgutil
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import benchmarks

RESULTS = Path(__file__).parent / "results" / "latest.json"
KEYS = ("row", "peer", "metric", "ours", "theirs", "ratio", "target", "met", "scale", "equal")


def discover() -> list[str]:
    """Names of the modules that measure something."""
    names = []
    for found in pkgutil.iter_modules(benchmarks.__path__):
        if found.ispkg or found.name == "run":
            continue
        source = (Path(__file__).parent / f"{found.name}.py").read_text(encoding="utf-8")
        if "\ndef measure(" in source:
            names.append(found.name)
    return sorted(names)


def as_object(made: Any) -> dict[str, Any]:
    """A row as JSON object; raises ValueError where a key is missing."""
    row = asdict(made) if is_dataclass(made) and not isinstance(made, type) else dict(made)
    if missing := [key for key in KEYS if key not in row]:
        raise ValueError(f"a row lacks {', '.join(missing)}")
    return row


def main() -> int:
    """Run, print, write; 1 where a benchmark failed, a target was missed or results differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *discover()], help="benchmarks to run (default: all)")
    wanted = parser.parse_args().names or discover()
    former: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    kept = [row for row in former if row.get("benchmark") not in wanted]
    made: list[dict[str, Any]] = []
    failed = False
    for name in wanted:
        print(f"== {name}", flush=True)
        began = time.perf_counter()
        try:
            rows: Iterable[Any] = importlib.import_module(f"benchmarks.{name}").measure()
            for row in map(as_object, rows):
                made.append(row | {"benchmark": name})
                line = f"{row['row']}: {row['ours']:g} against {row['theirs']:g} ({row['peer']}), {row['metric']}: "
                verdict = "met" if row["met"] else "MISSED"
                aim = "" if row["target"] is None else f", target {row['target']:g} {verdict}"
                print(f"{line}ratio {row['ratio']:g}{aim}; equal: {row['equal']}", flush=True)
                failed |= row["met"] is False or not row["equal"]
        except Exception:
            traceback.print_exc()
            failed = True
        print(f"   {time.perf_counter() - began:.0f} s", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(kept + made, indent=1) + "\n", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
