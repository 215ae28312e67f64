"""Write a sample HDF5 file: a small light-sheet microscopy experiment.

``python scripts/sample.py experiment.h5`` writes experiment.h5 (about 5 MB) and, beside it,
experiment-calibration.h5, which an external link leads to. The same versions of numpy and h5py
write the same bytes every time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

VOXEL_SIZE_UM = (2.0, 0.65, 0.65)
STACK_SHAPE = (36, 224, 224)
CELL_COUNT = 140

CELL_TYPE = np.dtype(
    [
        ("id", "<u4"),
        ("label", "S12"),
        ("centroid_um", "<f4", (3,)),
        ("volume_um3", "<f8"),
        ("neighbours", "<i2"),
        ("mitotic", "?"),
    ]
)


def write_sample(path: Path) -> None:
    """Write the sample experiment to `path` and its calibration file beside it."""
    calibration_path = path.with_name(f"{path.stem}-calibration{path.suffix}")
    rng = np.random.default_rng(20260314)
    cells = make_cells(rng)
    with h5py.File(calibration_path, "w") as file:
        write_calibration(file, rng)
    with h5py.File(path, "w") as file:
        write_description(file)
        write_acquisition(file.create_group("acquisition"), cells, rng)
        write_processed(file.create_group("processed"), cells)
        write_tables(file, cells)
        write_environment(file.create_group("environment"), rng)
        write_notes(file.create_group("notes"))
        write_links(file, calibration_path.name)


def make_cells(rng: np.random.Generator) -> npt.NDArray[np.void]:
    """Return the table of cells, one row each, at random places in the stack."""
    cells = np.zeros(CELL_COUNT, CELL_TYPE)
    extent_um = np.multiply(STACK_SHAPE, VOXEL_SIZE_UM)
    cells["id"] = np.arange(1, CELL_COUNT + 1)
    cells["label"] = [f"cell-{number:04d}".encode() for number in cells["id"]]
    cells["centroid_um"] = rng.uniform(0.08, 0.92, (CELL_COUNT, 3)) * extent_um
    cells["volume_um3"] = rng.normal(420.0, 60.0, CELL_COUNT)
    cells["neighbours"] = rng.poisson(5.0, CELL_COUNT)
    cells["mitotic"] = rng.random(CELL_COUNT) < 0.08
    return cells


def voxel_centres_um(shape: tuple[int, int, int]) -> list[npt.NDArray[np.float64]]:
    """Return where the voxels of a volume of `shape` lie, along each axis."""
    extent_um = np.multiply(STACK_SHAPE, VOXEL_SIZE_UM)
    return [
        (np.arange(length) + 0.5) * (extent / length)
        for length, extent in zip(shape, extent_um, strict=True)
    ]


def draw_cells(
    cells: npt.NDArray[np.void], *, shape: tuple[int, int, int], radius_um: float
) -> npt.NDArray[np.float32]:
    """Return a volume of `shape` in which each cell is a Gaussian blob of height 1."""
    volume = np.zeros(shape, np.float32)
    for centroid_um in cells["centroid_um"]:
        z, y, x = (
            np.exp(-(((axis - centre) / radius_um) ** 2) / 2).astype(np.float32)
            for axis, centre in zip(voxel_centres_um(shape), centroid_um, strict=True)
        )
        volume += z[:, None, None] * y[None, :, None] * x[None, None, :]
    return volume


def label_cells(
    cells: npt.NDArray[np.void], *, shape: tuple[int, int, int], radius_um: float
) -> npt.NDArray[np.int32]:
    """Return a volume of `shape` with each cell's id inside its ball and 0 elsewhere."""
    labels = np.zeros(shape, np.int32)
    for cell in cells:
        z, y, x = (
            (axis - centre) ** 2
            for axis, centre in zip(voxel_centres_um(shape), cell["centroid_um"], strict=True)
        )
        inside = z[:, None, None] + y[None, :, None] + x[None, None, :] < radius_um**2
        labels[inside] = cell["id"]
    return labels


def write_description(file: h5py.File) -> None:
    """Write the attributes of the file itself."""
    file.attrs["title"] = "Zebrafish hindbrain, 30 hpf, two-colour light sheet"
    file.attrs["operator"] = "Zoë Müller"
    file.attrs["institution"] = np.bytes_("Marine Biology Station")
    file.attrs["started"] = "2026-03-14T09:26:53+00:00"
    file.attrs["schema_version"] = np.int32(3)
    file.attrs["keywords"] = ["zebrafish", "hindbrain", "light sheet"]
    file.attrs["withdrawn"] = h5py.Empty("f8")


