"""The paper's analyses, each a table, a csv and a picture.

geometry-gap, azimuth and errors read the results of runs; pose-prediction reads a folder of labelled images;
confidence reads two runs with callbacks=evidence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from geoalign.callbacks.evidence import read_evidence
from geoalign.data.records import DataError
from geoalign.options.make import make_backbone
from geoalign.report.analyse.azimuth import azimuth
from geoalign.report.analyse.confidence import confidence
from geoalign.report.analyse.errors import errors
from geoalign.report.analyse.gap import geometry_gap
from geoalign.report.analyse.labelled import read_labelled
from geoalign.report.analyse.output import find_evaluations
from geoalign.report.analyse.poses import pose_prediction
from geoalign.report.table import Table, markdown, refuse
from geoalign.results.predictions import ResultsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and where csv and picture are; 2 where the input does not allow it."""
    options = parser().parse_args(arguments)
    try:
        table, paths = run(options)
    except (ResultsError, DataError, OSError, ValueError, ImportError) as error:
        return refuse(error)
    print(markdown(table))
    for path in paths:
        print(path)
    return 0


def run(options: argparse.Namespace) -> tuple[Table, list[Path]]:
    """The analysis asked for."""
    if options.analysis == "pose-prediction":
        templates = read_labelled(options.templates)  # before weights are fetched
        images = None if options.images is None else read_labelled(options.images)
        backbone = make_backbone(options.backbone, options.set)
        return pose_prediction(backbone, options.backbone, templates, images, options.templates, options.out)
    if options.analysis == "confidence":
        return confidence(read_evidence(options.val), read_evidence(options.test), options.out)
    chosen = find_evaluations(options.folders, options.alpha, options.dataset, options.method)
    if options.analysis == "errors":
        return errors(chosen, options.alpha, options.out)
    analysis = azimuth if options.analysis == "azimuth" else geometry_gap
    return analysis(chosen, options.alpha, options.average, options.out)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="geoalign analyse", description=__doc__)
    kinds = made.add_subparsers(dest="analysis", required=True)
    about = {
        "geometry-gap": "standard and geometry-aware PCK per category",
        "azimuth": "PCK over azimuth differences, and how far it spreads, per category",
        "errors": "correct, swapped, near and elsewhere, per category",
    }
    for name, text in about.items():
        one = kinds.add_parser(name, help=text, description=text)
        one.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a run, or a folder that holds runs")
        one.add_argument("--alpha", type=float, default=0.1, help="threshold, share of the target's size")
        one.add_argument("--dataset", help="only this dataset")
        one.add_argument("--method", choices=["plain", "aligned"], help="only this method")
        if name != "errors":
            one.add_argument("--average", choices=["image", "keypoint"], default="keypoint")
    poses = kinds.add_parser("pose-prediction", help="pose of an image by the nearest template")
    poses.add_argument("templates", type=Path, metavar="DIR", help="NAME_<pose>.png, or a folder per pose")
    poses.add_argument("--images", type=Path, metavar="DIR", help="labelled images to predict; else leave one NAME out")
    poses.add_argument("--backbone", default="lite", help="a config of conf/backbone")
    poses.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="such as backbone.image_size=320")
    text = "weights of a match's confidence from one run, and how well they hold on another"
    sure = kinds.add_parser("confidence", help=text, description=text)
    sure.add_argument("val", type=Path, metavar="FIT", help="a run on the validation set, with callbacks=evidence")
    sure.add_argument("test", type=Path, metavar="TEST", help="a run on the test set, with callbacks=evidence")
    for one in kinds.choices.values():
        one.add_argument("--out", type=Path, default=Path("analysis"), metavar="DIR", help="where csv and picture go")
    return made


if __name__ == "__main__":
    sys.exit(main())
