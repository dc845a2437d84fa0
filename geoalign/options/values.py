"""Whether the values of a config are what the constructors that get them take."""

from __future__ import annotations

import inspect
import pkgutil
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import Enum
from os import PathLike
from pathlib import PurePath
from typing import Any

from geoalign.options.names import nearest

Plain = (bool, int, float, str)


def check(config: Mapping[str, Any], defaults: Mapping[str, Any], open_ended: Collection[str] = ()) -> None:
    """Refuse values of another type than the default or the constructor's, and options no constructor has.

    ``config`` is plain and resolved. Nodes named in ``open_ended`` may hold keys that only other keys refer to.
    """
    for key, default in defaults.items():
        if key in config and type(default) in (bool, int, float, list) and not accepts(type(default), config[key]):
            raise ValueError(_said(key, config[key], type(default)))
    for path, node in calls(config):
        parameters = parameters_of(node["_target_"])
        if parameters is None:
            continue
        for name, value in node.items():
            if name.startswith("_"):
                continue
            if name in parameters:
                if not accepts(parameters[name], value):
                    raise ValueError(_said(f"{path}.{name}", value, parameters[name]))
            elif "**" not in parameters and path not in open_ended:
                near = nearest(name, parameters)
                hint = f"did you mean {path}.{near}?" if near else f"it takes {', '.join(parameters)}"
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
    """Type by parameter, ``**`` among them where any name is taken; None where they cannot be known."""
    try:
        called = pkgutil.resolve_name(target)
        signature = inspect.signature(called)
        hints = typing.get_type_hints(called.__init__ if inspect.isclass(called) else called)
    except (ImportError, AttributeError, NameError, TypeError, ValueError):
        return None  # instantiation will say what is wrong with the target
    named = {name: hints.get(name, Any) for name in signature.parameters}
    return named | {"**": Any} if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()) else named


def accepts(hint: Any, value: Any) -> bool:
    """Whether a value out of a yaml file may be meant for a parameter of this type; in doubt, yes.

    >>> accepts(int | None, 3), accepts(int, "many"), accepts(int, 2.5), accepts(float, 1), accepts(list[str], "cat")
    (True, False, False, True, False)
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(accepts(part, value) for part in typing.get_args(hint))
    if value is None:
        return True  # null is a constructor's own business
    if isinstance(value, Plain):
        return _accepts_plain(origin or hint, value)
    if isinstance(value, list) and isinstance(origin, type) and issubclass(origin, Sequence):
        element = next(iter(typing.get_args(hint)), Any)
        return all(accepts(element, one) for one in value) if origin is not tuple else True
    return hint not in (*Plain, types.NoneType)


def _accepts_plain(hint: Any, value: bool | int | float | str) -> bool:
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        whole = isinstance(value, int) or (hint is float and isinstance(value, float))
        return whole and not isinstance(value, bool)
    if not isinstance(hint, type) or hint in (str, object) or issubclass(hint, (PurePath, PathLike, Enum, str)):
        return True
    return hint.__module__.startswith("typing")


def _said(path: str, value: Any, hint: Any) -> str:
    return f"{path}={value}: expected {readable(hint)}, got {_WORDS.get(type(value), type(value).__name__)}"


def readable(hint: Any) -> str:
    """A type as a user would say it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = typing.get_args(hint)
        plain = [part for part in parts if part is type(None) or part in _WORDS or typing.get_origin(part)]
        return " or ".join(dict.fromkeys(readable(part) for part in plain or parts))
    if hint is type(None):
        return "null"
    origin = typing.get_origin(hint) or hint
    if isinstance(origin, type) and issubclass(origin, Sequence) and origin is not str:
        return "a list"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    return _WORDS.get(origin, str(getattr(origin, "__name__", origin)))


_WORDS: dict[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a mapping",
    Callable: "a function",
}  # fmt: skip
