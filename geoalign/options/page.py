"""The options in print: ``docs/configuration.md``, and what ``--help`` says."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from geoalign.options.schema import about, parameters
from geoalign.options.yamls import CONF, Choice, choices, default_groups, groups, read

SCRIPTS = {
    "train": "geoalign train",
    "evaluate": "geoalign evaluate",
    "extract": "geoalign extract",
    "label": "geoalign label",
}
EXPERIMENTS = ("experiment", "recipe")
"""Groups that only choose among the options of others."""
GLOBAL = ("hydra", "launcher", "sweep")
"""Groups whose options lie below ``hydra``, or where they say."""
PACKAGES = {"launcher": "", "sweep": "", "data/source": "data.<set>."}
"""What stands before the options of a group where it is not the group's name."""
INTRODUCTION = """# Configuration

Every option of every script, with its default. Written by `python -m geoalign.options` from the signatures and
docstrings of constructors and from `conf/`, whose yamls say only what differs; a test compares. `--help` after a
script prints the same for the choices made:

```bash
{scripts}
```

`group=choice` chooses a yaml, `group.option=value` sets an option, `+group=choice` adds a group that is not
in use (`sweep`, `launcher`). A value `${{…}}` follows another option. Unknown names and values of another type
stop a script in one line that names the nearest, before anything is made.
"""


def page() -> str:
    """All of ``docs/configuration.md``."""
    shown = [group for group in groups() if not group.startswith((*EXPERIMENTS, *GLOBAL))]
    lines = [
        INTRODUCTION.format(scripts="\n".join(f"{said} --help" for said in SCRIPTS.values())),
        *(line for script in SCRIPTS for line in _script(script)),
        *(line for group in [*shown, *GLOBAL] for line in _group(group)),
        *("## `experiment`", "", "Whole settings by name; each chooses among the options above.", ""),
        *_table("choice | what", ((f"`{name}`", read(f"experiment/{name}").header) for name in choices("experiment"))),
    ]
    return "\n".join(lines).rstrip() + "\n"


def command_help(name: str, about: str, picked: Mapping[str, str | None], values: Mapping[str, Any]) -> str:
    """What ``--help`` prints: groups with choices, options with values and meanings, examples.

    ``picked`` is the choice of each group, ``values`` what is set, by dotted name.
    """
    width = shutil.get_terminal_size((120, 24)).columns
    said = meanings(name, picked, values)
    lines = [
        f"usage: {SCRIPTS[name]} [-h] [group=choice ...] [option=value ...] [-m]",
        *("", about.strip().splitlines()[0], "", "groups:"),
    ]
    for group in default_groups(name):
        listed = ", ".join(f"[{n}]" if n == picked.get(group) else n for n in choices(group))
        lines += textwrap.wrap(listed, width, initial_indent=f"  {group:<13}", subsequent_indent=" " * 15)
    lines += ["", "options (with these choices; other choices: add --help after them):"]
    for key, value in values.items():
        if not key.rpartition(".")[2].startswith("_"):
            lines += _line(f"{key}={_short(value)}", said.get(key) or said.get(key.rpartition(".")[0], ""), width)
    lines += ["", "examples:", *(f"  {example}" for example in examples(name)), ""]
    lines.append("All groups: docs/configuration.md. Hydra's own flags: --hydra-help")
    return "\n".join(lines)


def meanings(name: str, picked: Mapping[str, str | None], values: Mapping[str, Any]) -> dict[str, str]:
    """What every option means: the comment of a yaml, else the constructor's line, else what it follows."""
    said = {key: _follows(value) for key, value in values.items()}
    for key, target in values.items():
        if key.endswith("._target_"):
            taken = parameters(str(target))
            said |= {f"{key.removesuffix('_target_')}{name}": one.meaning for name, one in taken.items()}
    for group, choice in picked.items():
        if choice and not group.startswith((*EXPERIMENTS, *GLOBAL)):
            said |= {f"{_package(group)}{key}": text for key, text in _comments(group, choice).items()}
    return said | read(name).comments


