"""The options in print: ``docs/configuration.md``, and what ``--help`` says."""

from __future__ import annotations

import ast
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from geoalign.options.yamls import CONF, PACKAGE, Choice, Option, default_groups, group_choices, groups, read, resolved

SCRIPTS = {"train": "python train.py", "evaluate": "python evaluate.py", "extract": "python -m geoalign.extract"}
EXPERIMENTS = ("experiment", "recipe")
"""Groups that only choose among the options of others."""
GLOBAL = ("hydra", "launcher", "sweep")
"""Groups whose options lie below ``hydra``, or where they say."""

PACKAGES = {"launcher": "", "sweep": "", "data/source": "data.<set>."}
"""What stands before the options of a group where it is not the group's name."""


def page() -> str:
    """All of ``docs/configuration.md``."""
    every = groups()
    shown = [group for group in every if not group.startswith((*EXPERIMENTS, *GLOBAL))]
    lines = [
        "# Configuration",
        "",
        "Every option of every script, with its default. Written by `python -m geoalign.options` from `conf/` and the",
        "docstrings of what it names; a test compares. `--help` after a script prints the same for the choices made:",
        "",
        "```bash",
        *(f"{said} --help" for said in SCRIPTS.values()),
        "```",
        "",
        "`group=choice` chooses a yaml, `group.option=value` sets an option, `+group=choice` adds a group that is not",
        "in use (`sweep`, `launcher`). A value `${…}` follows another option. Unknown names and values of another type",
        "stop a script in one line that names the nearest, before anything is made.",
        "",
        *(line for script in SCRIPTS for line in _script(script)),
        *(line for group in shown for line in _group(group)),
        *(line for group in GLOBAL for line in _group(group)),
        *_experiments(every),
    ]
    return "\n".join(lines).rstrip() + "\n"


