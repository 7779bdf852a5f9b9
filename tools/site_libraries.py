"""Write src/labbook/report/static/vendor: the libraries for the charts of the site, which is self-contained.

npm install --prefix FOLDER d3@7.9.0 @observablehq/plot@0.6.17   # Plot requires d3 7.9
python tools/site_libraries.py FOLDER
"""

import json
import sys
from pathlib import Path

LIBRARIES = {"d3": "d3.min.js", "@observablehq/plot": "plot.umd.min.js"}
VENDOR = Path(__file__).parents[1] / "src/labbook/report/static/vendor"


def main() -> None:
    """Copy the libraries and their licences from the given folder."""
    licences = []
    for name, script in LIBRARIES.items():
        package = Path(sys.argv[1]) / "node_modules" / name
        version = json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
        licences.append(f"{name} {version}\n\n{(package / 'LICENSE').read_text(encoding='utf-8').strip()}\n")
        (VENDOR / script.replace(".umd", "")).write_bytes((package / "dist" / script).read_bytes())
    (VENDOR / "LICENSES.txt").write_text("\n\n".join(licences), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
