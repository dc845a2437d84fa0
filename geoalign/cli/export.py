"""Write a model as one ONNX file, checked against geoalign's own answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EPILOG = """examples:
  geoalign export lite.onnx cat.jpg dog.jpg
  geoalign export mine.onnx --model runs/train/<run> --batch 4"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "geoalign export", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("out", type=Path, metavar="OUT", help="a .onnx file")
    made.add_argument("pictures", nargs="*", metavar="IMG", help="two pictures to check it on (two rendered animals)")
    made.add_argument(
        "--model", default="lite", help="lite (frozen), a run's folder, a weights file or a hub id (lite)"
    )
    made.add_argument("--batch", type=int, default=1, help="pairs at once; the number of points is free (1)")
    made.add_argument("--force", action="store_true", help="replace a file that is there already")
    return made


def main(words: Sequence[str]) -> int:
    """Write, check and say how far it is off; 1 with one line on what was wrong."""
    options = parser().parse_args(words)
    try:
        _export(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _export(options: argparse.Namespace) -> None:
    from geoalign.apps.export import POINTS, TOLERANCE, export, need_onnx
    from geoalign.apps.inputs import open_picture
    from geoalign.apps.loading import load
    from geoalign.files import check_output
    from geoalign.options.yamls import choices

    if options.out.suffix != ".onnx":
        raise ValueError(f"{options.out}: expected a name that ends in .onnx")
    if len(options.pictures) not in (0, 2):
        raise ValueError(f"give two pictures to check the file on, or none, got {len(options.pictures)}")
    need_onnx()
    check_output(options.out, [Path(path) for path in options.pictures], options.force)
    pictures = [open_picture(path) for path in options.pictures] or _rendered()
    # a backbone by its name is exported frozen: the refiner in the box goes on from within the network
    matcher = load(options.model, device="cpu", refiner="none" if options.model in choices("backbone") else "boxed")
    found = export(matcher, options.out, pictures, options.batch)
    onnx_ms, eager_ms = (1000 * seconds / options.batch for seconds in (found.onnx_s, found.eager_s))
    print(
        f"differs from geoalign by at most {found.xy_px:.1g} px of {matcher.matcher.frame_px} and {found.score:.1g} in "
        f"score ({POINTS} points; {TOLERANCE:g} of the frame and of the score are allowed)\n"
        f"{onnx_ms:.0f} ms a pair with onnxruntime, {eager_ms:.0f} with torch (batch of {options.batch}, this CPU)\n"
        f"wrote {options.out} "
        f"({options.out.stat().st_size / 2**20:.1f} MiB)"
    )


def _rendered() -> list[Any]:
    """Two animals of the generated benchmark."""
    from PIL import Image

    from geoalign.synthetic.jobs import Job

    return [Image.fromarray(Job(0, "test", "cat", number).picture().image) for number in range(2)]
