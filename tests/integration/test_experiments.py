"""Every experiment composes, names a known published row or none, and is built; every kind runs to its end.

On mini data. Runs take seconds each: as few run whole as together choose every dataset, loss, refiner and head;
the others, which differ in numbers, are built from their own values.
"""

import copy
import inspect
import re
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from helpers import cut, mini
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class, get_object
from omegaconf import OmegaConf

import geoalign.run as runs
from geoalign import build
from geoalign.cli import evaluate, train
from geoalign.options.entry import composed as compose
from geoalign.options.yamls import CONF
from geoalign.refiner import Aggregation, Blend
from geoalign.report.published import find_published
from geoalign.results.summary import read_summary

pytestmark = pytest.mark.untraced
NAMES = sorted(p.relative_to(CONF / "experiment").with_suffix("").as_posix() for p in CONF.glob("experiment/*/*.yaml"))
DATA = sorted(p.stem for p in CONF.glob("data/*.yaml") if p.stem != "loading")
ELSEWHERE = [  # zero-shot rows have more columns than SPair-71k's
    ("zero_shot/dinov2", ["data=ap10k"]),
    ("released/spair71k", ["data=pf_pascal", "alignment=off"]),
    ("livestock_deep/tail", ["backbone=dinov3_b"]),  # the strong recipe
    ("livestock_deep/tail", ["backbone=sd15_dinov2"]),
]
REPLACED = ("backbone", "matcher", "optimizer", "store")
"""Groups that are small stand-ins in these runs, or tried one by one in units."""
SPECIES = (
    "train",
    "val.ap10k_intra_species",
    *(f"test.ap10k_{s}" for s in ("intra_species", "cross_species", "cross_family")),
)


def test_there_are_experiments_to_try():
    assert len(NAMES) > 70
    assert 20 < len(covering()) < 45, "runs are dear; are these choices of kinds, or of numbers?"
    assert len(DATA) > 10


@cache
def text(name):
    return (CONF / "experiment" / f"{name}.yaml").read_text()


def script(name):
    """The script that the experiment's header names."""
    return {"train": train, "evaluate": evaluate}[command(name)]


def command(name):
    return re.search(r"geoalign (\w+) experiment=" + name, text(name)).group(1)


@cache
def choices(name):
    """What an experiment chooses that a run could trip over: its script and recipe, groups, keys of data and head."""
    document = yaml.safe_load(text(name))
    chosen = {command(name)}
    for given in document["defaults"]:
        group, one = next(iter(given.items())) if isinstance(given, dict) else ("", given)
        if not group.endswith(REPLACED) and "experiment/" not in one:
            chosen.add(f"{group} {one}")
    for group in ("data", "head"):
        chosen |= {f"{group}.{key}" for key in document.get(group, {})}
    chosen |= {f"refiner.{key}={one}" for key, one in document.get("refiner", {}).items() if isinstance(one, str)}
    return chosen | {"initial"} & set(document)


def covering():
    """As few experiments as hold every choice of every one."""
    chosen, left = [], set().union(*map(choices, NAMES))
    while left:
        chosen.append(max(NAMES, key=lambda name: len(choices(name) & left)))
        left -= choices(chosen[-1])
    return chosen


