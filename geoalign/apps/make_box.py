"""Fill a backbone's box: a trained run as half-precision weights, what is familiar to it, its confidence and its card.

``python -m geoalign.apps.make_box RUN --photographs data/livestock --out geoalign/boxed/lite`` writes what matches;
``--card RESULTS`` then writes the card from the results of runs. ``make box`` does all of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from geoalign import publish
from geoalign.apps.boxed import FAMILIAR, BoxedMatcher, Familiar
from geoalign.apps.loading import load
from geoalign.build import make_data
from geoalign.files import replacing
from geoalign.keys import pck_key
from geoalign.markdown import markdown_table
from geoalign.options.entry import composed
from geoalign.refiner.checkpoint import RECIPE, WEIGHTS
from geoalign.results.summary import SUMMARY_NAME, read_summary

EVERY = 4
"""Of the training photographs, in order, this one's subject is looked at."""
SUBJECTS = 8
"""Means of clusters that stand for the subjects of the training."""
SOURCES = ("cattleB", "horse", "sheep", "cattleA")
ALPHAS = (0.1, 0.05, 0.01)


def fill(run: Path, photographs: Path, out: Path, least: float, confidence: Path | None) -> None:
    """Weights, recipe and what is familiar; then a run's folder matches as it will in the box."""
    publish.save(publish.load(run), out, run=run, half=True)
    if confidence is not None:
        shutil.copy(confidence, out / "confidence.yaml")
    with replacing(out / FAMILIAR) as partial:
        partial.write_bytes(save({"subjects": subjects(out, photographs).half(), "least": torch.tensor(least)}))
    told = json.loads((out / RECIPE).read_text())
    print(f"wrote {out}: {told['_target_']}, {(out / WEIGHTS).stat().st_size:,} bytes of weights")


def subjects(box: Path, photographs: Path) -> torch.Tensor:
    """What stands for the subjects of every ``EVERY``-th training photograph: ``(k c)``, seeded."""
    from scipy.cluster.vq import kmeans2

    cfg = composed("train", ["data=livestock", f"data.root={photographs}"])
    source = make_data(cfg.data, ["train"]).train_source
    assert source is not None
    paths = sorted({str(record.path) for record in source.images})[::EVERY]
    matcher = BoxedMatcher(load(box, device="cpu"), lambda: matcher, Familiar(torch.zeros(1, 1), 0.0))
    seen = torch.stack([matcher.subject_of(path) for path in paths])
    means, _ = kmeans2(seen.double().numpy(), SUBJECTS, minit="++", seed=0)
    return torch.nn.functional.normalize(torch.from_numpy(means), dim=1)


def scores(run: Path) -> list[str]:
    """PCK per keypoint in percent of the one evaluation below a run's results, upright."""
    folders = sorted(path.parent for path in run.glob(f"results/*/{SUMMARY_NAME}"))
    found = [one for folder in folders for one in read_summary(folder)["evaluations"] if one["method"] == "plain"]
    if len(found) != 1:
        raise ValueError(f"{run}: expected the results of one test, got {len(found)}; give a run's folder")
    keys = [pck_key(found[0]["stage"], found[0]["dataset"], alpha, "keypoint") for alpha in ALPHAS]
    return [f"{100 * found[0]['metrics'][key]:.1f}" for key in keys]


def card(out: Path, results: Path, text: Path) -> None:
    """Put the tables of a folder of results into the card's text: home, and each source that was left out."""
    home = [["the refiner in the box", *scores(results / "box-test")]]
    home += [["frozen features, 640 px", *scores(results / "livestock_deep-zero_shot")]]
    away = []
    for source in SOURCES:
        refined, frozen = (results / f"livestock_deep-{kind}leave_{source}" for kind in ("", "zero_shot_"))
        refined = refined / "seed-42" if (refined / "seed-42").is_dir() else refined
        if refined.is_dir() and list(refined.glob(f"results/*/{SUMMARY_NAME}")):
            pairs = zip(scores(frozen), scores(refined), strict=True)
            away.append([source, *(f"{before} → {after}" for before, after in pairs)])
    header = ["", *(f"@{alpha:.2f}" for alpha in ALPHAS)]
    tables = {"home": markdown_table(header, home), "away": markdown_table(["left out", *header[1:]], away)}
    filled = text.read_text(encoding="utf-8")
    for name, table in tables.items():
        filled = filled.replace(f"<!-- {name} -->", table)
    (out / "README.md").write_text(filled, encoding="utf-8")
    print(f"wrote {out / 'README.md'}")


def main(words: Sequence[str] | None = None) -> int:
    """Fill a box, or write its card."""
    own = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("run", type=Path, metavar="RUN", help="a trained run's folder; with --card, a folder of runs")
    own.add_argument("--out", type=Path, required=True, help="the box")
    own.add_argument("--photographs", type=Path, default=Path("data/livestock"), help="that it was trained on")
    own.add_argument("--least", type=float, default=0.56, help="familiarity below which it steps back (0.56)")
    own.add_argument("--confidence", type=Path, help="confidence.yaml that report.analyse confidence wrote")
    own.add_argument("--card", type=Path, metavar="TEXT", help="write the card of this text and the runs' results")
    options = own.parse_args(words)
    if options.card is not None:
        card(options.out, options.run, options.card)
    else:
        fill(options.run, options.photographs, options.out, options.least, options.confidence)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
