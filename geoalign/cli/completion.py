"""Print what a shell needs to complete commands, options, groups, choices and files."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import argcomplete

SHELLS = {
    "bash": ('eval "$(geoalign completion bash)"', "~/.bashrc"),
    "zsh": ('eval "$(geoalign completion zsh)"', "~/.zshrc, after compinit"),
    "fish": ("geoalign completion fish | source", "~/.config/fish/config.fish"),
}
"""The line for each shell, and the file that it belongs into."""
HYDRA = ("train", "evaluate", "extract")
"""Commands that take ``group=choice`` and ``option=value``."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "geoalign completion",
        description=__doc__,
        epilog="\n".join(["examples:", *(f"  {line:<44}  # in {where}" for line, where in SHELLS.values())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("shell", choices=SHELLS)
    return made


def main(words: Sequence[str]) -> int:
    """Print what the shell evaluates."""
    print(argcomplete.shellcode(["geoalign"], shell=parser().parse_args(words).shell))
    return 0


def complete(top: argparse.ArgumentParser, modules: Mapping[str, str]) -> None:
    """Answer the shell and exit: ``top`` gets the own parser of the command that the line names, by its module."""
    typed = os.environ.get("COMP_LINE", "").split()
    if len(typed) > 1 and typed[1] in modules:
        commands = _commands(top)
        assert commands is not None
        commands[typed[1]] = command_parser(typed[1], modules[typed[1]])
    argcomplete.autocomplete(top, always_complete_options="long")


def command_parser(name: str, module: str) -> argparse.ArgumentParser:
    """A command's own parser; for those that hydra reads one that only completes."""
    if name not in HYDRA:
        made: argparse.ArgumentParser = importlib.import_module(module).parser()
        return (_commands(made) or {}).get(name, made)
    made = argparse.ArgumentParser(f"geoalign {name}")
    made.add_argument("--cfg", choices=["job", "hydra", "all"])
    made.add_argument("-m", "--multirun", action="store_true")
    taken: Any = made.add_argument("overrides", nargs="*")
    taken.completer = lambda prefix, parsed_args, **_: overrides(name, prefix, parsed_args.overrides or [])
    return made


def overrides(name: str, prefix: str, words: Iterable[str]) -> list[str]:
    """What ``group=choice`` or ``option=value`` may begin with ``prefix``, under the choices already made.

    Groups and choices are the names of yamls, at once; options below a group are hydra's to tell, in about a second.
    """
    from geoalign.options.yamls import choices, default_groups, groups, read

    plus, key, value = "+" * prefix.startswith("+"), *prefix.lstrip("+").partition("=")[::2]
    if "=" in prefix:
        known = choices(key) if key in groups() else ["true", "false"]
        return [f"{plus}{key}={choice}" for choice in known if choice.startswith(value)]
    if "." in key:
        from geoalign.options.entry import keys

        names = [one for one in keys(name, list(words)) if not one.rpartition(".")[2].startswith("_")]
    else:
        own = [*default_groups(name), *read(name).values, *(["launcher", "sweep"] if name == "train" else [])]
        names = [*own, *(f"{group}." for group in default_groups(name))]
    return [f"{plus}{one}" + "=" * (not one.endswith(".")) for one in names if one.startswith(key)]


def _commands(made: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser] | None:
    """A parser's own commands by name, to read and to replace; None where it has none."""
    return next((a.choices for a in made._actions if isinstance(a, argparse._SubParsersAction)), None)
