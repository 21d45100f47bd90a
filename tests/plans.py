"""What plans that PostgreSQL told say of the rows that they touched."""

import re


def touched(plans: list[str], table: str) -> int:
    """Rows that scans of a table gave or threw away."""
    total = 0
    for plan in plans:
        lines = plan.splitlines()
        for at, line in enumerate(lines):
            found = re.search(rf"Scan.* on {table} .*\(actual rows=(\d+) loops=(\d+)\)", line)
            if not found:
                continue
            total += int(found[1]) * int(found[2])
            for below in lines[at + 1 : at + 8]:
                if "->" in below:
                    break
                if thrown := re.search(r"Rows Removed by (?:Filter|Index Recheck): (\d+)", below):
                    total += int(thrown[1]) * int(found[2])
    return total
