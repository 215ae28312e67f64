"""Domains of a data service, mounted."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.hsds_service import Service, service_for_mounts
from support.mount_points import table_of_mounts
from support.mounts import mounted, needs_libfuse_3, run_h5fs
from support.waiting import wait_until

ROWS = {"class": "H5T_INTEGER", "base": "H5T_STD_I64LE"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service_for_mounts(tmp_path_factory.mktemp("hsds") / "c") as running:
        yield running


@pytest.fixture(scope="module")
def sample(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is a domain, too."""
    path = tmp_path_factory.mktemp("sample") / "sample.h5"
    with h5py.File(path, "w") as opened:
        opened["group/numbers"] = np.arange(3_000_000).reshape(1000, 3000)
        opened["group/numbers"].attrs["unit"] = "m"
        opened.create_dataset("texts", data=["one", "zwö"], dtype=h5py.string_dtype())
        opened["soft"] = h5py.SoftLink("/group/numbers")
        opened["far"] = h5py.ExternalLink("other.h5", "/d")
    with h5py.File(path.with_name("other.h5"), "w") as opened:
        opened["d"] = np.arange(5)
    for each in (path, path.with_name("other.h5")):
        service.load(each, each.name)
    return path


def make_rows(service: Service, domain: str, count: int) -> str:
    """Make a domain with a dataset `d` that can grow; return the dataset's id."""
    root = service.ask("PUT", "/", domain)["root"]
    body = {"type": ROWS, "shape": [count], "maxdims": [0], "link": {"id": root, "name": "d"}}
    made: str = service.ask("POST", "/datasets", domain, body)["id"]
    return made


def write(service: Service, domain: str, dataset: str, values: list[int], **query: str) -> None:
    service.ask("PUT", f"/datasets/{dataset}/value", domain, {"value": values, **query})


@needs_libfuse_3
@pytest.mark.semantics("P1", "P6")
def test_a_group_of_a_domain_is_mounted_by_itself(service: Service, sample: Path) -> None:
    service.load(sample, "part.h5")
    url = "hdf5://home/user/part.h5:/group"
    with mounted(url, options=["--mode", "r+"]) as mount:  # type: ignore[arg-type]
        np.save(mount.path / "new.npy", np.arange(3))
        assert sorted(os.listdir(mount.path)) == ["new.npy", "numbers.attrs.json", "numbers.npy"]
        with mounted(url) as other:  # type: ignore[arg-type]
            assert (np.load(other.path / "new.npy") == np.arange(3)).all()
        with mounted("hdf5://home/user/part.h5") as whole:  # type: ignore[arg-type]
            assert (whole.path / "group/new.npy").exists()
        (mount.path / "new.npy").unlink()


@pytest.mark.semantics("G1", "G3")
def test_a_domain_shows_what_the_file_shows(service: Service, sample: Path) -> None:
    url = "hdf5://home/user/sample.h5"
    with mounted(Path(sample)) as near, mounted(url) as far:  # type: ignore[arg-type]
        done = subprocess.run(
            ["diff", "-r", near.path, far.path], capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "")
        assert (far.path / "far.npy").read_bytes() == (near.path / "far.npy").read_bytes()
        mapped = np.load(far.path / "group" / "numbers.npy", mmap_mode="r")
        assert mapped[777, 2999] == 777 * 3000 + 2999
        with pytest.raises(OSError) as raised:
            (far.path / "new").mkdir()
        assert raised.value.errno == errno.EROFS


@pytest.mark.semantics("G1")
def test_a_folder_of_domains_is_a_folder_of_folders(service: Service, sample: Path) -> None:
    with mounted("hdf5://home/user/") as far:  # type: ignore[arg-type]
        assert {"sample.h5", "other.h5"} <= set(os.listdir(far.path))
        assert np.load(far.path / "other.h5" / "d.npy").tolist() == [0, 1, 2, 3, 4]
        inodes = [entry.stat().st_ino for entry in far.path.rglob("*") if not entry.is_symlink()]
        assert len(inodes) == len(set(inodes))
        with pytest.raises(FileNotFoundError):
            os.stat(far.path / "nobody.h5")
        make_rows(service, "/home/user/late.h5", 1)
        wait_until((far.path / "late.h5" / "d.npy").exists)


