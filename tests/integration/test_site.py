"""The site of the pages builds strictly: no dead link, and nothing that it fetches from others."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {page.relative_to(tmp_path).parent.as_posix(): page.read_text() for page in tmp_path.rglob("index.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= set(pages), "every page has its place"
    assert "similarity" in re.sub(r"<[^>]+>", "", pages["api/own_pictures"])
    for notebook in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        assert f'href="../{notebook.name}"' in pages[f"notebooks/{notebook.stem}"]
        assert (tmp_path / "notebooks" / notebook.name).is_file()
    for source in re.findall(r'<img [^>]*src="([^"]+)"', pages["."]):
        assert (tmp_path / source).is_file(), f"the first page has no {source}"
    asked = {
        link
        for page in pages.values()
        for link in re.findall(r'(?:src|href)="(https?://[^/"]+)[^"]*\.(?:js|css)"', page)
    }
    assert not asked, "the site asks other machines for nothing"
