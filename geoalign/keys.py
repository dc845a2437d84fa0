"""Every logged and reported name, built here and nowhere else."""

from __future__ import annotations


def alpha_name(alpha: float) -> str:
    """Thresholds as they are printed: two decimals, more only where needed.

    >>> alpha_name(0.1), alpha_name(0.005)
    ('0.10', '0.005')
    """
    return f"{alpha:.2f}" if round(alpha, 2) == alpha else f"{alpha:g}"


def metric_key(
    stage: str,
    dataset: str,
    metric: str,
    average: str,
    *,
    subset: str = "all",
    method: str = "plain",
    category: str = "all",
) -> str:
    """A metric's name; the common case stays short.

    >>> metric_key("val", "spair71k", "pck@0.10", "image")
    'val/spair71k/pck@0.10/image'
    >>> metric_key("test", "spair71k", "pck@0.10", "keypoint", subset="geometry_aware", method="aligned")
    'test/spair71k/aligned/geometry_aware/pck@0.10/keypoint'
    >>> metric_key("test", "spair71k", "pck@0.10", "image", category="cat")
    'test/spair71k/category_cat/pck@0.10/image'
    """
    place = ((method, "plain"), (subset, "all"), (category if category == "all" else f"category_{category}", "all"))
    middle = [part for part, usual in place if part != usual]
    return "/".join([stage, dataset, *middle, metric, average])


def pck_key(
    stage: str,
    dataset: str,
    alpha: float,
    average: str,
    *,
    subset: str = "all",
    method: str = "plain",
    category: str = "all",
) -> str:
    """A PCK's name.

    >>> pck_key("val", "synthetic", 0.1, "keypoint")
    'val/synthetic/pck@0.10/keypoint'
    """
    return metric_key(
        stage, dataset, f"pck@{alpha_name(alpha)}", average, subset=subset, method=method, category=category
    )


def loss_key(stage: str, part: str) -> str:
    """A loss term's name.

    >>> loss_key("train", "dense_double")
    'train/loss/dense_double'
    """
    return f"{stage}/loss/{part}"


def pose_key(stage: str, dataset: str, name: str) -> str:
    """A pose-alignment statistic's name.

    >>> pose_key("val", "synthetic", "chosen_flip")
    'val/synthetic/pose/chosen_flip'
    """
    return f"{stage}/{dataset}/pose/{name}"


def telemetry_key(stage: str, name: str) -> str:
    """A quantity of the run itself.

    >>> telemetry_key("train", "lr")
    'train/lr'
    """
    return f"{stage}/{name}"


def media_key(stage: str, dataset: str, name: str) -> str:
    """A picture's or table's name on a dashboard.

    >>> media_key("val", "synthetic", "matches")
    'val/synthetic/media/matches'
    """
    return f"{stage}/{dataset}/media/{name}"


def best_key(name: str) -> str:
    """The best value of a logged quantity over a run.

    >>> best_key("val/synthetic/pck@0.10/image")
    'best/val/synthetic/pck@0.10/image'
    """
    return f"best/{name}"


def is_main(name: str) -> bool:
    """Whether a dashboard shows it by default: of the many names of PCK those of all keypoints, and ``geometry_aware``.

    >>> is_main("train/loss/total"), is_main("best/val/synthetic/aligned/pck@0.10/image")
    (True, True)
    >>> is_main("val/synthetic/mirror/pck@0.10/image"), is_main("test/synthetic/count/pairs")
    (False, False)
    >>> is_main("val/synthetic/pck@0.10/macro_image"), is_main("val/synthetic/geometry_aware/pck@0.10/keypoint")
    (False, True)
    """
    *place, metric, average = ["", *name.split("/")]
    if not metric.startswith("pck@"):
        return metric != "count" and "@" not in metric
    aside = {part for part in place if part == "mirror" or "azimuth_" in part or part.startswith("category_")}
    return not aside and average in (("keypoint",) if "geometry_aware" in place else ("image", "keypoint"))
