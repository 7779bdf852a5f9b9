"""Import Labbook from the project that contains this script, even if another copy is installed.

Every stage imports this module first: `dvc exp run --temp` and DVC's queue run the stages in a copy of the project.
"""

import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"

if SOURCE.is_dir():
    sys.path.insert(0, str(SOURCE))
