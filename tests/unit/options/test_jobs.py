"""Ctrl-C ends a script in a line; what a shell ignores stays ignored."""

import os
import signal

import pytest

from geoalign.options.jobs import _interruptible


def test_ctrl_c_is_one_line_and_the_handler_goes_back(capsys):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit, match="130"), _interruptible():
        os.kill(os.getpid(), signal.SIGINT)
    assert capsys.readouterr().err == "SIGINT: stopped\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _interruptible():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
