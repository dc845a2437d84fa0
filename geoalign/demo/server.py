"""``geoalign demo``: a page on this machine to click points and see their matches."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from geoalign.apps.matcher import ImageMatcher
from geoalign.demo.actions import Actions
from geoalign.demo.desk import Desk
from geoalign.demo.examples import default_cache, examples, photographs
from geoalign.demo.taken import Taken

MAX_UPLOAD = "40mb"
"""Largest file that is taken; the limit of pixels is that of :mod:`geoalign.data.images`."""
SESSIONS = 50
"""Browser tabs whose points are remembered."""
LOCAL = ("127.0.0.1", "localhost", "[::1]")


def need_gradio() -> None:
    """Raises ImportError with the remedy where the page's library is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise ImportError("geoalign demo needs gradio; pip install 'geoalign[demo]'")


def serve(
    matcher: ImageMatcher,
    host: str = "127.0.0.1",
    port: int | None = None,
    cache: Path | None = None,
    model: str = "lite",
    folder: Path | None = None,
) -> None:
    """Serve the page until interrupted; ``port`` None is the first free one from 7860.

    ``model`` is how the page calls the matcher; ``folder``'s pictures are offered in place of the examples.

    No file of this machine but what was uploaded or made for the page can be fetched, and only requests for ``host`` or
    this machine's local names are answered. Raises OSError for a taken port.
    """
    need_gradio()
    offered = examples(cache or default_cache()) if folder is None else photographs(folder)
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    name = f"[{host}]" if ":" in host else host
    # A foreign page may let its own name mean this machine (DNS rebinding); its visitors' requests carry that name.
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, name], www_redirect=False)
    with tempfile.TemporaryDirectory(prefix="geoalign-demo-", ignore_cleanup_errors=True) as room:
        _quiet(room)
        from geoalign.demo.layout import SCRIPT, STYLE, theme
        from geoalign.demo.page import page

        taken = Taken(Actions(Desk(matcher), offered), Path(room))
        blocks = page(taken, Path(model).name)  # not where on this machine it lies
        _, address, _ = blocks.launch(
            server_name=host, server_port=port, quiet=True, prevent_thread_lock=True, share=False, ssr_mode=False,
            max_file_size=MAX_UPLOAD, allowed_paths=[], show_error=False, enable_monitoring=False, mcp_server=False,
            pwa=False, run_history=False, footer_links=[], state_session_capacity=SESSIONS, theme=theme(),
            css_paths=STYLE, js=SCRIPT.read_text(encoding="utf-8"), app_kwargs={"middleware": [trusted]},
        )  # fmt: skip
        print(f"geoalign demo at {address} (Ctrl+C ends it)", flush=True)
        if name not in LOCAL:
            print(
                f"note: everyone who can reach this machine can use this page; it answers as {host} and localhost only",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        blocks.block_thread()


def leave() -> NoReturn:
    """End this process, the page's temporary files gone, without ending the interpreter.

    Requests run in daemon threads, and one that is inside torch when the interpreter ends aborts the process
    (SIGABRT, before Python 3.14). Waiting for a lock is not enough: an answer's last tensor ends after it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _quiet(folder: str) -> None:
    """No reports to anybody, and all files in one folder that goes when the page does; gradio reads this on import."""
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=folder, GRADIO_EXAMPLES_CACHE=f"{folder}/examples",
        GRADIO_SHARE="False", GRADIO_MCP_SERVER="False",
    )  # fmt: skip
