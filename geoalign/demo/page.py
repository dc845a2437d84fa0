"""The web page: its layout, and which event calls which action."""

# Annotations must be real here: gradio reads them to see which argument is the click.
import html
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from geoalign.demo import pair as steps
from geoalign.demo.actions import ROLES, Actions, Shown
from geoalign.demo.desk import Settings
from geoalign.demo.labelling import forget, keep
from geoalign.demo.layout import Widgets, layout
from geoalign.demo.pair import Pair
from geoalign.demo.taken import KEEP_SECONDS, Dense, Taken
from geoalign.demo.text import labels_words
from geoalign.demo.typed import box, place

CLOSE_TOASTS = "() => document.querySelectorAll('.toast-close').forEach(button => button.click())"
"""What the page's library says of an upload that it refused itself ends with the next one that it takes."""
START = "(start, ...others) => { const s = (window.geoalignStarts || {}).%s || null; return [s, ...others]; }"
SHOWN_FIELDS = ("point", "name", "source-box", "target-box")
HOW: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def page(taken: Taken, model: str) -> Any:
    """The page as gradio Blocks, not yet served."""
    import gradio as gr

    with gr.Blocks(title="geoalign", analytics_enabled=False, delete_cache=(300, KEEP_SECONDS)) as blocks:
        _Wires(taken, layout(taken.actions, model)).connect()
        blocks.unload(_forgetting(taken.actions))
    return blocks


class _Wires:
    """Events of the widgets, and what each changes."""

    def __init__(self, taken: Taken, widgets: Widgets) -> None:
        self.taken, self.actions, self.widgets = taken, taken.actions, widgets
        w = widgets
        pictures, fields = (pane.picture for pane in w.panes.values()), (w.fields[name] for name in SHOWN_FIELDS)
        self.shown = [w.pair, *pictures, *w.texts, *fields]
        self.state = [w.pair, *w.switches]

    def connect(self) -> None:
        """All of them."""
        w = self.widgets
        for role, pane in w.panes.items():
            loaded = self.on(pane.drop.upload, _loaded(self.actions, role), [pane.drop, *self.state])
            loaded.then(None, None, pane.drop, js="() => null", **HOW)
            pane.drop.upload(None, js=CLOSE_TOASTS, **HOW)
            self.on(pane.remove.click, _removed(self.actions, role), self.state)
            self.on(pane.picture.select, _touched(self.actions, role), [w.start, *self.state], START % role)
        self.on(w.gallery.select, _chosen(self.actions), self.state)
        for event in [*(switch.input for switch in w.switches[:-1]), w.fields["mirrors"].submit]:
            self.on(event, lambda now, *values: _values(self.actions.show(now, Settings(*values))), self.state)
        changes = {"Undo": Pair.undone, "Not in the target": steps.hidden, "Delete point": steps.dropped,
                   "Clear points": steps.cleared, "Forget labels": forget}  # fmt: skip
        for name, change in changes.items():
            self.step(w.buttons[name].click, change)
        self._connect_fields()
        self.on(w.buttons["Keep as labels"].click, self.keep, [w.pair, w.fields["kind"], *w.switches])
        points_tab, dense_tab = w.tabs
        points_tab.select(lambda: False, None, w.dense_open, api_visibility="private")
        dense_tab.select(lambda: True, None, w.dense_open, api_visibility="private").then(
            self.dense, [w.pair, w.dense_open, *w.switches], w.dense, api_visibility="private"
        )

    def _connect_fields(self) -> None:
        fields = self.widgets.fields

        def put(now: Pair, text: str) -> Pair:
            steps.chosen(now)
            return steps.corrected(now, now.chosen, place(text, self.size(now, "target")))

        self.step(fields["point"].input, lambda now, number: now._replace(chosen=int(number or 0)), fields["point"])
        self.step(fields["name"].submit, steps.renamed, fields["name"])
        self.step(fields["add"].submit, lambda now, text: steps.with_point(now, place(text, self.size(now, "source"))),
                  fields["add"])  # fmt: skip
        self.step(fields["put"].submit, put, fields["put"])
        for role in ROLES:
            field = fields[f"{role}-box"]
            self.step(field.submit, partial(self.boxed, role), field)

    def on(self, event: Callable[..., Any], action: Callable[..., Any], given: list[Any], js: str | None = None) -> Any:
        """The pictures first, in the event returned; files to download and the dense tab follow and hold up nobody."""
        w = self.widgets
        # One after the other: two uploads at once would each start from a pair without the other's picture.
        first = event(action, given, self.shown, concurrency_id="pair", concurrency_limit=1, js=js, **HOW)
        first.then(self.files, self.state, w.downloads, **HOW)
        first.then(self.dense, [w.pair, w.dense_open, *w.switches], w.dense, **HOW)
        return first

    def step(self, event: Callable[..., Any], change: Callable[..., Pair], *given: Any) -> None:
        """An event that changes the pair by what other components hold."""

        def changed(now: Pair, *values: Any) -> list[Any]:
            own, settings = values[: len(given)], Settings(*values[len(given) :])
            return _values(self.actions.edit(now, settings, lambda before: change(before, *own)))

        self.on(event, changed, [self.widgets.pair, *given, *self.widgets.switches])

    def size(self, pair: Pair, role: str) -> tuple[int, int]:
        """``(h, w)`` of a picture; ValueError where it is not there."""
        key = pair.source if role == "source" else pair.target
        if not key:
            raise ValueError(f"Load a {role} first.")
        image = self.actions.desk.kept(key).image
        return image.height, image.width

    def boxed(self, role: str, pair: Pair, text: str) -> Pair:
        """The pair with a box that was typed."""
        return pair.then(**{f"{role}_box": box(text, self.size(pair, role))})

    def keep(self, now: Pair, kind: str, *values: Any) -> list[Any]:
        """The points as labels."""
        settings = Settings(*values)
        return _values(self.actions.edit(now, settings, lambda p: keep(p, self.actions.scene(p, settings), kind)))

    def files(self, now: Pair, *values: Any) -> list[Any]:
        """Files to take away."""
        found = self.taken.matches(now, Settings(*values)) or (None, None, None)
        return [_file(path) for path in (*found, *(self.taken.labels(now) or (None, None)))]

    def dense(self, now: Pair, opened: bool, *values: Any) -> list[Any]:
        """The dense tab, where somebody looks at it."""
        import gradio as gr

        width = len(self.widgets.dense)
        return _dense_values(self.taken.dense(now, Settings(*values))) if opened else [gr.skip()] * width


