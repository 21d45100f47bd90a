"""Zip containers (XLSX, zipped Shapefile) opened with suspicion: sizes, ratios, checksums and names are checked first.

The directory of a zip may lie about sizes, so every member is inflated once, counted and thrown away, before any
library sees it. Member names never become paths: `extract` writes under names of its own.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from geocrm.errors import InvalidFile

MAX_INFLATED_BYTES = 2 * 1024**3
MAX_RATIO = 150
RATIO_MATTERS_FROM_BYTES = 20 * 1024**2
MAX_MEMBERS = 5_000
_BLOCK = 1 << 20


def check(path: Path, *, max_inflated_bytes: int = MAX_INFLATED_BYTES) -> dict[str, int]:
    """Inflate every member once without keeping it → {member name: inflated bytes}.

    Raises InvalidFile for a damaged or truncated archive, an encrypted one, one that inflates beyond
    `max_inflated_bytes` or by more than `MAX_RATIO` (once over 20 MB), and for XML with a document type (entity bombs).
    """
    sizes: dict[str, int] = {}
    total = 0
    packed_bytes = max(path.stat().st_size, 1)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise InvalidFile(f"The archive holds {len(members):,} files; at most {MAX_MEMBERS:,} are read.")
            for member in members:
                if member.flag_bits & 0x1:
                    raise InvalidFile(
                        "The archive is protected by a password. Save it without one and upload it again."
                    )
                if member.filename in sizes:
                    raise InvalidFile(f"The archive holds “{_shown(member.filename)}” twice.")
                inflated = 0
                with archive.open(member) as stream:
                    head = b""
                    while block := stream.read(_BLOCK):
                        if not head:
                            head = block[:2048]
                        inflated += len(block)
                        total += len(block)
                        if total > max_inflated_bytes:
                            raise InvalidFile(
                                f"The archive inflates to more than {max_inflated_bytes // 1024**2:,} MB. "
                                "Split it, or send the data as CSV or Parquet."
                            )
                        if total > RATIO_MATTERS_FROM_BYTES and total > MAX_RATIO * packed_bytes:
                            raise InvalidFile(
                                f"The archive inflates to over {MAX_RATIO} times its size, as a zip bomb does; "
                                "it is not read. Send the data as CSV or Parquet."
                            )
                if member.filename.lower().endswith((".xml", ".rels")) and b"<!DOCTYPE" in head:
                    raise InvalidFile(f"“{_shown(member.filename)}” declares a document type, which is not read.")
                sizes[member.filename] = inflated
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise InvalidFile(
            f"The archive is damaged or cut short ({_reason(error)}). Save or download it again and upload the "
            f"whole file."
        ) from error
    return sizes


def extract(path: Path, members: Mapping[str, Path]) -> None:
    """Write chosen members to the given paths, which the caller has named; sizes were bounded by `check`."""
    with zipfile.ZipFile(path) as archive:
        for member, target in members.items():
            with archive.open(member) as stream, target.open("wb") as out:
                while block := stream.read(_BLOCK):
                    out.write(block)


def _shown(name: str) -> str:
    return re.sub(r"[^\w./ -]", "?", name)[-80:]


def _reason(error: Exception) -> str:
    text = str(error).strip().rstrip(".")
    return re.sub(r"[^\w .,:()-]", "?", text)[:80] or type(error).__name__
