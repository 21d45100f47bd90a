"""Asks a server as fast as it answers: wrk where it is installed, else a small client of our own."""

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

LUA = """
local paths = {}
for line in io.lines("%s") do paths[#paths + 1] = line end
local at = 0
request = function()
  at = at %% #paths + 1
  return wrk.format("GET", paths[at])
end
done = function(summary, latency, requests)
  io.write(string.format("RESULT %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout,
    latency:percentile(95)))
end
"""


@dataclass(frozen=True)
class Load:
    """What a run gave: requests a second, the 95th percentile of the latency, how many failed."""

    per_second: float
    p95_ms: float
    requests: int
    failed: int


def run(base: str, paths: Sequence[str], *, seconds: float, connections: int, headers: Mapping[str, str]) -> Load:
    """Ask the paths in turn over so many connections."""
    if shutil.which("wrk"):
        return _wrk(base, paths, seconds, connections, headers)
    return asyncio.run(_own(base, paths, seconds, connections, headers))


def _wrk(base: str, paths: Sequence[str], seconds: float, connections: int, headers: Mapping[str, str]) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        listed, script = Path(folder) / "paths", Path(folder) / "paths.lua"
        listed.write_text("\n".join(paths))
        script.write_text(LUA % listed)
        words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script), "--timeout", "20s"]
        for name, value in headers.items():
            words += ["-H", f"{name}: {value}"]
        said = subprocess.run([*words, base], capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+)", said)
    if found is None:
        raise RuntimeError(f"wrk said: {said}")
    requests, duration_us, failed, p95_us = map(int, found.groups())
    return Load(requests / duration_us * 1e6, p95_us / 1000, requests, failed)


async def _own(base: str, paths: Sequence[str], seconds: float, connections: int, headers: Mapping[str, str]) -> Load:
    place = urlsplit(base)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    questions = [f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\n{head}\r\n".encode() for path in paths]
    times: list[float] = []
    failed = 0
    began = time.perf_counter()

    async def client(first: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        at = first
        while time.perf_counter() - began < seconds:
            asked = time.perf_counter()
            writer.write(questions[at % len(questions)])
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = re.search(rb"content-length: (\d+)", answer)
            await reader.readexactly(int(size[1]) if size else 0)
            failed += not answer.startswith(b"http/1.1 200")
            times.append(time.perf_counter() - asked)
            at += connections
        writer.close()

    await asyncio.gather(*(client(i) for i in range(connections)))
    times.sort()
    spent = time.perf_counter() - began
    return Load(len(times) / spent, times[int(len(times) * 0.95)] * 1000, len(times), failed)


def cpu_seconds(roots: Sequence[int]) -> float:
    """CPU time that these processes and their present children have used so far, seconds."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(entry.name) in roots or int(fields[1]) in roots:
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total