def command_help(name: str, about: str, picked: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """What ``--help`` prints: groups with choices, options with values and meanings, examples.

    ``picked`` is the choice of each group, ``values`` what is set, by dotted name.
    """
    width = shutil.get_terminal_size((120, 24)).columns
    said = comments(name, picked)
    lines = [
        f"{SCRIPTS[name]} [group=choice ...] [option=value ...] [-m]",
        about.strip().splitlines()[0],
        "",
        "Groups:",
    ]
    for group in default_groups(name):
        names = [choice.name for choice in group_choices(group)] or _below(group)
        listed = ", ".join(f"[{n}]" if n == picked.get(group) else n for n in names)
        lines += textwrap.wrap(listed, width, initial_indent=f"  {group:<13}", subsequent_indent=" " * 15)
    lines += ["", "Options (with these choices; other choices: add --help after them):"]
    for key, value in values.items():
        if not key.rpartition(".")[2].startswith("_"):
            lines += _line(f"{key}={_short(value)}", said.get(key) or said.get(key.rpartition(".")[0], ""), width)
    lines += ["", "Examples:", *(f"  {example}" for example in examples(name)), ""]
    lines.append("All groups: docs/configuration.md. Hydra's own flags: --hydra-help")
    return "\n".join(lines)


def comments(name: str, picked: Mapping[str, str]) -> dict[str, str]:
    """The comment of every option by its dotted name, under these choices."""
    found = {key: meaning(key, option) for key, option in read(name).options.items()}
    for group, choice in picked.items():
        if choice and (CONF / group / f"{choice}.yaml").is_file() and not group.startswith((*EXPERIMENTS, *GLOBAL)):
            package = group.replace("/", ".")
            below = resolved(f"{group}/{choice}")
            found |= {f"{package}.{key}": meaning(key, option) for key, option in below.items()}
    return found


def meaning(key: str, option: Option) -> str:
    """The comment, or what an option without one follows."""
    if option.comment:
        return option.comment
    if followed := re.fullmatch(r"\"?\$\{([\w.]+)\}\"?", option.value):
        return f"follows {followed[1]}"
    if ".sweeper.params." in key:
        return "what is tried"
    return "in the run's folder" if "${hydra:runtime.output_dir}" in option.value else ""


def examples(name: str) -> list[str]:
    """The commands in the head of a script's yaml."""
    head = (CONF / f"{name}.yaml").read_text(encoding="utf-8").split("defaults:")[0]
    return [re.sub(r"\s{2,}", "  # ", line[2:], count=1) for line in head.splitlines() if line.startswith("# python")]


def about(target: str) -> str:
    """The first sentence of the docstring of what a target of ours names, read without importing it."""
    package, *rooms, name = target.split(".")
    place = PACKAGE.joinpath(*rooms)
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    for path in files if package == PACKAGE.name else []:
        for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                return re.sub(r"\s*\([^()]*PROTOCOL[^()]*\)", "", text)
    return ""


def _script(name: str) -> Iterator[str]:
    groups = ", ".join(f"`{g}={c}`" if c else f"`{g}`" for g, c in default_groups(name).items())
    yield from [f"## `{SCRIPTS[name]}`", "", f"Groups with their defaults: {groups}.", "", "```bash"]
    yield from [*examples(name), "```", ""]
    yield from _table({key: [("", option)] for key, option in read(name).options.items()})


def _group(group: str) -> Iterator[str]:
    """One table of the choices, then a table of options for each thing that the choices call."""
    choices = [read(f"{group}/{name}") for name in _below(group)]
    yield from [f"## `{group}`", "", "| choice | what |", "|---|---|"]
    for choice in choices:
        mounts = ", ".join(f"`{source}` at `{package}`" for package, source in choice.mounts.items())
        yield f"| `{choice.name}` | {_cell(choice.header.rstrip('.'))}{f'. Reads {mounts}' if mounts else ''} |"
    yield ""
    if group == "data/source":
        yield from ["`<set>` is `train`, `val.<name>` or `test.<name>`, as read above.", ""]
    for target in dict.fromkeys(choice.target for choice in choices):
        same = [choice for choice in choices if choice.target == target and choice.options]
        if target not in ("", "null"):
            own = " ".join(f"`{choice.name}`" for choice in same)
            yield from [f"{own}: `{target}`" + (f". {about(target)}" if target.startswith("geoalign") else ""), ""]
        yield from _table(_merged(group, same))


def _merged(group: str, choices: list[Choice]) -> dict[str, list[tuple[str, Option]]]:
    """Every option of these choices by full name, with where each default stands."""
    package = PACKAGES[group] if group in PACKAGES else f"{group.replace('/', '.')}."
    merged: dict[str, list[tuple[str, Option]]] = {}
    for choice in choices:
        for key, option in choice.options.items():
            if option.value == "" or (key == "_target_" and choice.target == "null"):
                continue
            if key in choice.mounts or any(mounted.split(".")[0] == key for mounted in choice.mounts):
                option = Option(option.value, option.comment or "over the source that is read there")
            merged.setdefault(f"{package}{key}", []).append((choice.name, option))
    return merged


def _table(options: Mapping[str, list[tuple[str, Option]]]) -> Iterator[str]:
    rows = [(k, found) for k, found in options.items() if not k.rpartition(".")[2].startswith("_")]
    if not rows:
        return
    yield from ["| option | default | |", "|---|---|---|"]
    for key, found in rows:
        yield f"| `{key}` | {_default(found)} | {_cell(max((meaning(key, o) for _, o in found), key=_telling))} |"
    yield ""


def _default(found: list[tuple[str, Option]]) -> str:
    """The default, or every default with the choices that have it."""
    values: dict[str, list[str]] = {}
    for name, option in found:
        values.setdefault(option.value, []).append(name)
    several = len(values) > 1
    said = [f"`{_cell(value)}`" + (f" ({', '.join(names)})" if several else "") for value, names in values.items()]
    return "; ".join(said)


def _telling(text: str) -> tuple[bool, int]:
    return not text.startswith("follows "), len(text)


def _experiments(groups: list[str]) -> Iterator[str]:
    yield from ["## `experiment`", "", "Whole settings by name; each chooses among the options above.", ""]
    yield from ["| choice | what |", "|---|---|"]
    for group in groups:
        if group.startswith("experiment"):
            for choice in group_choices(group):
                yield f"| `{f'{group}/{choice.name}'.partition('/')[2]}` | {_cell(choice.header)} |"


def _below(group: str) -> list[str]:
    folder = CONF / group
    found = list(folder.glob("*.yaml")) or list(folder.rglob("*.yaml"))
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in found)


def _line(option: str, said: str, width: int) -> list[str]:
    if not said:
        return [f"  {option}"]
    lines = textwrap.wrap(f"# {said}", max(30, width - 48), subsequent_indent="  ")
    first = f"  {option:<44}  {lines[0]}" if len(option) <= 44 else f"  {option}\n{' ' * 48}{lines[0]}"
    return [first, *(f"{' ' * 48}{line}" for line in lines[1:])]


def _short(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
