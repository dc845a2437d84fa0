"""Pages of the site that are other files of the repository: README, CONTRIBUTING, CHANGELOG and the notebooks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """A page that the navigation does not place stands at its end."""
    placed = set(re.findall(r"[\w./-]+\.md", json.dumps(config.nav)))
    if left := sorted({path.name for path in (ROOT / "docs").glob("*.md")} - placed):
        assert config.nav is not None
        config.nav.append({"More": left})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages, with links as seen from inside ``docs``."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, content=inside((ROOT / source).read_text(encoding="utf-8"))))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=as_page(json.loads(path.read_text()))))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to notebooks lead to their pages."""
    return re.sub(r"(\]\([\w./-]*notebooks/\w+)\.ipynb\)", r"\1.md)", markdown)


def inside(text: str) -> str:
    """A page of the repository's root as one of ``docs``."""
    for source, name in PAGES.items():
        text = text.replace(f"]({source}", f"]({name}")
    text = re.sub(r"\[([^]]+)\]\(CITATION.cff\)", r"`\1`", text)
    return text.replace("](docs/", "](").replace('src="docs/', 'src="')


def as_page(notebook: dict[str, Any]) -> str:
    """Text as it is, code in blocks."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    return "\n\n".join(text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells) + "\n"
