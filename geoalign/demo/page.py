"""The web page's layout and which event calls which action."""

# Annotations must be real here: gradio reads them to see which argument is the click.
import html
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from geoalign.apps.inputs import Align
from geoalign.demo.actions import KEEP_SECONDS, Actions, Dense
from geoalign.demo.desk import Pair, Settings
from geoalign.demo.examples import thumbnail
from geoalign.demo.text import REFINER_GIVEN, REFINER_MISSING, TITLE, readout, table
from geoalign.matching.transfer import Readout

STYLE = Path(str(files("geoalign.demo") / "demo.css"))
CLOSE_TOASTS = "() => document.querySelectorAll('.toast-close').forEach(button => button.click())"
"""What the page's library says of an upload that it refused itself ends with the next one that it takes."""
PANE_HEIGHT, DENSE_HEIGHT = "clamp(230px, 34vw, 470px)", "clamp(230px, 26vw, 380px)"


def page(actions: Actions) -> Any:
    """The page as gradio Blocks, not yet served."""
    import gradio as gr

    how: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    with gr.Blocks(title="geoalign", analytics_enabled=False, delete_cache=(300, KEEP_SECONDS)) as blocks:
        pair, dense_open = gr.State(Pair()), gr.State(False)
        gr.HTML(TITLE, elem_id="title")
        with gr.Row(elem_id="pictures"):
            panes = {role: _pane(role) for role in ("source", "target")}
        line = gr.HTML(readout(Pair(), None), elem_id="line")
        switches = _switches(actions)
        gallery = gr.Gallery(
            [(thumbnail(e), e.caption) for e in actions.examples], label="Examples", columns=4, height="auto",
            allow_preview=False, buttons=[], object_fit="contain", elem_id="examples", format="jpeg", interactive=False,
        )  # fmt: skip
        with gr.Tabs():
            with gr.Tab("Points", id="points") as points_tab:
                rows = gr.HTML(table(Pair(), None), elem_id="rows")
                with gr.Row(elem_classes="downloads"):
                    downloads = [_download(name, f"get-{name.lower()}") for name in ("JSON", "CSV", "PNG")]
                    clear = gr.Button("Clear points", size="sm", elem_id="clear")
            with gr.Tab("Dense", id="dense") as dense_tab:
                dense = _dense_tab()

        shown = [pair, panes["source"], panes["target"], line, rows]
        state = [pair, *switches]

        def results(now: Pair, *values: Any) -> list[Any]:
            found = actions.files(now, Settings(*values)) or (None, None, None)
            return [gr.DownloadButton(value=path and str(path), interactive=path is not None) for path in found]

        def dense_now(now: Pair, opened: bool, *values: Any) -> list[Any]:
            return _dense_values(actions.dense(now, Settings(*values))) if opened else [gr.skip()] * len(dense)

        def on(event: Callable[..., Any], action: Callable[..., Any], inputs: list[Any], again: bool = True) -> None:
            """The pictures first; files to download and the dense tab follow and keep nobody waiting."""
            # One after the other: two uploads at once would each start from a pair without the other's picture.
            first = event(action, inputs, shown, concurrency_id="pair", concurrency_limit=1, **how)
            first.then(results, state, downloads, **how)
            if again:
                first.then(dense_now, [pair, dense_open, *switches], dense, **how)

        def clicked(event: gr.SelectData, now: Pair, *values: Any) -> list[Any]:
            return list(actions.click(event.index, now, Settings(*values)))

        def chosen(event: gr.SelectData, *values: Any) -> list[Any]:
            return list(actions.example(int(event.index), Settings(*values)))

        for role, pane in panes.items():
            on(pane.upload, _loaded(actions, role), [pane, *state])
            pane.upload(None, js=CLOSE_TOASTS, **how)
            on(pane.clear, _removed(actions, role), state)
        on(panes["source"].select, clicked, state, again=False)
        on(gallery.select, chosen, switches)
        for switch in switches:
            on(switch.input, lambda now, *values: list(actions.show(now, Settings(*values))), state)
        on(clear.click, lambda now, *v: list(actions.show(now._replace(points=()), Settings(*v))), state, again=False)

        def left(request: gr.Request) -> None:
            actions.desk.forget(request.session_hash or "")

        blocks.unload(left)
        points_tab.select(lambda: False, None, dense_open, api_visibility="private")
        dense_tab.select(lambda: True, None, dense_open, api_visibility="private").then(
            dense_now, [pair, dense_open, *switches], dense, api_visibility="private"
        )
    return blocks


