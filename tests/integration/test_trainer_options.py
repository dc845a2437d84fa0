"""What a run may be told: average, accumulate, clip, half precision, compile, repeat bit by bit."""

import pytest
import torch
from helpers.killed import parts
from helpers.spair_tree import write_tree
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from geoalign.build import compile_refiner
from geoalign.callbacks.averaging import AverageWeights
from geoalign.refiner.checkpoint import load_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_tree(root)
    return root


class Seen(Callback):
    """Losses and weights after every batch."""

    def __init__(self):
        self.losses, self.weights = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))
        self.weights.append({k: v.detach().clone() for k, v in pl_module.refiner.state_dict().items()})


def _fit(data, callbacks=(), seed=1, compiled=None, sgd=False, **options):
    """One epoch of five batches; the module and what was seen."""
    module, datamodule = parts(data, workers=0)
    seed_everything(seed, verbose=False)  # dropout draws from it
    if sgd:
        module.make_optimizer, module.make_scheduler = (lambda p: torch.optim.SGD(p, lr=1.0)), None
    compile_refiner(module, compiled)
    seen = Seen()
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, callbacks=[*callbacks, seen], num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks), **options,
    )  # fmt: skip
    trainer.fit(module, datamodule)
    return module, seen, trainer


@pytest.fixture(scope="module")
def plain(data):
    return _fit(data)


def _equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_repeats_bit_by_bit(data, plain):
    again, seen, _ = _fit(data, deterministic=True)
    assert seen.losses == plain[1].losses
    assert _equal(again.refiner.state_dict(), plain[0].refiner.state_dict())
    assert not _equal(_fit(data, seed=2)[0].refiner.state_dict(), plain[0].refiner.state_dict())


def test_the_average_is_the_moving_one_and_leaves_frozen_weights_alone(data, plain, tmp_path):
    best = ModelCheckpoint(tmp_path, "best", "val/mini/pck@0.10/image", mode="max")
    module, seen, _ = _fit(data, [AverageWeights(decay=0.8), best])
    expected = seen.weights[0]
    for weights in seen.weights[1:]:
        expected = {k: 0.8 * expected[k] + 0.2 * weights[k] for k in expected}
    torch.testing.assert_close(dict(module.refiner.state_dict()), expected, rtol=1e-5, atol=1e-6)
    assert _equal(seen.weights[-1], plain[1].weights[-1]), "training does not see it"
    assert _equal(module.backbone.state_dict(), plain[0].backbone.state_dict())
    load_weights(plain[0].refiner.__class__((6, 10), grid=8, width=64, hidden=64), best.best_model_path)
    saved = torch.load(best.best_model_path, weights_only=True)
    assert {k.split(".")[0] for k in saved["state_dict"]} == {"refiner"}
    torch.testing.assert_close(saved["state_dict"]["refiner.mixing_weights"], expected["mixing_weights"])


def test_an_average_is_of_something():
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        AverageWeights(decay=1)


def test_accumulated_batches_are_one_step(data):
    _, seen, trainer = _fit(data, accumulate_grad_batches=2)
    changed = [not _equal(a, b) for a, b in zip(seen.weights, seen.weights[1:], strict=False)]
    assert changed == [True, False, True, True], "after batches 2, 4 and the last one"
    assert trainer.global_step == 3
    assert trainer.lr_scheduler_configs[0].scheduler.total_steps == 3


def test_the_gradient_is_clipped_to_its_norm(data):
    _, seen, _ = _fit(data, sgd=True, gradient_clip_val=1e-3)
    step = [(seen.weights[1][k] - seen.weights[0][k]).flatten() for k in seen.weights[0]]
    assert torch.cat(step).norm() == pytest.approx(1e-3, rel=1e-2), "plain descent at rate 1 moves by the gradient"


def test_half_precision_trains_full_precision_weights(data, plain):
    module, seen, _ = _fit(data, precision="bf16-mixed")
    assert seen.losses != plain[1].losses
    assert seen.losses == pytest.approx(plain[1].losses, rel=0.1)
    assert {p.dtype for p in module.refiner.parameters()} == {torch.float32}


@pytest.mark.unchecked  # torch.compile cannot see through the checks
def test_a_compiled_refiner_keeps_its_names_and_answers(data, plain, tmp_path):
    best = ModelCheckpoint(tmp_path, "best", "val/mini/pck@0.10/image", mode="max")
    module, seen, _ = _fit(data, [AverageWeights(decay=0.5), best], compiled="eager")
    assert seen.losses == pytest.approx(plain[1].losses, rel=1e-5)
    saved = torch.load(best.best_model_path, weights_only=True)
    assert not [k for k in saved["state_dict"] if "orig_mod" in k]
    fresh = plain[0].refiner.__class__((6, 10), grid=8, width=64, hidden=64)
    load_weights(fresh, best.best_model_path)
    load_weights(module.refiner, best.best_model_path)
    maps = (torch.randn(3, 6, 8, 8), torch.randn(3, 10, 4, 4))
    torch.testing.assert_close(module.refiner.eval()(maps), fresh.eval()(maps))


def test_an_unknown_compiler_is_named(plain):
    with pytest.raises(ValueError, match=r"inductor.*got 'fast'"):
        compile_refiner(plain[0], "fast")
