"""Programs that keep their data in HDF5: how each makes a file, and what it reads of one.

`read` gives (name, value) pairs: all that the program itself shows of a file. No package of these
programs is needed to import this module; `make` and `read` import what they use.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from support.program_files import (
    Items,
    make_anndata,
    make_netcdf,
    make_pynwb,
    make_xarray,
    read_anndata,
    read_netcdf,
    read_pynwb,
    read_xarray,
)


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program: its files, and the packages that it takes."""

    title: str
    packages: tuple[str, ...]  # names of modules
    distributions: tuple[str, ...]  # of these, those whose version the table tells
    ending: str
    make: Callable[[Path], None]
    read: Callable[[Path], Items]
    needs_file: bool = False  # a file that the program has written before


def make_pandas(path: Path, *, kind: str) -> None:
    """A data frame with numbers, text and dates, and a series; PyTables writes them."""
    pd = import_module("pandas")
    frame = pd.DataFrame(
        {"a": np.arange(50), "b": np.linspace(0, 1, 50), "text": [f"röw {i}" for i in range(50)]},
        index=pd.date_range("2026-01-01", periods=50, name="day"),
    )
    with pd.HDFStore(path, "w", complevel=5) as store:
        more = {"data_columns": ["a"]} if kind == "table" else {}
        store.put("frame", frame, format=kind, **more)
        store.put("deep/series", pd.Series(np.arange(5.0), name="s"), format=kind)


def read_pandas(path: Path, *, kind: str) -> Items:
    """Frames and series, a query of a table, and what can be appended to it."""
    pd = import_module("pandas")
    with pd.HDFStore(path, "r") as store:
        yield "keys", sorted(store.keys())
        frame = store["frame"]
        yield "index", (str(frame.index.dtype), frame.index.name, list(frame.index))
        for column in frame:
            yield f"column {column}", (str(frame[column].dtype), list(frame[column]))
        series = store["deep/series"]
        yield "series", (series.name, str(series.dtype), list(series))
        if kind == "table":
            yield "query", list(store.select("frame", where="a > 45")["b"])
    if kind == "table":
        grown = shutil.copy(path, path.with_suffix(".grown"))
        with pd.HDFStore(grown) as store:
            try:
                store.append("frame", frame[:3])
                yield "append", len(store["frame"])
            except Exception as error:
                yield "append", f"{type(error).__name__}: {error}"


def make_nexus(path: Path) -> None:
    """An entry with data, axes, an instrument, a sample, and links."""
    nx = import_module("nexusformat.nexus")
    x = nx.NXfield(np.linspace(0, 1, 11), name="x", units="mm", long_name="position")
    y = nx.NXfield(np.arange(7, dtype="i4"), name="y", units="s")
    counts = nx.NXfield(np.arange(77, dtype="u4").reshape(7, 11), name="counts", units="counts")
    entry = nx.NXentry(nx.NXdata(counts, (y, x), title="scän"), title="trial")
    entry["sample"] = nx.NXsample(temperature=nx.NXfield(4.2, units="K"), name="Si")
    entry["instrument"] = nx.NXinstrument(nx.NXdetector(data=nx.NXfield(np.ones((4, 6), "u2"))))
    root = nx.NXroot(entry)
    root.save(path, "w").close()
    with nx.nxload(path, "rw") as root:
        root["entry/link"] = nx.NXlink("/entry/sample/temperature")


def read_nexus(path: Path) -> Items:
    """Classes, attributes and values of each object, and what is plottable."""
    nx = import_module("nexusformat.nexus")
    with nx.nxload(path, "r") as root:
        for found in root.walk():
            where = found.nxpath
            attrs = {k: v for k, v in found.attrs.items() if k != "file_name"}
            yield f"{where} class", (found.nxclass, isinstance(found, nx.NXlink))
            yield f"{where} attributes", {k: str(getattr(v, "nxdata", v)) for k, v in attrs.items()}
            if isinstance(found, nx.NXfield):
                yield f"{where} value", found.nxvalue
                yield f"{where} type", (str(found.dtype), found.shape)
        yield "signal", root["entry/data"].nxsignal.nxname
        yield "axes", [axis.nxname for axis in root["entry/data"].nxaxes]