@cache
def composed(config, *overrides):
    return compose(config, overrides)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Mini data of every benchmark, and weights that fit the tiny backbone."""
    root = tmp_path_factory.mktemp("experiments")
    data = root / "data"
    mini.spair71k(data / "spair71k")
    mini.spair_u(data / "spair_u")
    mini.ap10k(data / "ap10k")
    mini.livestock(data / "livestock")
    mini.pf_pascal(data / "pf_pascal")
    mini.pseudo(data, [name for name in NAMES if name.startswith(("livestock_unlabelled/", "diysc/"))])
    cut.save_dinos(root / "networks")
    (data / "weights").mkdir()
    refiner = Aggregation((6, 10), grid=8, width=32, hidden=32)
    torch.save(refiner.state_dict(), data / "weights" / "ap10k.pth")
    torch.save(Blend(refiner).state_dict(), data / "weights" / "blend.pth")
    torch.save(cut.marco_state(), data / "weights" / "marco.pth")
    return root


def tiny(name, root, extra):
    """The experiment's config with its own choices, and everything else as small as it goes."""
    cfg = copy.deepcopy(composed(command(name), f"experiment={name}", *extra))
    OmegaConf.set_struct(cfg, False)
    cfg.paths.root = str(root)
    cfg.hydra.runtime.output_dir = cfg.hydra.run.dir = str(root / "runs" / "-".join([name.replace("/", "-"), *extra]))
    fused = "backbones" in cfg.backbone
    network, normed = cfg.backbone.get("source", ""), cfg.backbone.get("final_norm", True)
    cfg.backbone = {"_target_": "helpers.tiny.TinyBackbone"}
    cfg.store, cfg.callbacks.progress = None, None
    cfg.trainer.fast_dev_run, cfg.trainer.accelerator = True, "cpu"
    cfg.alphas = [0.05] if cfg.data.primary == "pf_pascal" else [0.10]  # that of the objective
    if "batch_size" in (cfg.data.get("sampler") or {}):
        cfg.data.sampler.batch_size = 1  # a step, however few pairs there are
    cfg.data.eval_batch = 256  # all pairs in the one batch that a fast run looks at
    if cfg.look._target_:  # crops are views of their own, so that one batch does not hold all pairs
        cfg.trainer.fast_dev_run = False
    if cfg.alignment and cfg.alignment._target_:
        cfg.alignment.mask_side = 16
    if cfg.refiner._target_.endswith("Blend"):
        cfg.refiner.refiner.width = cfg.refiner.refiner.hidden = 32
        if script(name) is evaluate:
            cfg.checkpoint = str(root / "data" / "weights" / "blend.pth")
    if cfg.refiner._target_.endswith("Tail"):
        family = next((name for name in ("registers", "dinov3") if name in network), "dinov2")
        own = {"source": str(root / "networks" / family), "image_size": 64 if family == "dinov3" else 56, "cut": 1}
        cut_one = {"_target_": "geoalign.backbone.Dino", **own, "final_norm": normed}
        cfg.backbone = _fused(cfg.backbone, cut_one) if fused else cut_one
        if script(name) is evaluate:
            cfg.checkpoint = str(root / "data" / "weights" / "marco.pth") if "marco" in name else _untrained(cfg, root)
    if cfg.data.get("few"):
        cfg.data.few = 4
    if cfg.refiner._target_.endswith("Aggregation"):
        cfg.refiner.width = cfg.refiner.hidden = 32
        if script(name) is evaluate:
            cfg.checkpoint = str(root / "data" / "weights" / "ap10k.pth")
    if cfg.data.primary == "synthetic":
        cfg.data.update(images={"trn": 3, "val": 2, "test": 2}, pairs={"trn": 6, "val": 2, "test": 2})
        cfg.data.categories, cfg.data.sampler.size = ["cat"], 3
    if cfg.data.primary == "ap10k_intra_species":
        cfg.data.limits.val = cfg.data.limits.test = 4
        for source in (cfg.data.train, *cfg.data.val.values(), *cfg.data.test.values()):
            source.crowd_sha256 = None
    return cfg


def _untrained(cfg, root):
    weights = root / "data" / "weights" / "untrained.pth"
    torch.save(build.make_refiner(cfg.refiner, build.make(cfg.backbone), cfg.head).state_dict(), weights)
    return str(weights)


def _fused(frozen, cut_one):
    members = {"frozen": {**frozen, "image_size": cut_one["image_size"]}, "cut": cut_one}
    return {"_target_": "geoalign.backbone.Fusion", "backbones": members, "grid": 4}


def ready(name, root, extra=()):
    """The tiny config as a script's task gets it, and the run's folder."""
    cfg = tiny(name, root, extra)
    out = Path(cfg.hydra.runtime.output_dir)
    HydraConfig.instance().set_config(cfg)
    del cfg.hydra
    OmegaConf.set_struct(cfg, True)
    return cfg, out


def run(name, root, monkeypatch, extra=()):
    """Run the experiment in this process; its folder."""
    cfg, out = ready(name, root, extra)
    monkeypatch.setattr("geoalign.report.final.match_panels", lambda *_: None)  # drawn by other tests
    monkeypatch.setenv("COLUMNS", "150")
    {train: runs.train, evaluate: runs.evaluate}[script(name)](cfg)
    return out


def refused(name, root, monkeypatch, capfd, *overrides):
    """What the script prints as its error line."""
    argv = [f"{command(name)}.py", f"experiment={name}", f"paths.root={root}", "store=off", *overrides]
    monkeypatch.setattr(sys, "argv", argv)
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit):
        script(name).main()
    return next(line for line in capfd.readouterr().err.splitlines() if line.startswith("error: "))


WHOLE = covering()


@pytest.mark.parametrize(("name", "extra"), [*((name, []) for name in WHOLE), *ELSEWHERE], ids=lambda v: str(v))
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
            method = find_published(summary["published"], evaluation["method"])
            if method is not None:
                assert f"published: {method.name}" in printed


@pytest.mark.parametrize("name", NAMES)
def test_it_says_which_script_runs_it_names_a_published_row_or_none_and_is_built(name, root):
    cfg = composed(command(name), f"experiment={name}")
    assert cfg.name.replace("-", "_") == name.replace("/", "_").replace("-", "_")
    published = OmegaConf.to_container(cfg).get("published")
    for method in ("plain", "aligned"):
        find_published(published, method)  # raises for a method that nobody published
    if name.startswith("supervised"):
        assert published is not None
    if name not in WHOLE:
        small, _ = ready(name, root)
        parts = build.build(small, ["train", "val"] if script(name) is train else ["test"])
        assert parts.module.refiner.trainable == (script(name) is train or bool(small.checkpoint))


