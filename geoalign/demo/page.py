"""The web page's layout and which event calls which action."""

# Annotations must be real here: gradio reads them to see which argument is the click.
import html
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from geoalign.demo import pair as steps
from geoalign.demo.actions import ROLES, Actions, Shown
from geoalign.demo.desk import Settings
from geoalign.demo.examples import thumbnail
from geoalign.demo.labelling import forget, keep
from geoalign.demo.pair import Pair
from geoalign.demo.taken import KEEP_SECONDS, Dense, Taken
from geoalign.demo.text import (
    POSES,
    READOUTS,
    REFINER_GIVEN,
    REFINER_MISSING,
    labels_words,
    readout,
    table,
    title,
)
from geoalign.demo.typed import box, place

STYLE = Path(str(files("geoalign.demo") / "demo.css"))
SCRIPT = Path(str(files("geoalign.demo") / "demo.js"))
CLOSE_TOASTS = "() => document.querySelectorAll('.toast-close').forEach(button => button.click())"
"""What the page's library says of an upload that it refused itself ends with the next one that it takes."""
START = "(start, ...others) => { const s = (window.geoalignStarts || {}).%s || null; return [s, ...others]; }"
QUIET = ("body_text_color_subdued", "block_info_text_color", "block_label_text_color", "block_title_text_color",
         "input_placeholder_color")  # fmt: skip
FILLS = ("background_fill", "background_fill_dark", "background_fill_hover", "background_fill_hover_dark")
PANE_HEIGHT, DENSE_HEIGHT = "clamp(230px, 34vw, 470px)", "clamp(230px, 26vw, 380px)"
FIELDS = (
    ("name", "Name", "then Enter"),
    ("add", "Add a point of the source", "x, y in px, then Enter"),
    ("put", "Correct the match", "x, y in px, then Enter"),
    ("source-box", "Box in the source", "x1, y1, x2, y2; empty: none"),
    ("target-box", "Box in the target", "x1, y1, x2, y2; empty: none"),
    ("mirrors", "Mirror images", "names: 1-2, 3-4"),
)
SHOWN_FIELDS = ("point", "name", "source-box", "target-box")
HOW: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class Widgets(NamedTuple):
    """What events read and change."""

    pair: Any
    dense_open: Any
    start: Any  # where a drag began, from the script
    panes: dict[str, Any]
    texts: list[Any]  # the line below the pictures, the table, the labels
    switches: list[Any]  # in the order of Settings
    buttons: dict[str, Any]
    downloads: list[Any]
    fields: dict[str, Any]  # to type into
    gallery: Any
    dense: list[Any]
    tabs: tuple[Any, Any]  # points, dense


def page(taken: Taken, model: str) -> Any:
    """The page as gradio Blocks, not yet served."""
    import gradio as gr

    actions = taken.actions
    with gr.Blocks(title="geoalign", analytics_enabled=False, delete_cache=(300, KEEP_SECONDS)) as blocks:
        pair, dense_open, start = gr.State(Pair()), gr.State(False), gr.JSON(visible=False)
        gr.HTML(title(model, actions.desk.has_refiner), elem_id="title")
        with gr.Row(elem_id="pictures"):
            panes = {role: _pane(role) for role in ROLES}
        line = gr.HTML(readout(Pair(), None), elem_id="line")
        with gr.Row(elem_id="tools"):
            choices = [("whole", 1), ("2 ×", 2), ("4 ×", 4)]
            zoom = gr.Radio(choices, value=1, label="Zoom to the point", elem_id="zoom")
            buttons = {name: _button(name) for name in ("Undo", "Not in the target", "Delete point", "Clear points")}
        with gr.Row(elem_classes="downloads"):
            downloads = [_download(name, f"get-{name.lower()}") for name in ("JSON", "CSV", "PNG")]
            buttons["Keep as labels"] = _button("Keep as labels", variant="primary")
            downloads += [_download(f"labels {name}", f"get-labels-{name.lower()}") for name in ("CSV", "COCO")]
        labels = gr.HTML(labels_words(Pair()), elem_id="labels")
        switches = [*_switches(actions), zoom]
        with gr.Accordion("Names, boxes, mirror images, points by keyboard", open=False, elem_id="keyboard"):
            fields = _fields()
            buttons["Forget labels"] = _button("Forget labels")
        gallery = gr.Gallery(
            [(thumbnail(e), e.caption) for e in actions.examples], label="Examples", columns=4, height="auto",
            allow_preview=False, buttons=[], object_fit="contain", elem_id="examples", format="jpeg", interactive=False,
        )  # fmt: skip
        with gr.Tabs():
            with gr.Tab("Points", id="points") as points_tab:
                rows = gr.HTML(table(Pair(), None), elem_id="rows")
            with gr.Tab("Dense", id="dense") as dense_tab:
                subject, *dense = _dense_tab()
        switches += [subject, fields["mirrors"]]
        texts, tabs = [line, rows, labels], (points_tab, dense_tab)
        widgets = Widgets(
            pair, dense_open, start, panes, texts, switches, buttons, downloads, fields, gallery, dense, tabs
        )
        _Wires(taken, widgets).connect()
        blocks.unload(_forgetting(actions))
    return blocks


