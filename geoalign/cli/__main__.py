"""Geometry-aware semantic correspondence: train, measure and match."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

from geoalign.cli import pictures
from geoalign.options.names import nearest
from geoalign.version import __version__


class Command(NamedTuple):
    """What a command is for, and the module whose ``main(words)`` it is, imported when it is called.

    ``named``: the words that ``main`` gets begin with the command's own name.
    """

    about: str
    module: str
    named: bool = False


SECTIONS = {
    "experiments": {
        "train": Command("train a refiner, then test it", "geoalign.cli.train"),
        "evaluate": Command("test a refiner, or the frozen features alone", "geoalign.cli.evaluate"),
        "report": Command("tables of runs beside published numbers, and paired tests", "geoalign.report.__main__"),
        "analyse": Command("what kind of errors runs make, and where", "geoalign.report.analyse.__main__"),
        "prepare": Command("download, convert and verify a dataset", "geoalign.data.prepare.__main__"),
        "extract": Command("fill the feature store, or look after it", "geoalign.cli.extract"),
        "export": Command("a model as an ONNX file, checked against geoalign itself", "geoalign.cli.export"),
        "label": Command("pseudo-labels of a training set's photographs", "geoalign.cli.label"),
        "convert": Command("a refiner's weights in another format", "geoalign.refiner.checkpoint", named=True),
    },
    "your own pictures": {
        name: Command(about, pictures.__name__, named=True) for name, (about, _) in pictures.COMMANDS.items()
    },
    "this command": {
        "completion": Command("the line that teaches a shell to complete all this", "geoalign.cli.completion"),
    },
}
ADAPT = Command("a refiner for a folder of photographs, without labels", "geoalign.apps.adapt")
if find_spec(ADAPT.module):
    SECTIONS["your own pictures"]["adapt"] = ADAPT
COMMANDS = {name: command for section in SECTIONS.values() for name, command in section.items()}


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did its work."""
    words = list(sys.argv[1:] if words is None else words)
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may follow
        from geoalign.cli.completion import complete

        complete(parser(), {name: command.module for name, command in COMMANDS.items()})
    if not words or words[0].startswith("-"):
        parser().parse_args(words or ["--help"])
    if words[0] not in COMMANDS:
        near = nearest(words[0], COMMANDS)
        hint = f"did you mean {near}?" if near else f"commands are {', '.join(COMMANDS)}"
        print(f"error: {words[0]}: no such command; {hint}", file=sys.stderr)
        return 1
    command = COMMANDS[words[0]]
    code = importlib.import_module(command.module).main(words if command.named else words[1:])
    return code if isinstance(code, int) else 0  # train gives its objective


def parser() -> argparse.ArgumentParser:
    """The names of the commands; each has a parser of its own."""
    width = max(map(len, COMMANDS))
    listed = [
        "\n".join([f"{title}:", *(f"  {name:<{width}}  {command.about}" for name, command in section.items())])
        for title, section in SECTIONS.items()
    ]
    top = argparse.ArgumentParser(
        "geoalign",
        usage="geoalign [-h] [--version] COMMAND ...",
        description="\n\n".join([str(__doc__), *listed, "geoalign COMMAND --help says more of each."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"geoalign {__version__}")
    commands = top.add_subparsers(help=argparse.SUPPRESS)
    for name in COMMANDS:
        commands.add_parser(name)
    return top


if __name__ == "__main__":
    raise SystemExit(main())