def make_matlab(path: Path) -> None:
    """Numbers, text, a cell, a struct, logicals and complex numbers, as MATLAB 7.3 keeps them."""
    values = {
        "a": np.arange(12.0).reshape(3, 4),
        "text": "grüße",
        "cell": [1.5, "two", np.arange(3)],
        "struct": {"x": 1, "y": {"z": np.eye(2)}},
        "yes": np.array([True, False]),
        "c": np.array([1 + 2j, 3 - 4j]),
        "empty": np.zeros((0, 3)),
    }
    import_module("hdf5storage").savemat(
        str(path), values, format="7.3", store_python_metadata=True
    )


def read_matlab(path: Path) -> Items:
    """All variables."""
    yield from flatten("", import_module("hdf5storage").loadmat(str(path)))


def copy_matlab(path: Path) -> None:
    """A file that MATLAB has written."""
    shutil.copy(os.environ["H5FS_MATLAB_FILE"], path)


def read_mat73(path: Path) -> Items:
    """All variables, and the header by which MATLAB knows its files."""
    yield from flatten("", import_module("mat73").loadmat(str(path)))
    with path.open("rb") as file:
        yield "header", file.read(116).startswith(b"MATLAB 7.3")


def flatten(name: str, value: Any) -> Items:
    """What is in dictionaries and lists, one by one."""
    if isinstance(value, dict):
        yield f"{name} keys", sorted(map(str, value))
        for key, inner in value.items():
            yield from flatten(f"{name}/{key}", inner)
    elif isinstance(value, list):
        yield f"{name} length", len(value)
        for number, inner in enumerate(value):
            yield from flatten(f"{name}/{number}", inner)
    else:
        yield name, value


def make_keras(path: Path) -> None:
    """A model with its weights, in one HDF5 file."""
    keras = start_keras()
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(name="flat"),
            layers.Dense(3, name="dense"),
        ],
        name="trial",
    )
    model.save(path)


def read_keras(path: Path) -> Items:
    """Layers, weights, and what the model says of an input."""
    model = start_keras().models.load_model(path, compile=False)
    yield "configuration", model.to_json()
    for weight in model.weights:
        yield weight.path, np.asarray(weight)
    yield "prediction", np.asarray(model(np.ones((1, 8, 8, 1), "f4")))


def start_keras() -> Any:
    """Keras with the lightest backend."""
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    return import_module("keras")


PROGRAMS = {
    "xarray": Program(
        title="xarray, h5netcdf",
        packages=("xarray", "h5netcdf", "pandas"),
        distributions=("xarray", "h5netcdf"),
        ending=".nc",
        make=make_xarray,
        read=read_xarray,
    ),
    "netcdf4": Program(
        title="netCDF4",
        packages=("netCDF4",),
        distributions=("netCDF4",),
        ending=".nc",
        make=make_netcdf,
        read=read_netcdf,
    ),
    "anndata": Program(
        title="AnnData",
        packages=("anndata",),
        distributions=("anndata",),
        ending=".h5ad",
        make=make_anndata,
        read=read_anndata,
    ),
    "pynwb": Program(
        title="NWB",
        packages=("pynwb",),
        distributions=("pynwb",),
        ending=".nwb",
        make=make_pynwb,
        read=read_pynwb,
    ),
    "pandas-fixed": Program(
        title="pandas, fixed",
        packages=("pandas", "tables"),
        distributions=("pandas", "tables"),
        ending=".h5",
        make=lambda path: make_pandas(path, kind="fixed"),
        read=lambda path: read_pandas(path, kind="fixed"),
    ),
    "pandas-table": Program(
        title="pandas, table",
        packages=("pandas", "tables"),
        distributions=("pandas", "tables"),
        ending=".h5",
        make=lambda path: make_pandas(path, kind="table"),
        read=lambda path: read_pandas(path, kind="table"),
    ),
    "nexus": Program(
        title="NeXus",
        packages=("nexusformat",),
        distributions=("nexusformat",),
        ending=".nxs",
        make=make_nexus,
        read=read_nexus,
    ),
    "matlab": Program(
        title="MATLAB 7.3, by hdf5storage",
        packages=("hdf5storage",),
        distributions=("hdf5storage",),
        ending=".mat",
        make=make_matlab,
        read=read_matlab,
    ),
    "mat73": Program(
        title="MATLAB 7.3, by MATLAB, read by mat73",
        packages=("mat73",),
        distributions=("mat73",),
        ending=".mat",
        make=copy_matlab,
        read=read_mat73,
        needs_file=True,
    ),
    "keras": Program(
        title="Keras",
        packages=("keras", "jax"),  # of which Keras's numpy backend takes a part
        distributions=("keras",),
        ending=".h5",
        make=make_keras,
        read=read_keras,
    ),
}
