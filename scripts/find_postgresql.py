"""Exit 0 where a PostgreSQL with PostGIS is installed that geocrm can use; `--explain` says what is missing."""

import sys

from geocrm.db.local import find_programs
from geocrm.errors import SetupError

try:
    find_programs()
except SetupError as error:
    sys.exit(f"geocrm set-up: {error}" if "--explain" in sys.argv else 1)
