"""``geoalign match | dense | pca | propagate | demo``: correspondence between people's own pictures."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

EPILOG = """examples:
  geoalign match cat.jpg dog.jpg --points 120,85 200,90 --align flip --out match.png
  geoalign match cat.jpg dog.jpg --grid 12 --json
  geoalign dense cat.jpg dog.jpg --mask cat-mask.png --out dense.png
  geoalign pca cat.jpg dog.jpg horse.jpg --out pca.png
  geoalign propagate cat.jpg --points keypoints.csv photos --out photos/keypoints.csv
  geoalign demo --model runs/train/my-run"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    top = argparse.ArgumentParser(
        "geoalign", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True)
    match = _command(commands, "match", "points of one picture in another", "match.png")
    _pair(match)
    _points(match)
    match.add_argument("--json", action="store_true", help="print the matches as json instead of a table")
    dense = _command(commands, "dense", "a match for every part of one picture in another", "dense.png")
    _pair(dense)
    dense.add_argument("--mask", type=Path, help="picture of the source's size: what is not black is matched")
    pca = _command(commands, "pca", "descriptors as colours that all pictures share", "pca.png")
    pca.add_argument("images", nargs="+", metavar="IMG")
    propagate = _command(commands, "propagate", "points of one picture in every picture of a folder", "keypoints.csv")
    propagate.add_argument("source", metavar="SRC")
    propagate.add_argument("folder", type=Path, metavar="FOLDER")
    _points(propagate)
    for command in (match, dense, propagate):
        command.add_argument(
            "--align", choices=("off", "flip", "rotate"), default="off", help="poses of SRC to try (off)"
        )
    demo = _command(commands, "demo", "a page in the browser: click points, see their matches")
    demo.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine alone)")
    demo.add_argument("--port", type=int, help="port to listen on (the first free one from 7860)")
    demo.add_argument("--cache", type=Path, help="folder that the example pictures are rendered into (cache)")
    return top


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, told: str, out: str = ""
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=told, description=told)
    if out:
        command.add_argument("--out", type=Path, default=Path(out), help=f"file to write ({out})")
    command.add_argument(
        "--model", default="lite", help="lite, dinov2_b, sd15_dinov2, a run's folder, a weights file or a hub id (lite)"
    )
    command.add_argument("--device", help="cpu, cuda, ... (the accelerator where there is one)")
    return command


def _pair(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", metavar="SRC")
    command.add_argument("target", metavar="TRG")


def _points(command: argparse.ArgumentParser) -> None:
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--points", nargs="+", metavar="X,Y", help="px of SRC, or one csv file")
    which.add_argument("--points-file", type=Path, metavar="CSV", help="columns x, y, and optionally keypoint, image")
    which.add_argument("--grid", type=int, metavar="N", help="N points along the longer side")
    command.add_argument("--symmetry", help="mirror table (yaml) of the points' names, used where SRC is flipped")
    command.add_argument("--category", default="object", help="name of the table in --symmetry, and in files (object)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did its work, 1 with one line on what was wrong."""
    options = parser().parse_args(_arranged(list(sys.argv[1:] if arguments is None else arguments)))
    from geoalign.cli import commands

    try:
        getattr(commands, options.command)(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _arranged(words: list[str]) -> list[str]:
    """The words as argparse wants them: places before ``--points``, and no point that looks like an option."""
    if "--points" in words:
        start = words.index("--points") + 1
        end = start + 1
        while end < len(words) and _is_point(words[end]):
            end += 1
        last = next((i for i in range(end, len(words)) if words[i].startswith("--")), len(words))
        words = [*words[: start - 1], *words[end:last], "--points", *words[start:end], *words[last:]]
    return [f" {word}" if word.startswith("-") and _is_point(word) else word for word in words]


def _is_point(word: str) -> bool:
    return re.fullmatch(r"-?[\d.]+,-?[\d.]+", word) is not None


if __name__ == "__main__":
    raise SystemExit(main())