def test_the_rows_of_the_papers_tables_are_there():
    published = [OmegaConf.to_container(composed(command(n), f"experiment={n}"))["published"] for n in NAMES]
    named = {m for p in published for m in (p.values() if isinstance(p, dict) else [p])}
    assert named >= {
        *("DINOv2-B + nearest neighbour", "DIFT", "SD zero-shot", "SD+DINO", "TLR zero-shot (v2)"),
        *("TLR zero-shot without the ODISE captioner", "TLR", "TLR, AP-10K pre-trained", "Geo-SC"),
    }
    assert {f"ablation/window_{radius}" for radius in (0, 3, 5, 7, 9, 11)} <= set(NAMES)
    assert {f"ablation/readout_{r}" for r in ("soft", "window", "argmax", "kernel")} <= set(NAMES)
    assert {f"ablation/no_{p}" for p in ("dense", "augmentation", "noise", "dropout")} <= set(NAMES)


def test_supervised_rows_follow_the_papers_recipe():
    cfg = composed("train", "experiment=supervised/spair71k")
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay, cfg.seed) == (1.25e-3, 1e-3, 42)
    assert (cfg.refiner.width, cfg.refiner.dropout, cfg.refiner.dropout_at) == (768, 0.2, "grid")
    assert cfg.loss.kinds == {"plain": 1.0, "single": 0.0, "double": 1.0, "self": 0.25, "rotated": 0.0}
    assert (cfg.loss.dense.label_noise, cfg.loss.dense.target, cfg.loss.dense.matcher.readout) == (
        0.1,
        "released",
        "soft",
    )
    assert (cfg.matcher.readout, cfg.matcher.radius, cfg.matcher.outside, cfg.matcher.source) == (
        "window",
        7,
        "zero",
        "floor",
    )
    assert (cfg.data.sampler.batch_size, cfg.trainer.max_epochs, cfg.trainer.val_check_interval) == (1, 2, 5000)
    assert (cfg.scheduler.pct_start, cfg.alignment.grid, cfg.objective) == (0.3, 64, "val/spair71k/pck@0.10/image")
    ap10k = composed("train", "experiment=supervised/ap10k")
    assert (ap10k.trainer.max_epochs, ap10k.scheduler._target_) == (1, None)
    pascal = composed("train", "experiment=supervised/pf_pascal_pretrained")
    assert (pascal.trainer.max_epochs, pascal.alignment, pascal.initial) == (100, None, "./data/weights/ap10k.pth")
    assert [kind for kind, weight in pascal.loss.kinds.items() if weight] == ["plain"]


@pytest.mark.parametrize("name", DATA)
def test_data_configs_fit_their_constructors(name):
    cfg = OmegaConf.to_container(composed("evaluate", f"data={name}").data, resolve=False)
    known = {
        "without",
        "species",
        "few",
        "draw",
        "root",
        "split",
        "alphas",
        "keypoints",
        "labels",
        "symmetry",
        "images",
        "pairs",
        "categories",
        "content",
    }
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
    said = refused("zero_shot/dinov2", root, monkeypatch, capfd, "data.root=nowhere")
    assert "nowhere" in said
    assert "geoalign prepare dataset=spair71k" in said


def test_flips_without_a_mirror_table_are_refused(root, monkeypatch, capfd):
    said = refused("zero_shot/dinov2", root, monkeypatch, capfd, "data=pf_pascal")
    assert "pf_pascal has no mirror table for cat" in said
    assert "alignment=off" in said


def test_missing_weights_stop_before_anything_is_built(root, monkeypatch, capfd):
    overrides = ["initial=gone.pth", "data.root=nowhere"]
    assert "no weights at gone.pth" in refused("supervised/spair71k_pretrained", root, monkeypatch, capfd, *overrides)


@pytest.mark.parametrize(
    ("backbone", "cut"),
    [("lite", "cut"), ("dinov2_b", "cut"), ("dinov3_b", "cut"), ("sd15_dinov2", "backbones.dinov2.cut")],
)
def test_the_strong_recipe_leaves_the_last_blocks_of_any_backbone_to_the_tail(backbone, cut):
    cfg = composed("train", "recipe=strong", f"backbone={backbone}", "data=spair71k", "alignment=off")
    assert OmegaConf.select(cfg.backbone, cut) == -4
    assert (cfg.data.primary, cfg.refiner._target_) == ("spair71k", "geoalign.refiner.Tail")
