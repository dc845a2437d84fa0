"""``geoalign match | dense | pca | propagate | demo``: correspondence between people's own pictures."""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from geoalign.cli.style import examples

EXAMPLES = """
  geoalign match cat.jpg dog.jpg --points 120,85 200,90 --align flip --out match.png
  geoalign match cat.jpg dog.jpg --grid 12 --json
  geoalign match cats dogs --points-file points.csv --out matches.csv
  geoalign dense cat.jpg dog.jpg --mask cat-mask.png --out dense.png
  geoalign pca cat.jpg dog.jpg horse.jpg --out pca.png
  geoalign propagate cat.jpg --points keypoints.csv photos --out photos/keypoints.csv
  geoalign demo --model runs/train/my-run
""".strip("\n").splitlines()

BOX = "X1,Y1,X2,Y2"
COMMANDS = {
    "match": ("points of one picture in another", "match.png"),
    "dense": ("a match for every part of one picture in another", "dense.png"),
    "pca": ("descriptors as colours that all pictures share", "pca.png"),
    "propagate": ("points of one picture in every picture of a folder", "keypoints.csv"),
    "demo": ("a page in the browser: click points, see their matches", None),
}
"""What each subcommand is for, and the file that it writes unless told another."""


def parser() -> argparse.ArgumentParser:
    """Every command's options."""
    top = argparse.ArgumentParser("geoalign", description=__doc__)
    subparsers = top.add_subparsers(dest="command", required=True)
    for name, (what, _) in COMMANDS.items():
        subparsers.add_parser(name, description=f"{what[0].upper()}{what[1:]}.", **examples(EXAMPLES, name))
    add = {name: own.add_argument for name, own in subparsers.choices.items()}
    for name, (_, out) in COMMANDS.items():
        if out is not None:
            add[name]("--out", type=Path, default=Path(out), help=f"file to write ({out})")
            add[name]("--force", action="store_true", help="replace files that are there already, but never an input")
        add[name](
            "--model", default="lite",
            help="lite, dinov2_b, sd15_dinov2, a run's folder, a weights file or a hub id (lite)",
        )  # fmt: skip
        add[name](
            "--refiner", choices=("boxed", "none"), default="boxed",
            help="boxed: the model's own, for lite the one that comes with geoalign; none: frozen features (boxed)",
        )  # fmt: skip
        add[name]("--device", help="cpu, cuda, ... (the accelerator where there is one)")
    for name in ("match", "dense", "propagate"):
        add[name]("source", metavar="SRC", help="a picture" + (", or a folder of them" if name == "match" else ""))
        add[name]("--align", choices=("off", "flip", "rotate"), default="off", help="poses of SRC to try (off)")
    for name in ("match", "dense"):
        add[name]("target", metavar="TRG", help="a picture" + (", or a folder of them" if name == "match" else ""))
        add[name]("--target-box", metavar=BOX, help="the subject's box in TRG: matches lie in it")
    for name in ("match", "dense", "propagate"):
        add[name]("--box", metavar=BOX, help="the subject's box in SRC, px")
    for name in ("match", "dense", "propagate", "pca"):
        add[name]("--no-mask", action="store_true", help="all of a picture, not its subject alone (grids, dense, pca)")
    add["match"](
        "--look",
        choices=("once", "twice"),
        default="once",
        help="twice: match again in crops that the first look found (once)",
    )
    for name in ("match", "propagate"):
        add[name]("--symmetry", help="mirror table (yaml) of the points' names, used where SRC is flipped")
        add[name]("--category", default="object", help="name of the table in --symmetry, and in files (object)")
        which = subparsers.choices[name].add_mutually_exclusive_group(required=True)
        which.add_argument("--points", nargs="+", metavar="X,Y", help="px of SRC, or one csv file")
        which.add_argument(
            "--points-file", type=Path, metavar="CSV", help="columns x, y, and optionally keypoint, image"
        )
        which.add_argument("--grid", type=int, metavar="N", help="N points along the longer side")
        add[name](
            "--confidence", type=Path, metavar="YAML",
            help="weights of the matches' confidence, as analyse confidence writes them (the model's own)",
        )  # fmt: skip
    add["match"]("--json", action="store_true", help="print the matches as json instead of a table")
    add["dense"]("--mask", type=Path, help="picture of the source's size: what is not black is matched")
    add["pca"]("images", nargs="+", metavar="IMG")
    add["propagate"]("folder", type=Path, metavar="FOLDER")
    add["demo"]("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine alone)")
    add["demo"]("--port", type=int, help="port to listen on (the first free one from 7860)")
    add["demo"]("--folder", type=Path, help="photographs to offer in place of the examples, and to label")
    add["demo"]("--cache", type=Path, help="folder that the example pictures are rendered into (cache)")
    return top


def main(words: Sequence[str]) -> int:
    """Run the command that the first word names; 0 when it did its work, 1 with one line on what was wrong."""
    options = parser().parse_args(_arranged(list(words)))
    from geoalign.cli import commands, folders

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be bytes that are no text
    try:
        of_folders = options.command == "match" and folders.are_folders(options)
        (folders.match if of_folders else getattr(commands, options.command))(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _arranged(words: list[str]) -> list[str]:
    """The words as argparse wants them: ``--points`` and its points last, and no point that looks like an option."""
    if "--points" in words:
        start = words.index("--points")
        end = next((i for i in range(start + 2, len(words)) if not _is_point(words[i])), len(words))
        words = [*words[:start], *words[end:], *words[start:end]]
    return [f" {word}" if word.startswith("-") and _is_point(word) else word for word in words]


def _is_point(word: str) -> bool:
    return re.fullmatch(r"-?[\d.]+,-?[\d.]+", word) is not None