def write_acquisition(
    group: h5py.Group, cells: npt.NDArray[np.void], rng: np.random.Generator
) -> None:
    """Write the raw stacks of both channels, compressed, and their settings."""
    trigger_type = h5py.enum_dtype({"FREE_RUN": 0, "SOFTWARE": 1, "EXTERNAL": 2}, basetype="u1")
    group.attrs["microscope"] = "mesoSPIM 6"
    group.attrs["numerical_aperture"] = 0.8
    group.attrs["voxel_size_um"] = VOXEL_SIZE_UM
    group.attrs["calibrated"] = True
    group.attrs.create("trigger", 2, dtype=trigger_type)
    group.attrs["stage_to_sample"] = np.array(
        [[0.866, -0.5, 0.0], [0.5, 0.866, 0.0], [0.0, 0.0, 1.0]], np.float32
    )
    for wavelength_nm, brightness in ((488, 9000.0), (561, 5500.0)):
        channel = group.create_group(f"channel_{wavelength_nm}")
        channel.attrs["laser_nm"] = np.uint16(wavelength_nm)
        channel.attrs["exposure_ms"] = np.float32(12.5)
        counts = 90.0 + brightness * draw_cells(cells, shape=STACK_SHAPE, radius_um=3.5)
        stack = channel.create_dataset(
            "stack",
            data=np.clip(rng.poisson(counts), 0, 65535).astype("<u2"),
            chunks=(4, 112, 112),
            compression="gzip",
            compression_opts=4,
            shuffle=True,
        )
        stack.attrs["axes"] = np.array([b"z", b"y", b"x"])
        stack.attrs["units"] = "counts"
        stack.attrs["offset"] = np.uint16(90)
        preview = stack[...].max(axis=0) >> 6
        channel.create_dataset("max projection", data=np.clip(preview, 0, 255).astype("u1"))


def write_processed(group: h5py.Group, cells: npt.NDArray[np.void]) -> None:
    """Write what was computed: a float volume, labels, a mask, a complex transfer function."""
    volume = draw_cells(cells, shape=(18, 112, 112), radius_um=2.5)
    deconvolved = group.create_dataset("deconvolved", data=volume)
    deconvolved.attrs["scale"] = np.float32(0.5)
    deconvolved.attrs["iterations"] = 20
    deconvolved.attrs["residuals"] = np.geomspace(1.0, 1e-3, 5)
    group.create_dataset(
        "mask", data=volume > 0.2, chunks=(4, 56, 56), compression="gzip", fillvalue=False
    )
    group.create_dataset(
        "labels",
        data=label_cells(cells, shape=volume.shape, radius_um=4.5).astype(">i4"),
        chunks=(18, 28, 28),
        compression="gzip",
        shuffle=True,
        fletcher32=True,
    )
    aperture = np.hypot(*np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64))) < 0.8
    transfer = group.create_dataset(
        "transfer function", data=np.fft.ifft2(aperture).astype(np.complex64)
    )
    transfer.attrs["units"] = "1"


def write_tables(file: h5py.File, cells: npt.NDArray[np.void]) -> None:
    """Write the table of cells, whose compound type is committed under /types."""
    file["types/cell"] = CELL_TYPE
    file["types/cell"].attrs["version"] = 2
    table = file.create_dataset(
        "tables/cells", data=cells, dtype=file["types/cell"], maxshape=(None,), chunks=(64,)
    )
    table.attrs["description"] = "one row per segmented cell"
    table.attrs["units"] = ["", "", "um", "um^3", "", ""]


def write_environment(group: h5py.Group, rng: np.random.Generator) -> None:
    """Write a day of chamber readings, a scalar and an empty log."""
    group.attrs["sensor"] = "SHT45"
    seconds = np.arange(0, 86400, 60, dtype="<i8")
    group["time"] = seconds
    group["time"].attrs["units"] = "seconds since 2026-03-14T00:00:00Z"
    drift = 0.2 * np.sin(seconds * (2 * np.pi / 86400))
    group["temperature"] = 28.5 + drift + rng.normal(0.0, 0.02, seconds.size)
    group["temperature"].attrs["units"] = "degC"
    group["temperature"].attrs["valid_range"] = [26.0, 31.0]
    group["pressure"] = np.float32(1013.25)
    group["pressure"].attrs["units"] = "hPa"
    group.create_dataset("alarms", shape=(0,), maxshape=(None,), dtype="<f8", chunks=(128,))


def write_notes(group: h5py.Group) -> None:
    """Write strings of both kinds, fixed and variable length."""
    group["stages"] = np.array([b"mount", b"align", b"acquire", b"fix"], "S8")
    group["protocol"] = "Embed in 1.2 % agarose, anaesthetise, image at 28.5 °C."
    group.create_dataset(
        "log",
        data=["09:26 start", "11:02 laser 561 nm down to 5 mW", "21:40 end"],
        dtype=h5py.string_dtype(),
    )


def write_links(file: h5py.File, calibration_name: str) -> None:
    """Write one link of each kind: soft, hard, external."""
    file["latest"] = h5py.SoftLink("/processed/deconvolved")
    file["tables/nuclei"] = file["tables/cells"]
    file["calibration"] = h5py.ExternalLink(calibration_name, "/camera")


def write_calibration(file: h5py.File, rng: np.random.Generator) -> None:
    """Write the second file: the camera's dark frame and flat field."""
    camera = file.create_group("camera")
    camera.attrs["serial"] = np.bytes_("A21K-0042")
    camera["dark"] = rng.poisson(90.0, (64, 64)).astype("<u2")
    camera["dark"].attrs["units"] = "counts"
    camera["flat"] = (1.0 + rng.normal(0.0, 0.01, (64, 64))).astype("<f4")


def main() -> None:
    """Write the sample to the path given on the command line."""
    parser = argparse.ArgumentParser(description="Write a sample HDF5 file for h5fs.")
    parser.add_argument("path", type=Path, help="the HDF5 file to write, replaced if it is there")
    write_sample(parser.parse_args().path)


if __name__ == "__main__":
    main()
