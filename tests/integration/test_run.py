"""The scripts as a user calls them: train, evaluate, and what bad input gets."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import scripts

from geoalign.cli import evaluate, train
from geoalign.results.predictions import read_predictions
from geoalign.results.summary import read_summary

SMALL = [
    "backbone.image_size=128",
    "backbone.grid=16",
    "backbone.blocks=[4,10]",
    "refiner.width=32",
    "refiner.hidden=32",
    "callbacks.progress=null",
]
SYNTHETIC = [
    "data.images={trn: 4, val: 2, test: 3}",
    "data.pairs={trn: 12, val: 2, test: 6}",
    "data.categories=[cat,cow]",
]
TRAIN = ["trainer.log_every_n_steps=1", "data.sampler.size=3", "data.sampler.batches=2", "trainer.max_epochs=2"]


def call(script, monkeypatch, root, *overrides):
    """Run a script's main with everything below ``root``; its exit code."""
    # Hydra takes coverage's tracing for a debugger, and would raise instead of explaining
    monkeypatch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)
    return scripts.call(script, f"paths.root={root}", *overrides)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(root):
    """One small training, whole: zero-shot test, fit, test, figures, table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "120")
        code = call(train, patch, root, *SMALL, *SYNTHETIC, *TRAIN, "hydra.run.dir=${paths.runs}/first")
    assert code == 0
    return root / "runs" / "first"


def test_a_run_leaves_everything_it_says(run):
    for name in ("checkpoints/best.ckpt", "figures/matches-synthetic.png", "figures/curves.png", "config/config.yaml"):
        assert (run / name).stat().st_size > 500, name
    rows = list(csv.DictReader((run / "csv" / "metrics.csv").open()))
    assert any(row["train/loss/sparse"] for row in rows)
    assert any(row["val/synthetic/aligned/pck@0.10/image"] for row in rows)


def test_summaries_hold_protocol_and_both_views(run):
    for name in ("zero-shot", "refined"):
        summary = read_summary(run / "results" / name)
        assert [e["method"] for e in summary["evaluations"]] == ["plain", "aligned"]
        plain, aligned = summary["evaluations"]
        assert plain["protocol"]["pose"] == {"poses": ["upright"]}
        assert aligned["protocol"]["pose"]["poses"] == ["upright", "flip"]
        assert plain["counts"]["pairs"] == 12
        assert plain["protocol"]["comparison"] == "<"


def test_predictions_alone_give_the_summary_back(run):
    from geoalign.results.predictions import scores_from_predictions

    plain = read_summary(run / "results" / "refined")["evaluations"][0]
    table = read_predictions(run / "results" / "refined" / "predictions-synthetic-plain.parquet").table
    again = scores_from_predictions(table, plain["alphas"]).named("test", "synthetic", by_category=True)
    for key, value in again.items():
        assert plain["metrics"][key] == pytest.approx(value, abs=1e-9)


def test_evaluate_reproduces_the_training_runs_test(run, root, monkeypatch):
    out = root / "again"
    given = [*SMALL, *SYNTHETIC, f"checkpoint={run}", f"hydra.run.dir={out}", "callbacks=later"]
    assert call(evaluate, monkeypatch, root, *given) == 0
    first, again = (read_summary(folder / "results" / "refined")["evaluations"] for folder in (run, out))
    for a, b in zip(first, again, strict=True):
        assert a["metrics"] == pytest.approx(b["metrics"], abs=1e-6)
    check_later_metrics(json.loads((out / "results" / "later_metrics.json").read_text()), again[0]["metrics"])


def check_later_metrics(later, plain):
    """GECO's groups with the match in sight are PCK together; PCK-dagger is PCK less what is nearer to others."""
    for alpha in ("0.10", "0.05", "0.01"):
        groups = [g for g in ("10", "11", "1x") if f"test/synthetic/geco_{g}/count" in later]
        counts = [later[f"test/synthetic/geco_{g}/count"] for g in groups]
        found = [later[f"test/synthetic/geco_match_{g}@{alpha}/keypoint"] for g in groups]
        pck = 100 * plain[f"test/synthetic/pck@{alpha}/keypoint"]
        assert sum(n * f for n, f in zip(counts, found, strict=True)) / sum(counts) == pytest.approx(pck)
        assert 0 <= later[f"test/synthetic/pck_dagger@{alpha}/keypoint"] <= pck + 1e-9
        assert 0 < later[f"test/synthetic/kap@{alpha}/keypoint"] < 100


def test_a_second_look_stands_beside_the_first_and_does_not_change_it(run, root, monkeypatch):
    folder = root / "runs" / "twice"
    words = (*SMALL, *SYNTHETIC, f"checkpoint={run}", "look=twice", f"hydra.run.dir={folder}")
    assert call(evaluate, monkeypatch, root, *words) == 0
    first, twice = (read_summary(path / "results" / "refined")["evaluations"] for path in (run, folder))
    assert [one["method"] for one in twice] == ["plain", "aligned", "twice"]
    assert [one["metrics"] for one in twice[:2]] == [one["metrics"] for one in first]
    assert twice[2]["counts"] == twice[0]["counts"]
    assert twice[2]["protocol"]["pose"]["look"] == {"margin": 0.2, "least": 0.15}
    assert not list((folder / "results").rglob("looks-*"))


