"""Files of xarray, netCDF4, AnnData and NWB: how the program makes one, and what it reads of it.

`tests/support/programs.py` has the other programs, and the list of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

Items = Iterator[tuple[str, Any]]


def make_xarray(path: Path) -> None:
    """A dataset with an unlimited time, compression, a scale and offset, and text."""
    xr = import_module("xarray")
    pd = import_module("pandas")
    rng = np.random.default_rng(1)
    data = xr.Dataset(
        {
            "t2m": (("time", "lat", "lon"), rng.normal(280, 9, (6, 10, 20)), {"units": "K"}),
            "mask": (("lat", "lon"), rng.random((10, 20)) > 0.5),
            "station": (("lat",), np.array([f"stätion {i}" for i in range(10)], dtype=object)),
            "crs": ((), np.int32(4326), {"grid_mapping_name": "latitude_longitude"}),
        },
        coords={
            "time": pd.date_range("2026-01-01", periods=6),
            "lat": ("lat", np.linspace(-90, 90, 10), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(20.0), {"units": "degrees_east"}),
        },
        attrs={
            "title": "trial",
            "levels": np.array([1, 2, 3], dtype="i2"),
            "Conventions": "CF-1.8",
        },
    )
    packed = {"zlib": True, "dtype": "i2", "scale_factor": 0.01, "add_offset": 280.0}
    encoding = {"t2m": {**packed, "_FillValue": np.int16(-32768), "chunksizes": (2, 10, 20)}}
    data.to_netcdf(path, engine="h5netcdf", encoding=encoding, unlimited_dims=["time"])


def read_xarray(path: Path) -> Items:
    """Dimensions, variables with values, attributes and how they are packed."""
    xr = import_module("xarray")
    with xr.open_dataset(path, engine="h5netcdf") as data:
        yield "dimensions", dict(data.sizes)
        yield "unlimited dimensions", sorted(data.encoding["unlimited_dims"])
        yield "global attributes", dict(data.attrs)
        for name, variable in data.variables.items():
            yield f"{name} dimensions", variable.dims
            yield f"{name} values", np.asarray(variable.values)
            yield f"{name} attributes", dict(variable.attrs)
            kept = ("dtype", "scale_factor", "add_offset", "_FillValue", "units", "calendar")
            yield f"{name} encoding", {k: variable.encoding.get(k) for k in kept}


def make_netcdf(path: Path) -> None:
    """Groups, unlimited dimensions, and types of its own: enumeration, compound, vlen, string."""
    netcdf = import_module("netCDF4")
    with netcdf.Dataset(path, "w") as root:
        root.title = "trial"
        root.createDimension("time", None)
        root.createDimension("x", 4)
        time = root.createVariable("time", "f8", ("time",))
        time.units = "days since 2026-01-01"
        time[:] = np.arange(5)
        data = root.createVariable("data", "f4", ("time", "x"), zlib=True, fill_value=-9.0)
        data[:] = np.arange(20).reshape(5, 4)
        data.valid_range = np.array([0, 19], dtype="f4")
        names = root.createVariable("names", str, ("x",))
        names[:] = np.array(["a", "bb", "", "dé"], dtype=object)
        clouds = root.createEnumType("u1", "cloud_t", {"clear": 0, "cumulus": 1, "missing": 255})
        root.createVariable("cloud", clouds, ("x",), fill_value=255)[:] = [0, 1, 1, 0]
        pair = root.createCompoundType(np.dtype([("re", "f8"), ("im", "f8")]), "pair_t")
        values = np.array([(1, 2), (3, 4), (5, 6), (7, 8)], dtype=[("re", "f8"), ("im", "f8")])
        root.createVariable("pairs", pair, ("x",))[:] = values
        ragged = root.createVariable("ragged", root.createVLType("i4", "ragged_t"), ("x",))
        for row in range(4):
            ragged[row] = np.arange(row + 1, dtype="i4")
        inner = root.createGroup("inner")
        inner.createDimension("y", 3)
        inner.createVariable("z", "i8", ("y", "x"))[:] = np.arange(12).reshape(3, 4)


def read_netcdf(path: Path) -> Items:
    """Everything, group by group."""
    with import_module("netCDF4").Dataset(path) as root:
        yield "format", root.data_model
        for group in (root, *root.groups.values()):
            yield f"{group.path} attributes", {n: group.getncattr(n) for n in group.ncattrs()}
            yield f"{group.path} types", sorted([*group.enumtypes, *group.cmptypes, *group.vltypes])
            for name, dimension in group.dimensions.items():
                yield f"dimension {name}", (len(dimension), dimension.isunlimited())
            for name, variable in group.variables.items():
                variable.set_auto_mask(False)
                yield f"{name} type", repr(variable.datatype)
                yield f"{name} dimensions", variable.dimensions
                yield f"{name} values", variable[...]
                kept = {n: variable.getncattr(n) for n in sorted(variable.ncattrs())}
                yield f"{name} attributes", kept


def make_anndata(path: Path) -> None:
    """Sparse counts, a compressed layer, categories, strings, and a nested dictionary."""
    ad, pd, sparse = map(import_module, ("anndata", "pandas", "scipy.sparse"))
    rng = np.random.default_rng(2)
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical(
                rng.choice(["T cell", "B cell"], 30), categories=["B cell", "T cell"]
            ),
            "good": rng.random(30) > 0.5,
            "note": [f"cell {i}" for i in range(30)],
            "n": pd.array([None, *range(29)], dtype="Int64"),
        },
        index=[f"c{i}" for i in range(30)],
    )
    var = pd.DataFrame(index=[f"gene {i}" for i in range(12)])
    counts = sparse.csr_matrix(rng.poisson(0.5, (30, 12)).astype("f4"))
    data = ad.AnnData(counts, obs, var, obsm={"X_pca": rng.random((30, 3))})
    data.layers["dense"] = rng.random((30, 12)).astype("f4")
    data.uns = {
        "neighbors": {"n": 15, "method": "umap", "on": True},
        "colors": np.array(["a", "bé"]),
    }
    data.write_h5ad(path, compression="gzip")


def read_anndata(path: Path) -> Items:
    """Matrices, tables with their types, dictionaries."""
    data = import_module("anndata").read_h5ad(path)
    yield "X kind", type(data.X).__name__
    yield "X", data.X.toarray()
    for frame, name in ((data.obs, "obs"), (data.var, "var")):
        yield f"{name} index", list(frame.index)
        for column in frame:
            yield f"{name} {column}", (str(frame[column].dtype), list(frame[column]))
    yield "categories", list(data.obs["kind"].cat.categories)
    yield "X_pca", data.obsm["X_pca"]
    yield "dense", data.layers["dense"]
    yield from data.uns["neighbors"].items()
    yield "colors", list(data.uns["colors"])


def make_pynwb(path: Path) -> None:
    """Electrodes (references), recordings, trials that refer to them, units of spikes."""
    pynwb = import_module("pynwb")
    ecephys = import_module("pynwb.ecephys")
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    nwb = pynwb.NWBFile(session_description="trial", identifier="h5fs", session_start_time=start)
    nwb.subject = import_module("pynwb.file").Subject(
        subject_id="m1", species="Mus musculus", age="P9D"
    )
    device = nwb.create_device(name="probe")
    group = nwb.create_electrode_group("shank", description="s", location="CA1", device=device)
    for number in range(4):
        nwb.add_electrode(group=group, location="CA1", x=float(number), y=0.0, z=0.0)
    region = nwb.create_electrode_table_region(region=[0, 2], description="two")
    data = np.arange(40, dtype="i2").reshape(20, 2)
    lfp = ecephys.ElectricalSeries(name="lfp", data=data, electrodes=region, rate=30.0)
    nwb.add_acquisition(lfp)
    times = pynwb.TimeSeries(
        name="running", data=np.arange(9.0), unit="m/s", timestamps=np.arange(9.0)
    )
    nwb.add_acquisition(times)
    nwb.add_trial_column(name="stimulus", description="what was shown")
    for number in range(3):
        nwb.add_trial(
            start_time=float(number),
            stop_time=number + 0.5,
            stimulus=f"s{number}",
            timeseries=[times],
        )
    for number in range(2):
        nwb.add_unit(spike_times=np.arange(number + 2.0), electrodes=[number])
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(nwb)


def read_pynwb(path: Path) -> Items:
    """What an analysis takes out of such a file."""
    with import_module("pynwb").NWBHDF5IO(path, "r") as io:
        nwb = io.read()
        yield (
            "session",
            (nwb.session_description, nwb.identifier, nwb.session_start_time.isoformat()),
        )
        yield "subject", (nwb.subject.subject_id, nwb.subject.species, nwb.subject.age)
        lfp, running = nwb.acquisition["lfp"], nwb.acquisition["running"]
        yield "lfp data", lfp.data[:]
        yield "lfp rate", (lfp.rate, lfp.unit)
        yield "running data", running.data[:]
        yield "running timestamps", running.timestamps[:]
        yield "electrodes of lfp", list(lfp.electrodes.data[:])
        yield "electrodes x", list(nwb.electrodes["x"].data[:])
        for name, take in {
            "groups of electrodes": lambda: [g.name for g in nwb.electrodes["group"][:]],
            "trials": lambda: [
                (s, str(w))
                for s, w in zip(nwb.trials["start_time"][:], nwb.trials["stimulus"][:], strict=True)
            ],
            "time series of trials": lambda: [
                (int(r.idx_start), int(r.count), r.timeseries.name)
                for rows in nwb.trials["timeseries"][:]
                for r in rows
            ],
            "spikes": lambda: [list(times) for times in nwb.units["spike_times"][:]],
        }.items():
            try:
                yield name, take()
            except Exception as error:  # one table that is broken leaves the others
                yield name, f"{type(error).__name__}: {error}"
