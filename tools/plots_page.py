"""Write .dvc/plots/page.html, a template for `dvc plots` that works offline: DVC's own loads three libraries from the network.

npm install --prefix FOLDER vega@5.20.2 vega-lite@5.2.0 vega-embed@6.18.2   # the versions that DVC uses
python tools/plots_page.py FOLDER
"""

import re
import sys
from pathlib import Path

LIBRARIES = ("vega", "vega-lite", "vega-embed")
PAGE = Path(__file__).parents[1] / ".dvc/plots/page.html"
HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Plots of this pipeline</title>
{refresh_tag}
<!--
{licences}
-->
{libraries}
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem; }
table { border-spacing: 15px; }
img { max-width: 100%; height: auto; }
</style>
</head>
<body>
<h1>Plots of this pipeline</h1>
<main>
{plot_divs}
</main>
</body>
</html>
"""


def main() -> None:
    """Read the libraries from the given folder, and write the page."""
    modules = Path(sys.argv[1]) / "node_modules"
    holders: dict[str, list[str]] = {}  # names and copyright holders by licence text, which several libraries share
    for name in LIBRARIES:
        holder, _, text = (modules / name / "LICENSE").read_text(encoding="utf-8").strip().partition("\n")
        holders.setdefault(text.strip(), []).append(f"{name}: {holder}")
    licences = ["\n".join([*names, text]) for text, names in holders.items()]
    scripts = [(modules / name / f"build/{name}.min.js").read_text(encoding="utf-8").strip() for name in LIBRARIES]
    if any("</script" in script for script in scripts):
        sys.exit("error: a library contains </script, which would close its element early")
    scripts = [re.sub(r"\n//# sourceMappingURL=.*", "", script) for script in scripts]  # the maps are not part of the page
    elements = [f"<script>\n{script}\n</script>" for script in scripts]
    page = HEAD.replace("{licences}", "\n\n".join(licences)).replace("{libraries}", "\n".join(elements))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
