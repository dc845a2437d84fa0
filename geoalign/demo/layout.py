"""What lies where on the web page, and how it looks."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from geoalign.demo.actions import ROLES, Actions
from geoalign.demo.examples import thumbnail
from geoalign.demo.pair import Pair
from geoalign.demo.text import POSES, READOUTS, REFINER_GIVEN, REFINER_MISSING, labels_words, readout, table, title

STYLE = Path(str(files("geoalign.demo") / "demo.css"))
SCRIPT = Path(str(files("geoalign.demo") / "demo.js"))
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


class Pane(NamedTuple):
    """The place of the source or the target: an answer that comes late cannot lose what is being chosen there."""

    drop: Any  # a picture is chosen here; only the answer to that empties it
    picture: Any  # the same in its place, as answers show it, to click and to draw on
    remove: Any


class Widgets(NamedTuple):
    """What events read and change."""

    pair: Any
    dense_open: Any
    start: Any  # where a drag began, from the script
    panes: dict[str, Pane]
    texts: list[Any]  # the line below the pictures, the table, the labels
    switches: list[Any]  # in the order of Settings
    buttons: dict[str, Any]
    downloads: list[Any]
    fields: dict[str, Any]  # to type into
    gallery: Any
    dense: list[Any]
    tabs: tuple[Any, Any]  # points, dense


def layout(actions: Actions, model: str) -> Widgets:
    """The widgets of the gradio Blocks that is open, from the top of the page to its end."""
    import gradio as gr

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
    return Widgets(pair, dense_open, start, panes, texts, switches, buttons, downloads, fields, gallery, dense, tabs)


def theme() -> Any:
    """Quiet colours that can be read (WCAG AA), and the system's own fonts: the page asks nobody else for anything."""
    import gradio as gr

    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    mono = ["ui-monospace", "Consolas", "monospace"]
    base = gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=fonts, font_mono=mono, radius_size="md")
    quiet = {f"{name}{dark}": f"*neutral_{'300' if dark else '600'}" for name in QUIET for dark in ("", "_dark")}
    fill = {f"button_primary_{name}": f"*primary_{800 if 'hover' in name else 700}" for name in FILLS}
    return base.set(**quiet, **fill)


def _pane(role: str) -> Pane:
    import gradio as gr

    remove, look = gr.Button("Remove", render=False), {"label": role.capitalize(), "format": "jpeg"}
    with gr.Column(elem_id=role, elem_classes="pane", min_width=280):
        drop: Any = gr.Image(
            type="filepath", sources=["upload"], buttons=[], interactive=True, elem_classes="drop", height=PANE_HEIGHT,
            placeholder=f"Drop the {role} picture here\nor click to choose a file", **look,
        )  # fmt: skip
        picture = gr.Image(
            buttons=["fullscreen", remove], interactive=False, elem_classes="picture", height=PANE_HEIGHT,
            alt_text=f"{role} picture with its points", **look,
        )  # fmt: skip
    # The file goes on unopened: the desk checks its size before a pixel is decoded, and says in words what is wrong.
    drop.preprocess = lambda file: (file.path, file.orig_name or role)
    return Pane(drop, picture, remove)


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