class _Wires:
    """Events of the widgets, and what each changes."""

    def __init__(self, taken: Taken, widgets: Widgets) -> None:
        self.taken, self.actions, self.widgets = taken, taken.actions, widgets
        w = widgets
        self.shown = [w.pair, *w.panes.values(), *w.texts, *(w.fields[name] for name in SHOWN_FIELDS)]
        self.state = [w.pair, *w.switches]

    def connect(self) -> None:
        """All of them."""
        w = self.widgets
        for role, pane in w.panes.items():
            self.on(pane.upload, _loaded(self.actions, role), [pane, *self.state])
            pane.upload(None, js=CLOSE_TOASTS, **HOW)
            self.on(pane.clear, _removed(self.actions, role), self.state)
            self.on(pane.select, _touched(self.actions, role), [w.start, *self.state], START % role)
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

    def on(
        self, event: Callable[..., Any], action: Callable[..., Any], given: list[Any], js: str | None = None
    ) -> None:
        """The pictures first; files to download and the dense tab follow and keep nobody waiting."""
        w = self.widgets
        # One after the other: two uploads at once would each start from a pair without the other's picture.
        first = event(action, given, self.shown, concurrency_id="pair", concurrency_limit=1, js=js, **HOW)
        first.then(self.files, self.state, w.downloads, **HOW)
        first.then(self.dense, [w.pair, w.dense_open, *w.switches], w.dense, **HOW)

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


def theme() -> Any:
    """Quiet colours that can be read (WCAG AA), and the system's own fonts: the page asks nobody else for anything."""
    import gradio as gr

    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    mono = ["ui-monospace", "Consolas", "monospace"]
    base = gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=fonts, font_mono=mono, radius_size="md")
    quiet = {f"{name}{dark}": f"*neutral_{'300' if dark else '600'}" for name in QUIET for dark in ("", "_dark")}
    fill = {f"button_primary_{name}": f"*primary_{800 if 'hover' in name else 700}" for name in FILLS}
    return base.set(**quiet, **fill)


def _pane(role: str) -> Any:
    """A picture to upload, to see, to click and to draw on."""
    import gradio as gr

    picture: Any = gr.Image(
        type="filepath", format="jpeg", label=role.capitalize(), sources=["upload"], buttons=["fullscreen"],
        interactive=True, elem_id=role, min_width=280, height=PANE_HEIGHT, alt_text=f"{role} picture with its points",
        placeholder=f"Drop the {role} picture here\nor click to choose a file",
    )  # fmt: skip
    # The file goes on unopened: the desk checks its size before a pixel is decoded, and says in words what is wrong.
    picture.preprocess = lambda file: None if file is None or not file.path else (file.path, file.orig_name or role)
    return picture


def _switches(actions: Actions) -> list[Any]:
    """The settings in the order of :class:`Settings`, up to the zoom."""
    import gradio as gr

    has = actions.desk.has_refiner
    with gr.Row(elem_id="switches"):
        with gr.Column(scale=3, min_width=280):
            align = gr.Radio(
                list(POSES), value="off", label="The source is tried", info="The pose that fits best is kept"
            )
        with gr.Column(scale=4, min_width=280):
            readouts = gr.Radio(
                list(READOUTS), value=actions.desk.matcher.matcher.readout, label="The match is",
                info="How a place is read off the heat map",
            )  # fmt: skip
        with gr.Column(scale=3, min_width=280):
            refined = gr.Checkbox(
                value=has, label="Refiner", interactive=has, info=REFINER_GIVEN if has else REFINER_MISSING
            )
            heat = gr.Checkbox(value=True, label="Heat map of the point")
            twice = gr.Checkbox(label="Look twice", info="Once more at crops around the points")
    return [align, readouts, refined, heat, twice]


def _fields() -> dict[str, Any]:
    """What is typed in place of clicks, and what only can be typed, by its element's id."""
    import gradio as gr

    with gr.Row():
        point = gr.Dropdown([], label="Point", elem_id="point", min_width=160)
        texts = [gr.Textbox("", label=label, info=info, elem_id=name, min_width=200) for name, label, info in FIELDS]
        kind = gr.Textbox("object", label="Kind of thing", info="category in labels", elem_id="kind", min_width=200)
    return {"point": point, **{text.elem_id: text for text in texts}, "kind": kind}


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


def _dense_tab() -> list[Any]:
    import gradio as gr

    subject = gr.Checkbox(value=True, label="The subjects alone", info="What stands apart from the background")
    words = gr.HTML(elem_id="dense-words")
    labels = ("Source in the target's colours", "Target's colours", "Source laid over target")
    with gr.Row(elem_id="dense"):
        pictures = [
            gr.Image(label=n, buttons=[], interactive=False, format="jpeg", min_width=280, height=DENSE_HEIGHT)
            for n in labels
        ]
    with gr.Row(elem_classes="downloads"):
        return [subject, *pictures, words, _download("PNG", "get-dense")]


def _button(name: str, **how: Any) -> Any:
    import gradio as gr

    return gr.Button(name, size="sm", min_width=120, elem_id=name.lower().split()[0], **how)


def _download(name: str, elem_id: str) -> Any:
    import gradio as gr

    return gr.DownloadButton(f"Download {name}", interactive=False, size="sm", elem_id=elem_id)


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

    def loaded(request: gr.Request, file: tuple[str, str] | None, now: Pair, *values: Any) -> list[Any]:
        if file is None:
            return _values(actions.remove(role, now, Settings(*values)))
        session = request.session_hash or ""
        return _values(actions.load(role, Path(file[0]), file[1], now, Settings(*values), session))

    return loaded


def _removed(actions: Actions, role: str) -> Callable[..., list[Any]]:
    return lambda now, *values: _values(actions.remove(role, now, Settings(*values)))