def _values(shown: Shown) -> list[Any]:
    """What an action answered, for every component that it may change."""
    import gradio as gr

    pair = shown.pair
    names = [
        (f"{i + 1}: {mark.name}" if mark.name != str(i + 1) else mark.name, i) for i, mark in enumerate(pair.marks)
    ]
    chosen = pair.chosen if pair.marks else None
    boxes = ["" if b is None else ", ".join(f"{v:.0f}" for v in b) for b in (pair.source_box, pair.target_box)]
    point = gr.Dropdown(choices=names, value=chosen)
    return [*shown, labels_words(pair), point, pair.marks[pair.chosen].name if pair.marks else "", *boxes]


def _file(path: Path | None) -> Any:
    import gradio as gr

    return gr.DownloadButton(value=path and str(path), interactive=path is not None)


def _dense_values(dense: Dense) -> list[Any]:
    return [*dense.pictures, f"<p>{html.escape(dense.words)}</p>", _file(dense.file)]


def _forgetting(actions: Actions) -> Callable[..., None]:
    import gradio as gr

    def left(request: gr.Request) -> None:
        actions.desk.forget(request.session_hash or "")

    return left


def _chosen(actions: Actions) -> Callable[..., list[Any]]:
    import gradio as gr

    def chosen(event: gr.SelectData, now: Pair, *values: Any) -> list[Any]:
        return _values(actions.example(int(event.index), now, Settings(*values)))

    return chosen


def _touched(actions: Actions, role: str) -> Callable[..., list[Any]]:
    import gradio as gr

    def touched(event: gr.SelectData, start: Sequence[float] | None, now: Pair, *values: Any) -> list[Any]:
        return _values(actions.touch(role, start, event.index, now, Settings(*values)))

    return touched


def _loaded(actions: Actions, role: str) -> Callable[..., list[Any]]:
    import gradio as gr

    def loaded(request: gr.Request, file: tuple[str, str], now: Pair, *values: Any) -> list[Any]:
        session = request.session_hash or ""
        return _values(actions.load(role, Path(file[0]), file[1], now, Settings(*values), session))

    return loaded


def _removed(actions: Actions, role: str) -> Callable[..., list[Any]]:
    return lambda now, *values: _values(actions.remove(role, now, Settings(*values)))
