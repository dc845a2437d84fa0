"""What the synthetic categories are: proportions, keypoint names and their symmetry."""

from __future__ import annotations

from typing import NamedTuple

from geoalign.symmetry import Symmetry

AP10K_NAMES = (
    *("left_eye", "right_eye", "nose", "neck", "root_of_tail", "left_shoulder", "left_elbow", "left_front_paw"),
    *("right_shoulder", "right_elbow", "right_front_paw", "left_hip", "left_knee", "left_back_paw"),
    *("right_hip", "right_knee", "right_back_paw"),
)
"""The 17 keypoints of AP-10K in their order; every quadruped has them among its own."""


class Species(NamedTuple):
    """Mean proportions of a quadruped; lengths in distances from shoulder to hip, angles in degrees."""

    family: str
    withers: float  # height of the back above the ground at the shoulder
    chest: float  # radius (half the depth) of the trunk at the shoulder
    belly: float
    rump: float
    width: float  # trunk's width over its depth
    front_bones: tuple[float, float, float]  # shoulder-elbow, elbow-wrist, wrist-ground
    hind_bones: tuple[float, float, float]  # hip-knee, knee-hock, hock-ground
    hock_tilt: float  # how far the hind cannon leans back
    leg: tuple[float, float, float]  # radii: elbow or knee, wrist or hock, fetlock
    foot: str  # "hoof" or "paw"
    neck: tuple[float, float, float]  # length, radius at the trunk, radius at the head
    neck_rise: float  # angle above the horizontal
    head: tuple[float, float, float]  # length from skull to nose, skull radius, muzzle radius
    head_drop: float  # angle of the nose below the horizontal
    eye: float  # radius
    ear: tuple[float, float, float]  # length, width, angle off the vertical (sideways)
    tail: tuple[float, float, float]  # length, radius at the root, radius at the tip
    tail_lift: tuple[float, float]  # range of the angle at which it leaves the rump
    mane: float = 0.0  # height above the neck
    horn: float = 0.0  # length
    udder: float = 0.0  # radius


SPECIES = {
    "cat": Species(
        family="Felidae",
        withers=0.95,
        chest=0.225,
        belly=0.225,
        rump=0.22,
        width=0.82,
        front_bones=(0.26, 0.30, 0.27),
        hind_bones=(0.32, 0.32, 0.27),
        hock_tilt=24.0,
        leg=(0.082, 0.058, 0.05),
        foot="paw",
        neck=(0.22, 0.17, 0.15),
        neck_rise=40.0,
        head=(0.21, 0.2, 0.085),
        head_drop=10.0,
        eye=0.052,
        ear=(0.19, 0.1, 18.0),
        tail=(0.95, 0.05, 0.035),
        tail_lift=(-50.0, 75.0),
    ),
    "horse": Species(
        family="Equidae",
        withers=1.52,
        chest=0.335,
        belly=0.32,
        rump=0.33,
        width=0.76,
        front_bones=(0.34, 0.44, 0.42),
        hind_bones=(0.41, 0.43, 0.48),
        hock_tilt=6.0,
        leg=(0.1, 0.058, 0.045),
        foot="hoof",
        neck=(0.72, 0.26, 0.14),
        neck_rise=48.0,
        head=(0.5, 0.14, 0.085),
        head_drop=48.0,
        eye=0.03,
        ear=(0.17, 0.045, 14.0),
        tail=(0.9, 0.05, 0.03),
        tail_lift=(-60.0, -15.0),
        mane=0.09,
    ),
    "cow": Species(
        family="Bovidae",
        withers=1.2,
        chest=0.335,
        belly=0.365,
        rump=0.31,
        width=0.86,
        front_bones=(0.28, 0.31, 0.3),
        hind_bones=(0.36, 0.34, 0.36),
        hock_tilt=6.0,
        leg=(0.1, 0.066, 0.052),
        foot="hoof",
        neck=(0.46, 0.24, 0.145),
        neck_rise=20.0,
        head=(0.43, 0.15, 0.115),
        head_drop=40.0,
        eye=0.032,
        ear=(0.23, 0.07, 97.0),
        tail=(0.8, 0.03, 0.02),
        tail_lift=(-75.0, -55.0),
        horn=0.2,
        udder=0.13,
    ),
}

_QUADRUPED = (
    *("left_ear", "right_ear", "left_eye", "right_eye", "nose", "chin", "neck"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_front_paw", "right_front_paw"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_back_paw", "right_back_paw"),
    *("root_of_tail", "tip_of_tail"),
)
_CAR = (
    *("left_front_wheel", "right_front_wheel", "left_rear_wheel", "right_rear_wheel"),
    *("left_headlight", "right_headlight", "left_taillight", "right_taillight", "left_mirror", "right_mirror"),
    *("left_windscreen_top", "right_windscreen_top", "left_windscreen_bottom", "right_windscreen_bottom"),
    *("left_rear_window_top", "right_rear_window_top", "left_rear_window_bottom", "right_rear_window_bottom"),
    *("left_door_handle", "right_door_handle", "front_plate", "rear_plate"),
)
KEYPOINTS: dict[str, tuple[str, ...]] = {
    "cat": _QUADRUPED,
    "horse": _QUADRUPED,
    "cow": (*_QUADRUPED, "left_horn", "right_horn"),
    "car": _CAR,
}
"""Slot names; left and right are the animal's (the driver's) own."""

CATEGORIES = tuple(KEYPOINTS)

# Parts with several instances: names that agree after the side and these words are taken away.
_SAME_PART = {"elbow": "joint", "knee": "joint", "front_paw": "paw", "back_paw": "paw"}
_SAME_PART |= {"front_wheel": "wheel", "rear_wheel": "wheel", "front_plate": "plate", "rear_plate": "plate"}
_SAME_PART |= {"rear_window_top": "roof_corner", "windscreen_top": "roof_corner"}
_SAME_PART |= {"rear_window_bottom": "window_corner", "windscreen_bottom": "window_corner"}


def symmetry(category: str) -> Symmetry:
    """Mirror pairs, geometry-aware groups and sides of a synthetic category."""
    return symmetry_of(KEYPOINTS[category])


def symmetry_of(names: tuple[str, ...]) -> Symmetry:
    """Symmetry read off names: ``left_x`` mirrors ``right_x``; a part's instances share a group.

    >>> symmetry_of(("left_knee", "right_knee", "nose")).groups
    ((0, 1),)
    """
    pairs = [(i, names.index(f"right{n[4:]}")) for i, n in enumerate(names) if n.startswith("left_")]
    parts: dict[str, list[int]] = {}
    for slot, name in enumerate(names):
        part = name.removeprefix("left_").removeprefix("right_")
        parts.setdefault(_SAME_PART.get(part, part), []).append(slot)
    side = [1 if n.startswith("left_") else 2 if n.startswith("right_") else 0 for n in names]
    groups = tuple(tuple(slots) for slots in parts.values() if len(slots) > 1)
    return Symmetry(names, tuple(pairs), groups, tuple(side))
