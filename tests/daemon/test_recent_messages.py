"""The last lines of the log, as `h5fs status` and `h5fs umount` tell them."""

from __future__ import annotations

import logging

import pytest

from h5fs.daemon.recent_messages import RecentMessages


def kept(text: str) -> str:
    recent = RecentMessages()
    recent.emit(logging.LogRecord("h5fs", logging.WARNING, "", 0, text, None, None))
    (message,) = recent.messages()
    return message.text


@pytest.mark.semantics("C20", "M5")
def test_the_middle_of_a_long_line_is_left_out() -> None:
    name = "/g" * 2500 + "/x.npy"
    line = kept(f"{name} is not in the HDF5 file: not a .npy file; saved as /f.h5.h5fs-left{name}")
    assert 1900 < len(line) <= 2000
    assert line.startswith("/g/g") and " ... " in line and line.endswith("/g/x.npy")


@pytest.mark.semantics("C20", "M5")
def test_a_line_of_usual_length_is_whole() -> None:
    name = "/group" * 100 + "/x.npy"
    line = f"{name} is not in the HDF5 file: not a .npy file; saved as /f.h5.h5fs-left{name}"
    assert kept(line) == line