@pytest.mark.semantics("G1")
def test_commands_take_domains(service: Service, sample: Path, tmp_path: Path) -> None:
    url = "hdf5://home/user/sample.h5"
    assert "numbers.npy" in run_h5fs("tree", url).stdout
    assert '"unit": "m"' in run_h5fs("cat", f"{url}:/group/numbers.attrs.json").stdout
    assert run_h5fs("cp", f"{url}:/texts.npy", tmp_path / "texts.npy").returncode == 0
    assert np.load(tmp_path / "texts.npy").tolist() == ["one", "zwö"]


@pytest.mark.semantics("C13")
def test_tree_of_a_folder_of_domains_lists_domains_and_what_is_in_them(
    service: Service, sample: Path
) -> None:
    done = run_h5fs("tree", "hdf5://home/user/", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert {found[name]["kind"] for name in ("sample.h5", "other.h5")} == {"hdf5"}
    assert [each["name"] for each in found["other.h5"]["entries"]] == ["d.npy"]
    assert "size_bytes" not in found["other.h5"]
    listed = run_h5fs("tree", "hdf5://home/user/", "--depth", "1").stdout.splitlines()
    assert listed[0] == "hdf5://home/user/"
    assert [line for line in listed if "other.h5" in line or "d.npy" in line] == [
        line for line in listed if "other.h5" in line
    ]
    done = run_h5fs("tree", "hdf5://home/nobody/")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "nobody" in done.stderr


@pytest.mark.semantics("G2")
def test_refusals_say_what_to_do_and_show_no_secret(
    service: Service, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountpoint = tmp_path / "m"
    mountpoint.mkdir()
    url = "hdf5://home/user/sample.h5"
    none = run_h5fs("hdf5://home/user/none.h5", mountpoint)
    assert (none.returncode, "no domain /home/user/none.h5" in none.stderr) == (1, True)
    wrong = run_h5fs(url, mountpoint, env={"HS_PASSWORD": "wrong-secret"})
    assert (wrong.returncode, "HS_PASSWORD" in wrong.stderr) == (1, True)
    assert "wrong-secret" not in wrong.stderr
    for name in service.environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    nowhere = run_h5fs(url, mountpoint)
    assert (nowhere.returncode, "-o endpoint=" in nowhere.stderr) == (1, True)
    access = service.access
    (tmp_path / ".hscfg").write_text(
        f"hs_username={access.username}\nhs_password={access.password}\nhs_bucket={access.bucket}\n"
    )
    with mounted(url, options=["-o", f"endpoint={access.endpoint}"]) as far:  # type: ignore[arg-type]
        assert (far.path / "texts.npy").exists()
        command = Path(f"/proc/{far.pid}/cmdline").read_text()
        for shown in (command, table_of_mounts(), far.log.read_text()):
            assert access.password not in shown.replace("admin-secret", "")


@pytest.mark.semantics("G5")
def test_what_was_written_before_an_open_is_read_after_it(service: Service) -> None:
    domain = "/home/user/rows.h5"
    dataset = make_rows(service, domain, 4)
    with mounted("hdf5:/" + domain) as far:  # type: ignore[arg-type]
        for number in range(10):
            write(service, domain, dataset, [number] * 4)
            assert np.load(far.path / "d.npy").tolist() == [number] * 4
        service.ask("PUT", f"/datasets/{dataset}/value", domain, {"value": [7, 8], "append": 2})
        assert np.load(far.path / "d.npy").tolist() == [9, 9, 9, 9, 7, 8]
        root = service.ask("GET", "/", domain)["root"]
        service.ask("POST", "/groups", domain, {"link": {"id": root, "name": "new"}})
        wait_until(lambda: "new" in os.listdir(far.path))


@pytest.mark.semantics("G6", "G8")
def test_a_file_whose_dataset_has_changed_is_stale_once_it_was_opened_anew(
    service: Service,
) -> None:
    domain = "/home/user/stale.h5"
    dataset = make_rows(service, domain, 1000)
    write(service, domain, dataset, list(range(1000)))
    with mounted("hdf5:/" + domain) as far:  # type: ignore[arg-type]
        with open(far.path / "d.npy", "rb", buffering=0) as old:
            service.ask("PUT", f"/datasets/{dataset}/value", domain, {"value": [5], "append": 1})
            assert np.frombuffer(os.pread(old.fileno(), 8000, 128), "<i8").tolist() == list(
                range(1000)
            )
            with open(far.path / "d.npy", "rb", buffering=0) as new:
                with pytest.raises(OSError) as raised:
                    os.pread(old.fileno(), 8000, 128)
                assert raised.value.errno == errno.ESTALE
                assert np.frombuffer(os.pread(new.fileno(), 8008, 128), "<i8")[-1] == 5
        with open(far.path / "d.npy", "rb", buffering=0) as old:
            root = service.ask("GET", "/", domain)["root"]
            service.ask("DELETE", f"/groups/{root}/links/d", domain)
            service.ask("DELETE", f"/datasets/{dataset}", domain)
            with pytest.raises(OSError) as raised:
                os.pread(old.fileno(), 8000, 128)
            assert raised.value.errno == errno.ESTALE
        wait_until(lambda: not (far.path / "d.npy").exists())


@needs_libfuse_3
@pytest.mark.semantics("G1", "G9", "G10", "G11", "G12", "G14", "G16", "G17")
def test_two_mounts_write_to_one_domain_as_programs_do(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where what is left over goes
    domain = "/home/user/both.h5"
    service.ask("PUT", "/", domain)
    url, mode = "hdf5:/" + domain, ["--mode", "r+"]
    mountpoint = tmp_path / "m"
    mountpoint.mkdir()
    refused = run_h5fs("hdf5://home/user/", mountpoint, *mode)
    assert (refused.returncode, "read-only" in refused.stderr) == (1, True)
    refused = run_h5fs(url, mountpoint, "--mode", "w")
    assert (refused.returncode, "r and r+" in refused.stderr) == (1, True)
    with mounted(url, options=mode) as one, mounted(url, options=mode) as two:  # type: ignore[arg-type]
        (one.path / "g").mkdir()
        with pytest.raises(FileExistsError):
            (two.path / "g").mkdir()
        d, far_d = one.path / "g" / "d.npy", two.path / "g" / "d.npy"
        np.save(d, np.zeros((1000, 3)))
        mapped = [np.load(path, mmap_mode="r+") for path in (d, far_d)]
        for number, array in enumerate(mapped):
            array[number::2] = number + 1
        for array in mapped:
            array.flush()  # type: ignore[attr-defined]
        del array, mapped  # so that both can be unmounted
        wanted = np.tile([[1.0] * 3, [2.0] * 3], (500, 1))
        assert (np.load(d) == wanted).all()
        assert (np.load(far_d) == wanted).all()
        for path, value in ((d, 5.0), (far_d, 6.0)):
            append_rows(path, np.full((20, 3), value))
        assert np.load(d).shape == np.load(far_d).shape == (1040, 3)
        with far_d.open("r+b") as opened:
            opened.seek(128)
            opened.write(np.float64(9).tobytes())
            opened.flush()
            os.fsync(opened.fileno())
        assert np.load(d)[0, 0] == 9
        (one.path / "g" / "d.attrs.json").write_text('{"unit": "m"}')
        done = subprocess.run(
            ["cp", "-r", one.path / "g", two.path / "copy"], capture_output=True, timeout=240,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        copied = one.path / "copy" / "d.npy"
        assert (np.load(copied) == np.load(d)).all()
        assert "unit" in (one.path / "copy" / "d.attrs.json").read_text()
        copied.rename(one.path / "g" / "d.npy")  # over what is there
        assert np.load(far_d).shape == (1040, 3)
        with pytest.raises(OSError) as raised:
            np.save(one.path / "date.npy", np.array(["2026-11-29"], "M8[D]"))
        assert raised.value.errno == errno.ENOTSUP
        subprocess.run(["rm", "-r", one.path / "copy"], check=True, timeout=240)
        wait_until(lambda: os.listdir(two.path) == ["g"])
    assert (tmp_path / "both.h5.h5fs-left" / "date.npy").exists()


def append_rows(path: Path, rows: np.ndarray) -> None:  # type: ignore[type-arg]
    """Append to a `.npy` file as programs do: a new header, and data at the end."""
    with path.open("r+b") as opened:
        np.lib.format.read_magic(opened)
        shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
        fields = {"descr": dtype.str, "fortran_order": False,
                  "shape": (shape[0] + len(rows), *shape[1:])}  # fmt: skip
        opened.seek(0)
        np.lib.format.write_array_header_1_0(opened, fields)
        opened.seek(0, os.SEEK_END)
        opened.write(rows.astype(dtype).tobytes())
