"""What somebody meant, and whether values fit constructors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from geoalign.options.names import among, nearest
from geoalign.options.values import calls, check, parameters_of
from geoalign.signatures import accepts, readable

TRAINER = {"_target_": "lightning.Trainer", "max_epochs": 4, "devices": "auto", "precision": "32-true"}


def test_one_letter_wrong_finds_every_option_again():
    known = ["optimizer.lr", "refiner.width", "trainer.max_epochs", "matcher.temperature", "loss.dense.label_noise"]
    for name in known:
        for spot in range(len(name)):
            if name[spot] != ".":
                assert nearest(name[:spot] + name[spot + 1 :], known) == name


def test_nothing_alike_is_nothing():
    assert nearest("zzz.qqq", ["optimizer.lr"]) is None
    assert nearest("spair", ["supervised/spair71k", "zero_shot/sd15"], "/") == "supervised/spair71k"


def test_long_lists_are_cut():
    assert among(["a", "b"]) == "a, b"
    assert among([f"c{i}" for i in range(30)]).endswith("... (30)")


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [3], ["many", 2.5, True, [1]]),
        (float, [3, 2.5], ["abc", False]),
        (bool, [True], [1, "yes"]),
        (str | None, ["a", 3, None], []),
        (int | str, [3, "auto"], []),
        (Path, ["a"], []),
        (Sequence[str], [["a", "b"]], ["a", 3]),
        (Sequence[int] | None, [None, [1, 2]], ["1", ["x"]]),
        (tuple[int, int], [[1, 2]], [3]),
        (dict[str, float], [{"a": 1}], ["a", 3]),
        (Callable[..., Any], [{"_target_": "x"}], ["x", 1]),
        (Any, ["a", 1, [2], {}], []),
    ],
)
def test_values_of_a_yaml_against_types(hint, good, bad):
    assert [value for value in good if not accepts(hint, value)] == []
    assert [value for value in bad if accepts(hint, value)] == []


def test_types_are_said_in_words():
    assert readable(int | None) == "a whole number or null"
    assert readable(Sequence[str]) == "a list"
    assert readable(dict[str, float]) == "a mapping"
    assert readable(Path) == "Path"


def test_a_sound_config_passes_and_each_mistake_is_named():
    check({"seed": 1, "trainer": TRAINER}, {"seed": 42})
    for wrong, said in [
        ({"max_epochs": "many"}, "trainer.max_epochs=many: expected a whole number or null, got text"),
        ({"max_epoch": 3}, "did you mean trainer.max_epochs"),
    ]:
        with pytest.raises(ValueError, match=said):
            check({"trainer": TRAINER | wrong}, {})
    with pytest.raises(ValueError, match="seed=abc: expected a whole number"):
        check({"seed": "abc"}, {"seed": 42})
    check({"trainer": TRAINER | {"max_epoch": 3}}, {}, open_ended=["trainer"])


def test_calls_are_found_at_any_depth():
    config = {"a": {"_target_": "x", "b": [{"_target_": "y"}]}, "c": {"d": {"_target_": "z"}}}
    assert [path for path, _ in calls(config)] == ["a", "a.b.0", "c.d"]


def test_targets_that_cannot_be_read_are_left_to_their_maker():
    assert parameters_of("nowhere.Nothing") is None
    check({"part": {"_target_": "nowhere.Nothing", "x": 1}}, {})
