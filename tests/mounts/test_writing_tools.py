"""People's tools on a mount that writes, beside the same commands in a plain folder."""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np
import pytest
from support.writing import Pair, check_file_opens, check_holds, mounted_pair, unmount

BEFORE = {
    "a": np.arange(12, dtype="<i4").reshape(3, 4),
    "b": np.arange(12, dtype="<i4").reshape(3, 4) + 100,
    "long": np.arange(5000, dtype="<f8"),
    "g/x": np.array([1.5, 2.5]),
    "g/h/y": np.array([b"some", b"bytes"]),
}

SCRIPTS = {
    "cp over another": "cp a.npy b.npy",
    "cp to a new name": "cp a.npy new.npy",
    "cp into a folder": "cp a.npy b.npy g/",
    "cp -r": "cp -r g copy; cp -r copy/h g/x.npy .",
    "cp -a": "cp -a g copy && cp -a a.npy copy/h/",
    "cp --remove-destination": "cp --remove-destination a.npy b.npy",
    "cp --backup": "cp --backup a.npy b.npy; rm b.npy~",
    "mv": "mv a.npy c.npy",
    "mv over another": "mv a.npy b.npy",
    "mv into a folder": "mv a.npy b.npy g/h; mv g/h/a.npy .",
    "mv of a folder": "mv g renamed; mkdir other; mv renamed other/",
    "mv over an empty folder": "mkdir empty; mv -T g empty",
    "mv over a folder that is not empty": "mkdir full; cp a.npy full; mv -T g full",
    "mv of a folder into itself": "mv g g/h/",
    "mv over a file of the same object": "ln a.npy same.npy; mv a.npy same.npy; rm same.npy",
    "mv -n": "mv -n a.npy b.npy || true",
    "mv --exchange by three": "mv a.npy t.npy; mv b.npy a.npy; mv t.npy b.npy",
    "ln": "ln a.npy twin.npy; ln a.npy g/twin.npy; ln -f b.npy g/x.npy",
    "ln and replace": "ln a.npy twin.npy; cat b.npy > a.npy; cmp twin.npy b.npy",
    "ln and cp": "ln a.npy twin.npy; cp g/x.npy twin.npy; cmp a.npy g/x.npy",
    "ln over": "ln a.npy b.npy",
    "ln -s": "ln -s a.npy soft; ln -s g folder; ln -s ../a.npy g/up; ln -s no-such.npy dangles;"
    " cat soft g/up | wc -c; rm soft dangles folder g/up",
    "ln -sf": "ln -s a.npy soft; ln -sf b.npy soft; cmp soft b.npy; rm soft",
    "mv of a symbolic link": "ln -s a.npy soft; mv soft g.soft; cmp a.npy g.soft; rm g.soft",
    "ln of a folder": "ln g hard 2>/dev/null",
    "mkdir": "mkdir new; mkdir -p new/deep/er; mkdir -p new/deep; ls -R new",
    "mkdir over": "mkdir g",
    "mkdir without parent": "mkdir no/such",
    "rmdir": "mkdir new; rmdir new; rmdir g",
    "rmdir -p": "mkdir -p p/q/r; rmdir -p p/q/r",
    "rm": "rm a.npy g/x.npy; rm a.npy",
    "rm -r": "rm -r g; rm -rf no-such",
    "rm -rf of all": "rm -rf ./* ; find . -mindepth 1",
    "touch": "touch a.npy; touch -d '2020-02-02 UTC' b.npy; stat -c %Y b.npy",
    "chmod and chown": "chmod 644 a.npy; chown $(id -u) a.npy; chmod -R u+rwX g",
    "redirection": "cat a.npy > c.npy; cat b.npy > a.npy",
    "redirection of several commands": "{ head -c 50 a.npy; tail -c +51 a.npy; } > c.npy",
    "redirection with many closes": "for i in 1 2 3 4; do head -c 44; done < a.npy > c.npy",
    "appending": "head -c 100 a.npy > .c; tail -c +101 a.npy >> .c; mv .c c.npy",
    "tee": "cat long.npy | tee c.npy > d.npy",
    "dd": "dd if=long.npy of=c.npy bs=1000 status=none",
    "dd in place": "printf '\\001\\002\\003' | dd of=a.npy bs=1 seek=130 conv=notrunc status=none",
    "dd over": "dd if=b.npy of=a.npy bs=64 conv=notrunc status=none",
    "dd sparse": "dd if=long.npy of=c.npy bs=512 conv=sparse status=none",
    "dd fsync": "dd if=long.npy of=c.npy bs=4k conv=fsync status=none",
    "dd that waits for the disk": "dd if=long.npy of=c.npy bs=4k oflag=sync status=none",
    "install": "install -m 644 a.npy g/h/in.npy",
    "sed -i of bytes": "LC_ALL=C sed -i 's/bytes/BYTES/' g/h/y.npy",
    "perl -i": "perl -pi -e 's/some/SOME/' g/h/y.npy",
    "sponge by a temporary": "cat b.npy > .tmp.a; mv .tmp.a a.npy",
    "mktemp": "t=$(mktemp -p .); cat b.npy > $t; mv $t a.npy",
    "truncate to nothing and again": "t=$(base64 b.npy); : > a.npy;"
    " echo $t | base64 -di > a.npy",
    "rsync within": "rsync -a a.npy b.npy copy/; rsync -a g/ copy/; rsync -ain g/ copy/",
    "rsync --inplace": "rsync -a --inplace long.npy c.npy; rsync --inplace -I --no-whole-file"
    " long.npy c.npy",
    "rsync --delete": "rsync -a g/ copy/; rm g/x.npy; rsync -a --delete g/ copy/",
    "tar within": "tar c g a.npy | (mkdir out; cd out; tar x)",
    "tar with hard links": "ln a.npy g/twin.npy; tar c g a.npy | (mkdir out; cd out; tar x)",
    "cpio": "command -v cpio >/dev/null || exit 0; find g | cpio -pdm --quiet out",
    "unzip": "t=$(mktemp -d); python3 -m zipfile -c $t/z.zip g; python3 -m zipfile -e $t/z.zip out;"
    " rm -r $t",
    "find -delete": "find . -name '*.npy' -delete; find . -depth -type d -empty -delete 2>/dev/null"
    " || true; ls",
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("tools")
    with mounted_pair(folder, (name.replace(" ", "_") for name in SCRIPTS), BEFORE) as pair:
        yield pair


@pytest.mark.semantics("R14", "R16")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_does_what_it_does_in_a_plain_folder(pair: Pair, name: str) -> None:
    pair.run_in_both(SCRIPTS[name], name.replace(" ", "_"))


def test_the_hdf5_file_has_what_the_scripts_made(pair: Pair) -> None:
    unmount(pair.mount)
    with h5py.File(pair.file) as opened:
        for name in sorted(pair.checked):
            check_holds(opened[name], pair.plain / name)
    check_file_opens(pair.file)
