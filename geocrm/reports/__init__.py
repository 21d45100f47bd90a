"""Pages to hand on: maps and reports that open without a network."""
