"""Every experiment composes, names a known published row or none, and runs to its end on mini data."""

import inspect
import re
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers import mini
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class, get_object
from omegaconf import OmegaConf

import evaluate
import train
from geoalign.metrics.summary import read_summary
from geoalign.refiner import Aggregation
from geoalign.report.published import find_method

CONF = Path(train.__file__).parent / "conf"
NAMES = sorted(p.relative_to(CONF / "experiment").with_suffix("").as_posix() for p in CONF.glob("experiment/*/*.yaml"))
DATA = sorted(p.stem for p in CONF.glob("data/*.yaml") if p.stem != "loading")
ELSEWHERE = [  # zero-shot rows have more columns than SPair-71k's
    ("zero_shot/dinov2", ["data=ap10k"]),
    ("zero_shot/sd15_dinov2_window", ["data=ap10k"]),
    ("zero_shot/sd15_dinov2", ["data=pf_pascal", "alignment=off"]),
    ("released/spair71k", ["data=pf_pascal", "alignment=off"]),
]
SPECIES = (
    "train",
    "val.ap10k_intra_species",
    *(f"test.ap10k_{s}" for s in ("intra_species", "cross_species", "cross_family")),
)


def text(name):
    return (CONF / "experiment" / f"{name}.yaml").read_text()


def script(name):
    """The script that the experiment's header names."""
    return {"train": train, "evaluate": evaluate}[
        re.search(r"python (\w+)\.py experiment=" + name, text(name)).group(1)
    ]