def test_a_second_run_reuses_data_and_features_and_trains_the_same(run, root, monkeypatch):
    made = sorted(p for p in (root / "cache").rglob("*") if p.is_file())
    times = {p: p.stat().st_mtime_ns for p in made}
    out = root / "second"
    code = call(train, monkeypatch, root, *SMALL, *SYNTHETIC, *TRAIN, "baseline=false", f"hydra.run.dir={out}")
    assert code == 0
    assert {p: p.stat().st_mtime_ns for p in (root / "cache").rglob("*") if p.is_file()} == times
    weights = [torch.load(folder / "checkpoints" / "best.ckpt")["state_dict"] for folder in (run, out)]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


@pytest.mark.parametrize(
    ("script", "overrides", "said"),
    [
        (evaluate, ["data=ap10k_files", "data.root=nowhere", "refiner=identity"], "nowhere"),
        (evaluate, [], "checkpoint="),
        (evaluate, ["checkpoint=missing.ckpt"], "no weights at missing.ckpt"),
        (train, ["refiner.channels=[3,4]"], "set refiner.channels=[40, 112]"),
        (train, ["refiner=identity"], "nothing to train"),
        (train, ["matcher.readout=nearest"], "argmax, soft, window, kernel"),
        (train, ["alignment.poses=[flip]"], "upright and at least one other"),
        (train, ["data.primary=other"], "validation sets"),
    ],
)
def test_bad_input_is_one_line_before_anything_starts(run, root, monkeypatch, capfd, script, overrides, said):
    small = [o for o in SMALL if not (o.startswith("refiner.") and "refiner=identity" in overrides)]
    data = [] if "data=ap10k_files" in overrides else SYNTHETIC
    before = set((root / "runs").rglob("*"))
    assert call(script, monkeypatch, root, *small, *data, *overrides) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert said in lines[0]
    assert {p for p in set((root / "runs").rglob("*")) - before if p.is_file()} == set(), "nothing half-written stays"


@pytest.mark.parametrize("override", ["experiment=nonsense", "refiner.widht=3", "trainer.max_epoch=3"])
def test_typos_stop_the_run(root, monkeypatch, capfd, override):
    assert call(train, monkeypatch, root, override) == 1
    assert override.split("=")[0].split(".")[-1] in capfd.readouterr().err


def test_a_checkpoint_of_another_shape_is_refused(run, root, monkeypatch, capfd):
    wide = [o for o in SMALL if "width" not in o]
    code = call(evaluate, monkeypatch, root, *wide, "refiner.width=64", *SYNTHETIC, f"checkpoint={run}")
    assert code == 1
    assert "the refiner wants" in capfd.readouterr().err


def test_a_corrupt_image_is_named(run, root, monkeypatch, capfd, tmp_path):
    data = next((root / "cache").glob("synthetic-*"))
    copy = shutil.copytree(data, tmp_path / "cache" / data.name)
    victim = sorted((copy / "JPEGImages" / "cat").glob("*.jpg"))[0]
    victim.write_bytes(victim.read_bytes()[:200])
    cache = [f"paths.cache={tmp_path / 'cache'}"]
    assert call(train, monkeypatch, root, *SMALL, *SYNTHETIC, *TRAIN, *cache) == 1
    assert str(victim) in capfd.readouterr().err


def test_an_annotation_without_a_key_is_named(run, root, monkeypatch, capfd, tmp_path):
    data = next((root / "cache").glob("synthetic-*"))
    copy = shutil.copytree(data, tmp_path / "cache" / data.name)
    victim = sorted((copy / "ImageAnnotation" / "cow").glob("*.json"))[0]
    note = json.loads(victim.read_text())
    del note["kps"]
    victim.write_text(json.dumps(note))
    cache = [f"paths.cache={tmp_path / 'cache'}"]
    assert call(train, monkeypatch, root, *SMALL, *SYNTHETIC, *TRAIN, *cache) == 1
    said = capfd.readouterr().err
    assert str(victim) in said
    assert "kps" in said


def test_the_real_pair_in_both_directions(shared, root, monkeypatch, capfd):
    sample = shared / "data" / "ap10k-sample"
    out = root / "real"
    small = [o for o in SMALL if not o.startswith("refiner.")]
    overrides = ["data=ap10k_files", f"data.root={sample}", "refiner=identity", f"hydra.run.dir={out}"]
    assert call(evaluate, monkeypatch, root, *small, *overrides) == 0
    plain = read_summary(out / "results" / "zero-shot")["evaluations"][0]
    assert plain["counts"]["pairs"] == 2
    assert (out / "figures" / "matches-ap10k_all_pairs.png").is_file()


