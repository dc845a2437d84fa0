"""Whether the values of a config are what the constructors that get them take."""

from __future__ import annotations

import pkgutil
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from geoalign.options.names import nearest
from geoalign.signatures import WORDS, accepts, parameters, readable


def check(config: Mapping[str, Any], defaults: Mapping[str, Any], open_ended: Collection[str] = ()) -> None:
    """Refuse values of another type than the default or the constructor's, and options no constructor has.

    ``config`` is plain and resolved. Nodes named in ``open_ended`` may hold keys that only other keys refer to.
    """
    for key, default in defaults.items():
        if key in config and type(default) in (bool, int, float, list) and not accepts(type(default), config[key]):
            raise ValueError(_said(key, config[key], type(default)))
    for path, node in calls(config):
        taken = parameters_of(node["_target_"])
        if taken is None:
            continue
        for name, value in node.items():
            if name.startswith("_"):
                continue
            if name in taken:
                if not accepts(taken[name], value):
                    raise ValueError(_said(f"{path}.{name}", value, taken[name]))
            elif "**" not in taken and path not in open_ended:
                near = nearest(name, taken)
                hint = f"did you mean {path}.{near}?" if near else f"it takes {', '.join(taken)}"
                raise ValueError(f"{path}.{name} is no option of {node['_target_']}; {hint}")


def calls(config: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node that is a call, with its dotted place, parents first."""
    if isinstance(config, Mapping):
        if isinstance(config.get("_target_"), str):
            yield path, config
        for key, value in config.items():
            yield from calls(value, f"{path}.{key}" if path else str(key))
    elif isinstance(config, list):
        for number, value in enumerate(config):
            yield from calls(value, f"{path}.{number}")


def parameters_of(target: str) -> dict[str, Any] | None:
    """:func:`parameters` of what a dotted name means; None where they cannot be known."""
    try:
        return parameters(pkgutil.resolve_name(target))
    except (ImportError, AttributeError, NameError, TypeError, ValueError):
        return None  # instantiation will say what is wrong with the target


def _said(path: str, value: Any, hint: Any) -> str:
    return f"{path}={value}: expected {readable(hint)}, got {WORDS.get(type(value), type(value).__name__)}"
