"""``python -m geoalign.options``: write docs/configuration.md; ``--check`` only compares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from geoalign.options.page import page
from geoalign.options.yamls import CONF

PAGE = CONF.parent / "docs" / "configuration.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """1 where the page is not what the yamls say, with the remedy."""
    parser = argparse.ArgumentParser(prog="python -m geoalign.options", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where the page is out of date")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE", help="docs/configuration.md")
    options = parser.parse_args(arguments)
    text = page()
    if not options.check:
        options.out.write_text(text, encoding="utf-8")
        print(options.out)
        return 0
    if options.out.is_file() and options.out.read_text(encoding="utf-8") == text:
        return 0
    print(f"error: {options.out} is not what conf/ says; run python -m geoalign.options", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