def test_the_log_holds_what_the_console_showed(run):
    log = (run / "train.log").read_text()
    assert "refined + pose alignment" in log, "the final table"
    assert f"results  {run / 'results'}" in log
    lines = [line for line in log.splitlines() if "validation after step" in line]
    assert [line.split("step ")[1].split(":")[0] for line in lines] == ["2", "4"]
    assert all("val/synthetic/pck@0.10/image" in line and "aligned" in line for line in lines)


def _tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"}


def test_a_finished_run_is_refused_and_stays_as_it_is(run, root, monkeypatch, capfd):
    before = _tree(run)
    for script, remedy in ((train, "resume=auto goes on with it, overwrite=true"), (evaluate, "overwrite=true")):
        code = call(script, monkeypatch, root, *SMALL, *SYNTHETIC, "seed=5", f"hydra.run.dir={run}")
        assert code == 1
        assert remedy in capfd.readouterr().err
        assert _tree(run) == before


def test_another_configuration_is_refused_and_leaves_the_run_as_it_is(run, root, monkeypatch, capfd):
    before = _tree(run)
    given = [*SMALL, *SYNTHETIC, *TRAIN, "resume=auto", f"hydra.run.dir={run}"]
    for change, said in (("seed=5", "seed was 42, is 5"), ("data.pairs.val=1", "data.val.synthetic.pairs.val was")):
        assert call(train, monkeypatch, root, *given, change) == 1
        assert said in capfd.readouterr().err
        after = _tree(run)
        after.pop(run / "run.lock"), before.pop(run / "run.lock", None)
        assert after == before


def test_a_run_goes_on_with_more_epochs_and_starts_over_when_told(run, root, monkeypatch):
    copy, away = root / "runs" / "copy", root / "runs" / "away"
    shutil.copytree(run, copy)
    run.rename(away)  # what its checkpoints call the run's folder is no more
    try:
        _more_epochs(copy, root, monkeypatch)
    finally:
        away.rename(run)
    weights = [torch.load(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (run, copy)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def _more_epochs(copy, root, monkeypatch):
    given = [*SMALL, *SYNTHETIC, *TRAIN, "baseline=false", f"hydra.run.dir={copy}"]
    assert call(train, monkeypatch, root, *given, "resume=auto", "trainer.max_epochs=3", "data.eval_batch=5") == 0
    rows = list(csv.DictReader((copy / "csv" / "metrics.csv").open()))
    assert [row["step"] for row in rows if row["train/loss/total"]] == ["0", "1", "2", "3", "4", "5"]
    assert "max_epochs: 3" in (copy / "config" / "config.yaml").read_text()
    best = torch.load(copy / "checkpoints" / "last.ckpt")["callbacks"]
    state = next(value for name, value in best.items() if name.startswith("ModelCheckpoint"))
    assert state["best_model_path"] == str(copy / "checkpoints" / "best.ckpt")
    assert state["best_model_score"] >= max(float(row["val/synthetic/pck@0.10/image"] or 0) for row in rows) - 1e-6
    assert call(train, monkeypatch, root, *given, "overwrite=true") == 0
    assert (copy / "checkpoints-before-1" / "last.ckpt").is_file()
    assert not (copy / "results" / "zero-shot").exists(), "those of the run before are put aside"


def test_ctrl_c_saves_says_so_and_the_run_goes_on(run, root):
    out = root / "runs" / "interrupted"
    script = Path(__file__).parents[2] / "train.py"
    given = [*SMALL, *SYNTHETIC, *TRAIN, "trainer.max_epochs=300", "data.test=null", f"hydra.run.dir={out}"]
    command = [sys.executable, script, f"paths.root={root}", *given]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        while not (out / "checkpoints" / "best.ckpt").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGINT
    assert "SIGINT: saves and stops after this step" in printed
    assert "go on with resume=auto" in printed
    assert "go on with resume=auto" in (out / "train.log").read_text()
    assert json.loads((out / "run.lock").read_text())["state"] == "stopped"
    step = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    rows = list(csv.DictReader((out / "csv" / "metrics.csv").open()))
    assert len({row["step"] for row in rows}) == step, "every step up to the checkpoint has its row"


def test_the_best_checkpoint_is_small_and_plain(run):
    path = Path(run / "checkpoints" / "best.ckpt")
    assert path.stat().st_size < 3e6
    assert all(k.startswith("refiner.") for k in torch.load(path, weights_only=True)["state_dict"])


def test_a_run_can_be_published_with_its_scores(run, tmp_path):
    from geoalign import publish

    refiner = publish.load(run)
    assert (refiner.grid, refiner.width) == (16, 32)
    publish.save(refiner, tmp_path, run=run)
    card = (tmp_path / "README.md").read_text()
    assert "geoalign.backbone.lite.Lite" in card
    assert "| synthetic (test) | aligned | 12 |" in card
    assert publish.load(tmp_path).config() == refiner.config()