@cache
def composed(config, *overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(config, list(overrides), return_hydra_config=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Mini data of every benchmark, and weights that fit the tiny backbone."""
    root = tmp_path_factory.mktemp("experiments")
    data = root / "data"
    mini.spair71k(data / "spair71k")
    mini.spair_u(data / "spair_u")
    mini.ap10k(data / "ap10k")
    mini.pf_pascal(data / "pf_pascal")
    (data / "weights").mkdir()
    torch.save(Aggregation((6, 10), grid=8, width=32, hidden=32).state_dict(), data / "weights" / "ap10k.pth")
    return root


def tiny(name, root, extra):
    """Overrides that leave the experiment's choices and shrink everything else."""
    cfg = composed(script(name).__name__, f"experiment={name}", *extra)
    here = Path(__file__).parents[1] / "conf"
    overrides = [f"experiment={name}", *extra, f"hydra.searchpath=[file://{here}]", "store=off", "backbone=tiny"]
    if "captioner" not in name:
        overrides.append("backbone=tiny")
    if cfg.alignment and cfg.alignment._target_:
        overrides.append("alignment.mask_side=16")
    if cfg.refiner._target_.endswith("Aggregation"):
        overrides += ["refiner.width=32", "refiner.hidden=32"]
    if cfg.data.primary == "synthetic":
        overrides += ["data.images={trn: 3, val: 2, test: 2}", "data.pairs={trn: 6, val: 2, test: 2}"]
        overrides += ["data.categories=[cat]", "data.sampler.size=3"]
    if cfg.data.primary == "ap10k_intra_species":
        overrides += ["data.limits.val=4", "data.limits.test=4", *(f"+data.{s}.crowd_sha256=null" for s in SPECIES)]
    if script(name) is evaluate and not cfg.refiner._target_.endswith("Identity"):
        overrides.append(f"checkpoint={root / 'data' / 'weights' / 'ap10k.pth'}")
    return [*overrides, "trainer.fast_dev_run=true", "callbacks.progress=null", "data.eval_batch=256"]


def run(name, root, monkeypatch, extra=()):
    out = root / "runs" / name.replace("/", "-")
    argv = [f"{script(name).__name__}.py", f"paths.root={root}", f"hydra.run.dir={out}", *tiny(name, root, extra)]
    monkeypatch.setattr(sys, "argv", list(dict.fromkeys(argv)))
    monkeypatch.setattr("geoalign.report.final.match_panels", lambda *_: None)  # drawn by other tests
    monkeypatch.setenv("COLUMNS", "150")
    GlobalHydra.instance().clear()
    script(name).main()
    return out


@pytest.mark.parametrize(("name", "extra"), [*((name, []) for name in NAMES), *ELSEWHERE], ids=lambda v: str(v))
def test_it_runs_to_the_end_and_prints_its_published_neighbour(name, extra, root, monkeypatch, capfd):
    out = run(name, root, monkeypatch, extra)
    printed = capfd.readouterr().out
    summaries = [read_summary(path.parent) for path in (out / "results").rglob("summary.json")]
    assert summaries
    for summary in summaries:
        for evaluation in summary["evaluations"]:
            assert evaluation["counts"]["pairs"] > 0
            has_table = evaluation["dataset"] not in ("pf_pascal", "spair_u")
            assert (evaluation["counts"]["geometry_aware"] > 0) == has_table, evaluation["dataset"]
            method = find_method(summary["published"], evaluation["view"])
            if method is not None:
                assert f"published: {method.name}" in printed


@pytest.mark.parametrize("name", NAMES)
def test_it_says_which_script_runs_it_and_names_a_published_row_or_none(name):
    assert text(name).startswith("# @package _global_\n")
    cfg = composed(script(name).__name__, f"experiment={name}")
    assert cfg.name.replace("-", "_") == name.replace("/", "_").replace("-", "_")
    published = OmegaConf.to_container(cfg).get("published")
    for view in ("plain", "aligned"):
        find_method(published, view)  # raises for a method that nobody published
    if name.startswith("supervised"):
        assert published is not None


def test_the_rows_of_the_papers_tables_are_there():
    published = [OmegaConf.to_container(composed(script(n).__name__, f"experiment={n}"))["published"] for n in NAMES]
    named = {m for p in published for m in (p.values() if isinstance(p, dict) else [p])}
    assert named >= {
        *("DINOv2-B + nearest neighbour", "DIFT", "SD zero-shot", "SD+DINO", "TLR zero-shot (v2)"),
        *("TLR zero-shot without the ODISE captioner", "TLR", "TLR, AP-10K pre-trained", "Geo-SC"),
    }
    assert {f"ablation/window_{radius}" for radius in (0, 3, 5, 7, 9, 11)} <= set(NAMES)
    assert {f"ablation/readout_{r}" for r in ("soft", "window", "argmax", "kernel")} <= set(NAMES)
    assert {f"ablation/no_{p}" for p in ("dense", "augmentation", "noise", "dropout")} <= set(NAMES)


@pytest.mark.parametrize("name", DATA)
def test_data_configs_fit_their_constructors(name):
    cfg = OmegaConf.to_container(composed("evaluate", f"data={name}").data, resolve=False)
    known = {"root", "split", "alphas", "keypoints", "symmetry", "images", "pairs", "categories", "content"}
    targets = 0
    for node in _nodes(cfg):
        target = node.pop("_target_")
        node.pop("_partial_", None)
        made = get_class(target) if target.rpartition(".")[2][0].isupper() else get_object(target)
        parameters = set(inspect.signature(made).parameters)
        extra = set(node) - parameters - (known if target.endswith("PairDataModule") else set())
        assert not extra or "settings" in parameters, f"{target}: {extra}"
        targets += 1
    assert targets >= 2


def _nodes(value):
    if isinstance(value, dict):
        for child in value.values():
            yield from _nodes(child)
        if "_target_" in value:
            yield value


def test_an_experiment_without_its_data_says_what_to_do(root, monkeypatch, capfd):
    with pytest.raises(SystemExit):
        run("zero_shot/dinov2", root, monkeypatch, ["data.root=nowhere"])
    said = capfd.readouterr().err
    assert "error: nowhere" in said
    assert "geoalign.data.prepare dataset=spair71k" in said


def test_flips_without_a_mirror_table_are_refused(root, monkeypatch, capfd):
    with pytest.raises(SystemExit):
        run("zero_shot/dinov2", root, monkeypatch, ["data=pf_pascal"])
    assert "pf_pascal has no mirror table for cat" in capfd.readouterr().err


def test_missing_weights_stop_before_anything_is_built(root, monkeypatch, capfd):
    with pytest.raises(SystemExit):
        run("supervised/spair71k_pretrained", root, monkeypatch, ["initial=gone.pth", "data.root=nowhere"])
    assert "error: no weights at gone.pth" in capfd.readouterr().err