def theme() -> Any:
    """Quiet colours and the system's own fonts: the page asks nobody else for anything."""
    import gradio as gr

    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    mono = ["ui-monospace", "Consolas", "monospace"]
    return gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=fonts, font_mono=mono, radius_size="md")


def _pane(role: str) -> Any:
    """A picture to upload, to see and (the source) to click."""
    import gradio as gr

    picture: Any = gr.Image(
        type="filepath", format="jpeg", label=role.capitalize(), sources=["upload"], buttons=[], interactive=True,
        elem_id=role, min_width=280, height=PANE_HEIGHT, alt_text=f"{role} picture with its points",
        placeholder=f"Drop the {role} picture here\nor click to choose a file",
    )  # fmt: skip
    # The file goes on unopened: the desk checks its size before a pixel is decoded, and says in words what is wrong.
    picture.preprocess = lambda file: None if file is None or not file.path else (file.path, file.orig_name or role)
    return picture


def _switches(actions: Actions) -> list[Any]:
    """The settings in the order of :class:`Settings`."""
    import gradio as gr

    has = actions.desk.has_refiner
    with gr.Row(elem_id="switches"):
        with gr.Column(scale=3, min_width=280):
            align = gr.Radio(
                list(get_args(Align)), value="off", label="Pose alignment", info="Poses of the source to try"
            )
        with gr.Column(scale=4, min_width=280):
            readouts = gr.Radio(
                list(get_args(Readout)), value=actions.desk.matcher.matcher.readout, label="Matcher",
                info="How the match is read off the heat map",
            )  # fmt: skip
        with gr.Column(scale=3, min_width=280):
            refined = gr.Checkbox(
                value=has, label="Refiner", interactive=has, info=REFINER_GIVEN if has else REFINER_MISSING
            )
            heat = gr.Checkbox(value=True, label="Heat map of the last point")
    return [align, readouts, refined, heat]


def _dense_tab() -> list[Any]:
    import gradio as gr

    words = gr.HTML(elem_id="dense-words")
    labels = ("Source in the target's colours", "Target's colours", "Source laid over target")
    with gr.Row(elem_id="dense"):
        pictures = [
            gr.Image(label=n, buttons=[], interactive=False, format="jpeg", min_width=280, height=DENSE_HEIGHT)
            for n in labels
        ]
    with gr.Row(elem_classes="downloads"):
        return [*pictures, words, _download("PNG", "get-dense")]


def _download(name: str, elem_id: str) -> Any:
    import gradio as gr

    return gr.DownloadButton(f"Download {name}", interactive=False, size="sm", elem_id=elem_id)


def _dense_values(dense: Dense) -> list[Any]:
    import gradio as gr

    button = gr.DownloadButton(value=dense.file and str(dense.file), interactive=dense.file is not None)
    return [*dense.pictures, f"<p>{html.escape(dense.words)}</p>", button]


def _loaded(actions: Actions, role: str) -> Callable[..., list[Any]]:
    import gradio as gr

    def loaded(request: gr.Request, file: tuple[str, str] | None, now: Pair, *values: Any) -> list[Any]:
        if file is None:
            return list(actions.remove(role, now, Settings(*values)))
        session = request.session_hash or ""
        return list(actions.load(role, Path(file[0]), file[1], now, Settings(*values), session))

    return loaded


def _removed(actions: Actions, role: str) -> Callable[..., list[Any]]:
    return lambda now, *values: list(actions.remove(role, now, Settings(*values)))