def examples(name: str) -> list[str]:
    """The commands in the head of a script's yaml."""
    head = re.findall(r"^# (geoalign.*)", (CONF / f"{name}.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"\s{2,}", "  # ", line, count=1) for line in head]


def _comments(group: str, name: str) -> dict[str, str]:
    """The comments of a yaml over those of the yamls that it begins with."""
    choice = read(f"{group}/{name}")
    below = [entry for entry in choice.defaults if isinstance(entry, str) and "@" not in entry and "/" not in entry]
    return {k: v for one in below for k, v in _comments(group, one).items()} | choice.comments


def _script(name: str) -> Iterator[str]:
    picked = ", ".join(
        f"`{group}={choice}`" if choice else f"`{group}`" for group, choice in default_groups(name).items()
    )
    yield from [f"## `{SCRIPTS[name]}`", "", f"Groups with their defaults: {picked}.", "", "```bash"]
    yield from [*examples(name), "```", ""]
    yield from _options((key, value, _meaning(read(name), key)) for key, value in read(name).values.items())


def _group(group: str) -> Iterator[str]:
    """One table of the choices, then a table of options for each thing that the choices call."""
    package, every = _package(group), {name: read(f"{group}/{name}") for name in choices(group)}
    yield from [f"## `{group}`", ""]
    yield from _table("choice | what | sets", ((f"`{name}`", one.header, _sets(one)) for name, one in every.items()))
    if group == "data/source":
        yield from ["`<set>` is `train`, `val.<name>` or `test.<name>`, as read above.", ""]
    explained = set[str]()
    for place, target in dict.fromkeys(call for one in every.values() for call in one.targets()):
        if taken := parameters(target):
            yield from [f"`{target}`. {about(target)}", ""]
            yield from _options(
                (f"{package}{place}{name}", "" if one.default is ... else _short(one.default), one.meaning)
                for name, one in taken.items()
            )
            explained |= {f"{place}{name}" for name in taken}
    rest = {key: one for one in reversed(every.values()) for key in one.comments if key not in explained}
    yield from _options((f"{package}{key}", one.values[key], _meaning(one, key)) for key, one in sorted(rest.items()))


def _sets(choice: Choice) -> str:
    """What a yaml begins with, and the options that it sets without a comment of their own."""
    begins = [
        ", ".join(f"{group.removeprefix('override ').lstrip('/')}={name}" for group, name in entry.items())
        if isinstance(entry, dict)
        else entry.replace("@", " at ")
        for entry in choice.defaults
        if entry != "_self_"
    ]
    own = [f"{key}={value}" for key, value in choice.values.items() if not key.rpartition(".")[2].startswith("_")]
    return ", ".join(f"`{one}`" for one in [*begins, *own])


def _options(rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    shown = [(f"`{key}`", f"`{value}`" if value else "", said) for key, value, said in rows]
    yield from _table("option | default | ", [row for row in shown if not row[0].rpartition(".")[2].startswith("_")])


def _table(head: str, rows: Iterable[Sequence[str]]) -> Iterator[str]:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    if lines:
        yield from [f"| {head} |".replace("|  |", "| |"), "|" + "---|" * (head.count("|") + 1), *lines, ""]


def _package(group: str) -> str:
    return PACKAGES[group] if group in PACKAGES else f"{group.replace('/', '.')}."


def _meaning(choice: Choice, key: str) -> str:
    return choice.comments.get(key) or _follows(choice.values[key])


def _follows(value: Any) -> str:
    followed = re.fullmatch(r"\"?\$\{([\w.]+)\}\"?", str(value))
    if followed:
        return f"follows {followed[1]}"
    return "in the run's folder" if "${hydra:runtime.output_dir}" in str(value) else ""


def _line(option: str, said: str, width: int) -> list[str]:
    if not said:
        return [f"  {option}"]
    lines = textwrap.wrap(f"# {said}", max(30, width - 48), subsequent_indent="  ")
    first = f"  {option:<44}  {lines[0]}" if len(option) <= 44 else f"  {option}\n{' ' * 48}{lines[0]}"
    return [first, *(f"{' ' * 48}{line}" for line in lines[1:])]


def _short(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
