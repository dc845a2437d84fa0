"""What a docstring, a comment or a page cites is there: the page, and the heading in it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CITED = re.compile(r"(?:docs/)?([\w-]+\.md)#([\w-]+)")


def anchors(page: Path) -> set[str]:
    """A heading's anchor: lower case, no punctuation, hyphens for spaces."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_cited_heading_exists():
    files = [*(ROOT / "geoalign").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    cited = [(file, *found) for file in files for found in CITED.findall(file.read_text(encoding="utf-8"))]
    missing = [
        f"{file}: {page}#{anchor}" for file, page, anchor in cited if anchor not in anchors(ROOT / "docs" / page)
    ]
    assert not missing, "\n".join(missing)
