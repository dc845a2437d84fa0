"""The yamls as people read them: every option with its default and the comment behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

PACKAGE = Path(__file__).parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""Inside the package in a wheel, beside it in a checkout."""


class Option(NamedTuple):
    """A default as written, and the comment behind it."""

    value: str
    comment: str


class Choice(NamedTuple):
    """A yaml: what its head says, its options by dotted name, and what it mounts: yaml by package."""

    group: str
    name: str
    header: str
    options: dict[str, Option]
    mounts: dict[str, str]

    @property
    def target(self) -> str:
        """What hydra calls with the options; empty where nothing is called."""
        return self.options["_target_"].value if "_target_" in self.options else ""


@cache
def read(name: str) -> Choice:
    """The yaml ``conf/<name>.yaml`` with the defaults it begins with; those elsewhere are mounts."""
    path = CONF / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    own = dict(_options(root, text.splitlines())) if isinstance(root, yaml.MappingNode) else {}
    group, _, stem = name.rpartition("/")
    options, mounts = dict[str, Option](), dict[str, str]()
    for package, source in _defaults(text, group):
        if package:
            mounts[package] = source
        else:
            below = read(source)
            options.update(below.options)
            mounts.update(below.mounts)
    for key, option in own.items():
        old = options.get(key, option)
        options[key] = Option(option.value, option.comment or old.comment)
    return Choice(group, stem, _header(text), options, mounts)


def resolved(name: str) -> dict[str, Option]:
    """Every option of the yaml and of what it mounts, by dotted name below its package."""
    choice = read(name)
    below = {
        f"{package}.{k}": option for package, source in choice.mounts.items() for k, option in resolved(source).items()
    }
    return below | {
        key: Option(v, c or below.get(key, Option("", "")).comment) for key, (v, c) in choice.options.items()
    }


def groups() -> list[str]:
    """Every group with its choices below ``conf``, such as ``data/sampler``."""
    return sorted({path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")} - {"."})


def group_choices(group: str) -> list[Choice]:
    """The yamls that lie directly in a group."""
    return [read(f"{group}/{path.stem}") for path in sorted((CONF / group).glob("*.yaml"))]


def default_groups(script: str) -> dict[str, str]:
    """The groups a script chooses from, with its defaults."""
    entries = yaml.safe_load((CONF / f"{script}.yaml").read_text(encoding="utf-8"))["defaults"]
    return {k: v for entry in entries if isinstance(entry, dict) for k, v in entry.items()}


def _defaults(text: str, group: str) -> Iterator[tuple[str, str]]:
    """Package below this one and yaml of every entry of the defaults list; overrides of other groups left out."""
    for entry in (yaml.safe_load(text) or {}).get("defaults", []):
        if isinstance(entry, dict):
            ((key, value),) = entry.items()
            if not str(key).startswith("override ") and value is not None and group:
                yield key, f"{group}/{key}/{value}"
        elif entry != "_self_" and not entry.startswith("/"):
            source, _, package = entry.partition("@")
            yield package, f"{group}/{source}"


def _options(node: yaml.MappingNode, lines: list[str], path: str = "") -> Iterator[tuple[str, Option]]:
    for key, value in node.value:
        name = f"{path}.{key.value}" if path else key.value
        if name == "defaults":
            continue
        block = isinstance(value, yaml.MappingNode) and not value.flow_style
        end = key.end_mark if block else value.end_mark
        found = re.search(r"#\s*(.*)", lines[end.line][end.column :])
        comment = found[1].strip() if found else ""
        if block and value.value:
            if comment:
                yield name, Option("", comment)
            yield from _options(value, lines, name)
        else:
            written = lines[value.start_mark.line][value.start_mark.column : value.end_mark.column]
            yield name, Option(written.strip(), comment)


def _header(text: str) -> str:
    """The comments before the first line that is none, as one text; examples and tables end it."""
    said = list[str]()
    for line in text.splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#") or line.strip() == "#" or line.startswith("#   "):
            break
        said.append(re.sub(r"\s{2,}", ": ", line[1:].strip()))
    return " ".join(said)
