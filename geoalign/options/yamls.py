"""The yamls as people read them: what each says of itself, the options it sets and the comments behind them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import yaml

from geoalign.options.schema import PACKAGE

CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""Inside the package in a wheel, beside it in a checkout."""


class Choice(NamedTuple):
    """A yaml: its head, its list of defaults, and text and comment of every option by dotted name."""

    header: str
    defaults: list[Any]
    values: dict[str, str]
    comments: dict[str, str]

    def targets(self) -> Iterator[tuple[str, str]]:
        """Where something is called, as a dotted name with its end, and what."""
        ends = "_target_"
        yield from ((key.removesuffix(ends), value) for key, value in self.values.items() if key.endswith(ends))


@cache
def read(name: str) -> Choice:
    """The yaml ``conf/<name>.yaml`` alone, without those that its defaults name."""
    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    found = list(_options(root, text.splitlines())) if isinstance(root, yaml.MappingNode) else []
    values, comments = {key: value for key, value, _ in found}, {key: comment for key, _, comment in found if comment}
    return Choice(_header(text), (yaml.safe_load(text) or {}).get("defaults", []), values, comments)


def groups() -> list[str]:
    """Every group with its choices below ``conf``, such as ``data/sampler``."""
    return sorted({path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")} - {"."})


def choices(group: str) -> list[str]:
    """The names that may follow ``<group>=``; folders count where the group holds nothing else."""
    folder = CONF / group
    paths = list(folder.glob("*.yaml")) or list(folder.rglob("*.yaml"))
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in paths)


def default_groups(script: str) -> dict[str, str | None]:
    """The groups a script chooses from, with its defaults."""
    return {group: choice for entry in read(script).defaults if entry != "_self_" for group, choice in entry.items()}


def _options(node: yaml.MappingNode, lines: list[str], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Dotted name, value as written and comment of every leaf; a map in braces is one where it has a comment."""
    for key, value in ((key, value) for key, value in node.value if key.value != "defaults"):
        nested, end = isinstance(value, yaml.MappingNode) and value.value, value.end_mark
        block = nested and not value.flow_style
        said = None if block else re.search(r"#\s*(.*)", lines[end.line][end.column :])
        if nested and not said:
            yield from _options(value, lines, f"{path}{key.value}.")
        else:
            written = lines[end.line][value.start_mark.column : end.column].strip()
            yield f"{path}{key.value}", written, said[1].strip() if said else ""


def _header(text: str) -> str:
    """The comments before the first line that is none, as one text; an indented example ends it."""
    head = re.match(r"(?:# @package .*\n)?((?:# ?(?! ).+\n)*)", text)
    lines = head[1].splitlines() if head else []
    return " ".join(re.sub(r"\s{2,}", ": ", line[1:].strip()) for line in lines)
