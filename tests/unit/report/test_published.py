import json
from pathlib import Path

import pytest

from geoalign.report.published import find_published, load_facts, load_published, published_threshold
from geoalign.results.predictions import ResultsError

SOURCE = Path(__file__).parents[4] / "shared/published.json"


def test_known_numbers():
    methods = load_published()
    assert methods["TLR"].get("spair71k", 0.1, "image") == 82.9
    assert methods["TLR zero-shot (v2)"].get("spair71k", 0.1, "image") == 65.4
    assert methods["SD+DINO"].get("spair71k", 0.1, "keypoint", category="cat") == 78.6
    assert methods["DIFT"].get("spair71k", 0.1, "image", subset="geometry_aware") == 42.5
    assert methods["TLR"].get("spair71k", 0.15, "image") is None


@pytest.mark.skipif(not SOURCE.is_file(), reason=f"needs the collected numbers at {SOURCE}")
def test_every_number_of_the_source_is_kept():
    source, methods = json.loads(SOURCE.read_text()), load_published()
    skip = ("method", "setting", "source", "grade")
    for entry in source["per_image"]:
        for dataset, values in entry.items():
            for alpha, value in values.items() if dataset not in skip else ():
                assert methods[entry["method"]].get(dataset, float(alpha), "image") == value
    for average in ("keypoint", "image"):
        for name, values in source[f"per_{average}_by_category_spair71k_010"].items():
            for category, value in values.items():
                if category != "source":
                    assert methods[name].get("spair71k", 0.1, average, category=category) == value
    geometry_aware = source["geometry_aware_spair71k_010"].values()
    kept = [m.get("spair71k", 0.1, "image", subset="geometry_aware") for m in methods.values()]
    assert set(geometry_aware) == set(kept) - {None}
    for name, value in source["spair_u_010"].items():
        assert methods[name].get("spair_u", 0.1, "image") == value
    assert all(load_facts()[name] == source[name] for name in ("pose_prediction", "speed"))


def test_neighbours_by_view():
    assert find_published("TLR", "plain").name == "TLR"
    assert find_published("TLR", "aligned").name == "TLR + pose alignment"
    assert find_published("GECO", "aligned") is None
    assert find_published({"aligned": "TLR zero-shot (v2)"}, "plain") is None
    assert find_published({"aligned": "TLR zero-shot (v2)"}, "aligned").name == "TLR zero-shot (v2)"
    assert find_published(None, "plain") is None


@pytest.mark.parametrize("method", ["plain", "aligned"])
def test_an_unknown_method_is_refused(method):
    with pytest.raises(ResultsError, match="no published method is called"):
        find_published("TLR v9", method)


def test_what_published_numbers_are_relative_to():
    assert (published_threshold("pf_pascal"), published_threshold("spair71k")) == ("image", "box")
