"""Filter plugins that are links, or need a library elsewhere, load in a confined worker."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t, h5z

from h5fs.model.settings import StoreOptions
from h5fs.store.worker_process.libraries import files_of_libraries
from h5fs.store.worker_stores.worker_store import WorkerStore
from h5fs.tree import Tree

CODE = 32_700
DATA = np.arange(100, dtype="u1")

HELPER = "int flip(int byte) { return byte ^ 1; }"
# The beginning of H5PLextern.h, and H5Z_class2_t.
PLUGIN = """
#include <stddef.h>
int flip(int byte);
typedef struct {
    int version; int id; unsigned encodes, decodes; const char *name;
    void *can_apply, *set_local;
    size_t (*filter)(unsigned, size_t, const unsigned *, size_t, size_t *, void **);
} Class;
static size_t run(unsigned flags, size_t count, const unsigned *values, size_t size,
                  size_t *room, void **buffer) {
    for (size_t i = 0; i < size; i++) ((char *)*buffer)[i] = flip(((char *)*buffer)[i]);
    return size;
}
static const Class flipping = {1, %d, 1, 1, "flip", NULL, NULL, run};
int H5PLget_plugin_type(void) { return 0; }
const void *H5PLget_plugin_info(void) { return &flipping; }
"""


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A plugin ``real/libflip.so`` that finds ``elsewhere/libhelper.so`` by its RPATH."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    for name in ("real", "elsewhere", "plugins"):
        (tmp_path / name).mkdir()
    (tmp_path / "helper.c").write_text(HELPER)
    (tmp_path / "plugin.c").write_text(PLUGIN % CODE)
    shared = [compiler, "-shared", "-fPIC", "-o"]
    helper = tmp_path / "elsewhere/libhelper.so.1.0"
    subprocess.run([*shared, helper, tmp_path / "helper.c", "-Wl,-soname,libhelper.so.1"],
                   check=True)  # fmt: skip
    for name in ("libhelper.so.1", "libhelper.so"):
        (tmp_path / "elsewhere" / name).symlink_to("libhelper.so.1.0")
    subprocess.run(
        [*shared, tmp_path / "real/libflip.so", tmp_path / "plugin.c",
         f"-L{tmp_path}/elsewhere", "-lhelper", "-Wl,-rpath,$ORIGIN/../elsewhere"],
        check=True,
    )  # fmt: skip
    return tmp_path


def test_what_a_library_needs_is_found_by_its_rpath(built: Path) -> None:
    plugin = built / "real/libflip.so"
    found = files_of_libraries([plugin])
    assert {plugin.resolve(), (built / "elsewhere/libhelper.so.1.0").resolve()} <= found


def test_what_is_no_library_needs_nothing(tmp_path: Path) -> None:
    for name, content in {"text": b"text", "cut": b"\x7fELF\x02\x01" + b"\xff" * 58}.items():
        (tmp_path / name).write_bytes(content)
        assert files_of_libraries([tmp_path / name]) == {(tmp_path / name).resolve()}
    assert files_of_libraries([tmp_path / "missing"]) == set()


@pytest.mark.semantics("D13")
@pytest.mark.parametrize("is_link", [False, True])
def test_a_plugin_is_installed_for_workers_too(
    built: Path, monkeypatch: pytest.MonkeyPatch, is_link: bool
) -> None:
    plugins = built / "real"
    if is_link:
        plugins = built / "plugins"
        # By the link's folder there is no way to the library that it needs.
        (plugins / "libflip.so").symlink_to("../real/libflip.so")
    monkeypatch.setenv("HDF5_PLUGIN_PATH", os.fspath(plugins))
    (built / "data").mkdir()  # beside the file lies nothing that it needs
    file = built / "data/f.h5"
    with h5py.File(file, "w") as opened:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_chunk(DATA.shape)
        creation.set_filter(CODE, h5z.FLAG_OPTIONAL)
        space = h5s.create_simple(DATA.shape)
        made = h5d.create(opened.id, b"d", h5t.STD_U8LE, space, creation)
        made.write_direct_chunk((0,), (DATA ^ 1).tobytes())
    store = WorkerStore(StoreOptions(file, workers=1))
    store.open()
    tree = Tree(store)
    try:
        handle = tree.open(b"/d.npy", os.O_RDONLY)
        assert tree.read(handle, 1000, 0)[128:] == DATA.tobytes()
    finally:
        tree.close()
