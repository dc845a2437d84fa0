"""The border to hydra's command line: what cannot be composed ends in one line, and ``--help`` lists every option."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from geoalign.options.jobs import one_line_errors
from geoalign.options.names import among, nearest
from geoalign.options.plugin import register
from geoalign.options.values import check
from geoalign.options.yamls import CONF, choices, groups
from geoalign.signatures import flat

FULL_ERROR = "HYDRA_FULL_ERROR"
OPEN_ENDED = ("data",)
"""Groups whose yamls hold keys that only their other keys refer to."""
HIDDEN = {"debug"}
"""Keys that no yaml names."""
EITHER = {"compile"}
"""Keys that take another type than their default's, too."""
Task = Callable[[DictConfig], Any]


def command(name: str) -> Callable[[Task], Callable[..., Any]]:
    """Make a command's main of a task: options of ``conf/<name>.yaml``, its groups, checked values, errors in a line.

    The main takes the words after the command's name, by default those that python was started with.
    """

    def decorate(task: Task) -> Callable[..., Any]:
        @functools.wraps(task)
        def main(words: Sequence[str] | None = None) -> Any:
            typed, words = sys.argv, sys.argv[1:] if words is None else words

            @functools.wraps(task)
            def run(cfg: DictConfig) -> Any:
                sys.argv = typed  # with which lightning starts the other processes
                return task(cfg)

            inner = hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(
                one_line_errors(checked(name, run))
            )
            register()
            sys.argv = [typed[0], *words]  # hydra reads it
            if os.environ.get(FULL_ERROR) == "1":
                return inner()
            os.environ[FULL_ERROR] = "1"  # hydra hands its errors on instead of printing them
            try:
                if {"-h", "--help"} & set(words):
                    print(help_text(name, sys.modules[task.__module__].__doc__ or "", words))
                    return None
                return inner()
            except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
                if not is_composing(error):
                    raise
                print(f"error: {explain(error, name, words)}", file=sys.stderr)
                sys.exit(1)
            finally:
                sys.argv = typed
                os.environ.pop(FULL_ERROR, None)

        return main

    return decorate


def checked(name: str, task: Task) -> Task:
    """The task, called only with options that exist and values that fit."""

    @functools.wraps(task)
    def wrapped(cfg: DictConfig) -> Any:
        own, config = plain(OmegaConf.load(CONF / f"{name}.yaml"), resolve=False), plain(cfg)
        known = {*own, *groups()} | HIDDEN
        for key in config:
            if key not in known:
                raise ValueError(f"{key}: no such option or group{_meant(nearest(key, known))}")
        check(config, {key: value for key, value in own.items() if key not in EITHER}, OPEN_ENDED)
        return task(cfg)

    return wrapped


def plain(config: Any, resolve: bool = True) -> dict[str, Any]:
    """A config as dictionaries and lists."""
    found = OmegaConf.to_container(config, resolve=resolve)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def is_composing(error: Exception) -> bool:
    """Whether a command line is at fault: hydra's own errors, and what it trips over, as ``matcher=3``."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = trace.tb_frame.f_globals["__name__"] if trace is not None else ""
    return isinstance(error, HydraException | OmegaConfBaseException) or raised_in.startswith("hydra.")


def explain(error: Exception, name: str, words: Sequence[str]) -> str:
    """What was wrong with a command line, with the nearest name that exists, in one line."""
    if isinstance(error, OverrideParseException):
        why = str(error).replace(f"Error parsing override '{error.override}'", "").strip().splitlines()[0]
        return (
            f"cannot read {error.override!r} ({why}); expected option=value, quoted where it holds spaces or brackets"
        )
    text = str(error) or str(error.__cause__)
    if found := re.search(r"Could not (?:find|load) 'hydra/launcher/([^']+)'", text):
        return f"hydra/launcher={found[1]} is a plugin that is not installed; pip install 'geoalign[sweep]'"
    if found := re.search(r"Could not (?:find|load) '([^']+)'", text):
        return _no_choice(found[1], words)
    if found := re.search(r"(?:Could not override|delete from config\.) '([^'@]+)'", text):
        asked = found[1]
        if "/" in asked or "." not in asked:
            if asked in groups():
                said = " ".join(text.split())
                other = "" if name == "train" else " (geoalign train)"
                return f"{said} geoalign {name} has no {asked}; what sets it is for another command{other}"
            return f"{asked}: no such option or group{_meant(nearest(asked, {*groups(), *keys(name, words)}, '/'))}"
        return f"{asked}: no such option{_meant(nearest(asked, keys(name, words)))}"
    cause = str(error.__cause__) if error.__cause__ is not None and str(error) else ""
    return " ".join(f"{text} {cause}".replace("\\'", "'").split())


def keys(name: str, words: Sequence[str]) -> list[str]:
    """Every option of the config under the choices made on the command line, as far as they compose."""
    picked = [word for word in words if re.match(r"\+?[\w/]+=", word) and word.lstrip("+").split("=")[0] in groups()]
    try:
        cfg = composed(name, picked)
    except (HydraException, OmegaConfBaseException):
        cfg = composed(name, [])
    return [*flat(OmegaConf.to_container(cfg))]


def composed(name: str, overrides: Sequence[str]) -> DictConfig:
    """The config of a script with hydra's own part, also inside somebody's own hydra program."""
    register()
    theirs = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(name, list(overrides), return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = theirs


def help_text(name: str, about: str, words: Sequence[str]) -> str:
    """Groups, options with values and meanings under the overrides among ``words``, and examples."""
    from geoalign.options.page import command_help

    cfg = composed(name, [word for word in words if not word.startswith("-")])
    picked = plain(cfg.hydra.runtime.choices)
    OmegaConf.set_struct(cfg, False)
    cfg.pop("hydra")
    return command_help(name, about, picked, flat(plain(cfg, resolve=False)))


def _no_choice(asked: str, words: Sequence[str]) -> str:
    typed = [word.lstrip("+").split("=")[0] for word in words if word.lstrip("+").replace("=", "/", 1) == asked]
    group = min((g for g in typed or groups() if asked.startswith(f"{g}/")), key=len, default="")
    if not group:
        return f"{asked}: no such group{_meant(nearest(asked, groups(), '/'))}"
    wrong, known = asked[len(group) + 1 :], choices(group)
    near = nearest(wrong, known, "/")
    rest = "" if near and len(known) > 12 else f" (choices: {among(known)})"
    return f"{group}={wrong}: no such choice{_meant(near and f'{group}={near}')}{rest}"


def _meant(near: str | None) -> str:
    return f"; did you mean {near}?" if near else ""
