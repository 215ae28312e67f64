"""What reading an array in chunks asks of the workers: each chunk once, ahead, in few shared
buffers."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.waiting import PATIENCE_SECONDS, wait_until

from h5fs.errors import H5fsError, NoRoomError, UnreadableError
from h5fs.model.objects import Chunked, ChunkIndex, DatasetInfo, ObjectRef
from h5fs.store.chunks.destinations import gather_batch
from h5fs.store.chunks.geometry import Grid
from h5fs.store.chunks.reader import ChunkReader
from h5fs.store.workers.shared_buffers import SharedBufferViews

MB = 2**20
REQUEST = MB


class Workers:
    """Decodes as the workers do, chunks of whole rows, and counts.

    ``meeting_seconds``: how long one waits for all to be at work, until they once were; the first
    is alone until the reader is known to go on.
    """

    def __init__(
        self, count: int, array: np.ndarray[Any, Any], rows: int, meeting_seconds: float = 0
    ) -> None:
        self.count = count
        self._meeting_seconds = meeting_seconds
        self.decoded: Counter[int] = Counter()
        self.gathered: Counter[int] = Counter()
        self.most_at_once = 0
        self._array = array
        self._rows = rows
        self._places = threading.Semaphore(count)
        self._changed = threading.Condition()
        self._at_once = 0

    def call(
        self, method: str, batch: Any, *_shape: Any, shared_buffers: Any = (), **_: Any
    ) -> Any:
        if method == "index_chunks":
            return ChunkIndex(np.ones(-(-len(self._array) // self._rows), "<u8").tobytes())
        if method == "gather_rows":
            return self.gather(batch, shared_buffers)
        with self._places:
            with self._changed:
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                self._changed.notify_all()
                self._changed.wait_for(
                    lambda: self.most_at_once == self.count, self._meeting_seconds
                )
            time.sleep(0.002 * len(batch.tasks))
            for task in batch.tasks:
                rows = self._array[task.number * self._rows : (task.number + 1) * self._rows]
                place = (task.number - batch.first_chunk) * self._rows * self._array[0].nbytes
                os.pwrite(shared_buffers[0].descriptor, rows.tobytes(), place)
            with self._changed:
                self._at_once -= 1
                self.decoded.update(task.number for task in batch.tasks)
        return ()

    def gather(self, batch: Any, shared_buffers: Any) -> None:
        views = SharedBufferViews()
        for each in shared_buffers:
            descriptor = os.dup(each.descriptor)
            views.add(each.number, descriptor, each.size_bytes, on_disk=each.is_on_disk)
        gather_batch(batch, views)
        self.gathered[batch.start] += 1
        for each in shared_buffers:
            views.remove(each.number)

    def forget_shared_buffer(self, shared_buffer: Any) -> None:
        """Have nothing mapped."""


class Stream:
    """An array, and who reads it. ``order``: in which order the requests come, eight at a time."""

    def __init__(self, number: int, array: np.ndarray[Any, Any], rows: int) -> None:
        self.array = array
        self.ref = ObjectRef(0, number, b"/%d" % number)
        self.data = Chunked((rows, array.shape[1]), (), b"\0")
        self.dataset = DatasetInfo(array.shape, array.dtype, array.nbytes, data=self.data)

    def read(
        self, reader: ChunkReader, order: tuple[int, ...] = (0,), request: int = REQUEST
    ) -> None:
        starts = range(0, self.array.nbytes, request)
        expected = self.array.tobytes()
        for group in range(0, len(starts), len(order)):
            for index in order:
                if group + index < len(starts):
                    start = starts[group + index]
                    buffer = bytearray(min(request, self.array.nbytes - start))
                    reader.read_into(self.ref, self.dataset, self.data, start, memoryview(buffer))
                    assert buffer == expected[start : start + len(buffer)]


def make_array(size_bytes: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (size_bytes // 1000, 1000), np.uint8)


@contextmanager
def reading(workers: Workers, cache_bytes: int = 256 * MB) -> Iterator[ChunkReader]:
    reader = ChunkReader(workers, cache_bytes)  # type: ignore[arg-type]
    try:
        yield reader
    finally:
        reader.close()


@pytest.mark.parametrize("order", [(0,), (1, 0), (3, 1, 0, 2), (3, 2, 1, 0)])
@pytest.mark.parametrize("rows", [100, 1000, 5000])
def test_each_chunk_is_decoded_once_in_whatever_order_the_kernel_asks(
    rows: int, order: tuple[int, ...]
) -> None:
    array = make_array(40 * MB)
    workers = Workers(2, array, rows)
    with reading(workers) as reader:
        Stream(1, array, rows).read(reader, order)
        used_bytes = reader.statistics().used_bytes
    assert set(workers.decoded.values()) == {1}
    assert len(workers.decoded) == -(-len(array) // rows)
    block_bytes = Grid(array.shape, (rows, 1000), 1).block_bytes
    assert used_bytes <= 10 * block_bytes  # each again and again, not one for each block


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("rows", [1000, 8000, 16000])
def test_all_workers_decode_for_one_reader(count: int, rows: int) -> None:
    array = make_array(96 * MB)
    workers = Workers(count, array, rows, meeting_seconds=3)
    with reading(workers) as reader:
        Stream(1, array, rows).read(reader)
    assert workers.most_at_once == count


def test_many_readers_share_few_shared_buffers() -> None:
    array = make_array(24 * MB)
    workers = Workers(2, array, 1000)
    streams = [Stream(number, array, 1000) for number in range(6)]
    with reading(workers) as reader:
        threads = [threading.Thread(target=each.read, args=(reader,)) for each in streams]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        used_bytes = reader.statistics().used_bytes
    assert set(workers.decoded.values()) == {6}
    assert used_bytes <= 6 * 8 * 2 * MB


def test_a_slow_reader_leaves_another_enough_to_keep_the_workers_busy() -> None:
    array = make_array(60 * MB)
    workers = Workers(2, array, 2000)  # a block each
    slow, fast = Stream(1, array, 2000), Stream(2, array, 2000)
    buffer = memoryview(bytearray(REQUEST))
    with reading(workers) as reader:
        for stream in (slow, fast):
            before = workers.decoded.total()
            reader.read_into(stream.ref, stream.dataset, stream.data, 0, buffer)
            at_work = before + 1 + workers.count
            wait_until(lambda count=at_work: workers.decoded.total() >= count)
            time.sleep(0.1)


def test_a_block_that_is_shared_out_among_workers_gets_large_pages_as_any_other() -> None:
    """The first one of a sequential reader goes to them in small pieces."""
    workers = Workers(4, make_array(4 * MB), 100)
    prepared = []
    decode = workers.call

    def note(method: str, *arguments: Any, shared_buffers: Any = (), **options: Any) -> Any:
        prepared.extend(each.is_prepared for each in shared_buffers)
        return decode(method, *arguments, shared_buffers=shared_buffers, **options)

    workers.call = note  # type: ignore[method-assign]
    stream = Stream(0, workers._array, 100)
    with reading(workers) as reader:
        buffer = bytearray(4 * MB // 1000 * 1000)
        reader.read_into(stream.ref, stream.dataset, stream.data, 0, memoryview(buffer))
    assert len(prepared) > 1
    assert all(prepared)


def test_a_small_read_takes_the_memory_of_its_chunks_alone() -> None:
    array = make_array(24 * MB)
    workers = Workers(2, array, 100)
    stream = Stream(1, array, 100)
    buffer = memoryview(bytearray(4096))
    before = shared_memory_bytes()
    with reading(workers) as reader:
        reader.read_into(stream.ref, stream.dataset, stream.data, 10 * MB, buffer)
        assert workers.decoded.total() == 1
        assert shared_memory_bytes() - before <= 100_000 + 2 * 4096


def shared_memory_bytes() -> int:
    taken = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if "h5fs-shared-buffer" in os.readlink(f"/proc/self/fd/{descriptor}"):
                taken += os.fstat(int(descriptor)).st_blocks * 512
    return taken


@pytest.mark.parametrize("cache_bytes", [2**16, MB, 8 * MB])
def test_a_small_cache_is_enough(cache_bytes: int) -> None:
    array = make_array(24 * MB)
    workers = Workers(2, array, 300)
    with reading(workers, cache_bytes) as reader:
        Stream(1, array, 300).read(reader, (1, 0))
        assert reader.statistics().used_bytes <= max(cache_bytes, 2 * MB)


def test_small_chunks_are_kept_in_a_small_cache_until_they_are_read() -> None:
    array = make_array(MB)
    workers = Workers(2, array, 4)
    with reading(workers, 2**16) as reader:
        Stream(1, array, 4).read(reader, request=4096)
    assert set(workers.decoded.values()) == {1}


def test_what_is_read_ahead_when_all_ends_is_given_back() -> None:
    array = make_array(60 * MB)
    workers = Workers(2, array, 300)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        stream = Stream(1, array, 300)
        with reading(workers) as reader:
            buffer = memoryview(bytearray(REQUEST))
            for start in range(0, 4 * REQUEST, REQUEST):
                reader.read_into(stream.ref, stream.dataset, stream.data, start, buffer)
            assert len(os.listdir("/proc/self/fd")) > before
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_who_reads_when_all_ends_is_not_left_waiting() -> None:
    array = make_array(60 * MB)
    workers = Workers(2, array, 300)
    stream = Stream(1, array, 300)
    errors: list[Exception] = []

    def read(reader: ChunkReader) -> None:
        try:
            stream.read(reader)
        except H5fsError as error:
            errors.append(error)

    with reading(workers) as reader:
        threads = [threading.Thread(target=read, args=(reader,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        while workers.decoded.total() < 10:
            time.sleep(0.001)
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


class Columns(Workers):
    """Decodes chunks that are as tall as the array; counts those that were ever written."""

    def __init__(self, array: np.ndarray[Any, Any], width: int, written: set[int]) -> None:
        super().__init__(1, array, len(array))
        self._width = width
        self._written = written

    def call(
        self, method: str, batch: Any, *_shape: Any, shared_buffers: Any = (), **_: Any
    ) -> Any:
        if method == "index_chunks":
            count = self._array.shape[1] // self._width
            return ChunkIndex(np.array([n in self._written for n in range(count)], "<u8").tobytes())
        if method == "gather_rows":
            return self.gather(batch, shared_buffers)
        for task in batch.tasks:
            first = task.number * self._width
            columns = self._array[:, first : first + self._width]
            self.decoded[task.number] += 1
            if batch.rows is None:
                place = task.number * columns.nbytes
                os.pwrite(shared_buffers[0].descriptor, columns.tobytes(), place)
                continue
            for row in range(*batch.rows):
                place = (row - batch.rows[0]) * self._array.shape[1] + first
                os.pwrite(shared_buffers[0].descriptor, columns[row].tobytes(), place)
        return ()


@pytest.mark.semantics("D2")
@pytest.mark.parametrize("written", [(), (5,), tuple(range(7)), tuple(range(16))])
def test_chunks_that_were_never_written_take_no_room_on_disk(written: tuple[int, ...]) -> None:
    array = np.zeros((256, 16 * 8192), np.uint8)
    for number in written:
        array[:, number * 8192 : (number + 1) * 8192] = number + 1
    workers = Columns(array, 8192, set(written))
    stream = Stream(1, array, len(array))
    stream.data = Chunked((len(array), 8192), (), b"\0")
    with reading(workers, cache_bytes=array.nbytes) as reader:
        stream.read(reader)
        stream.read(reader, (3, 1, 0, 2))
        blocks = reader._cache._blocks.values()
        (band,) = (block for block in blocks if block.shared_buffer.is_on_disk)
        assert band.is_whole
        taken = os.fstat(band.shared_buffer.descriptor).st_blocks * 512
        assert taken <= (len(written) / 16 + 0.1) * array.nbytes
    assert workers.decoded == dict.fromkeys(written, 1)


def columns_of(size_bytes: int) -> tuple[Columns, Stream]:
    """Return an array of rows of 10,000 bytes in chunks that are as tall, and 100 bytes wide."""
    array = make_array(size_bytes).reshape(-1)[: size_bytes // 10_000 * 10_000].reshape(-1, 10_000)
    stream = Stream(1, array, len(array))
    stream.data = Chunked((len(array), 100), (), b"\0")
    return Columns(array, 100, set(range(100))), stream


@pytest.mark.semantics("D2")
@pytest.mark.parametrize("order", [(0,), (1, 0), (3, 1, 0, 2)])
@pytest.mark.parametrize("request_bytes", [4096, 2**17, MB])
def test_chunks_larger_than_memory_are_decoded_once_and_rows_gathered_once(
    order: tuple[int, ...], request_bytes: int
) -> None:
    workers, stream = columns_of(40 * MB)
    with reading(workers, 32 * MB) as reader:
        stream.read(reader, order, request=request_bytes)
        assert reader.statistics().used_bytes <= 32 * MB
        assert reader.statistics().disk_bytes == -(-stream.array.nbytes // 4096) * 4096
    assert set(workers.decoded.values()) == {1} and len(workers.decoded) == 100
    assert set(workers.gathered.values()) == {1} and len(workers.gathered) >= 10


@pytest.mark.parametrize("mapped_bytes", [1, 2**30])
def test_bands_too_large_to_be_mapped_are_gathered_as_others(
    monkeypatch: pytest.MonkeyPatch, mapped_bytes: int
) -> None:
    monkeypatch.setattr("h5fs.store.workers.shared_buffers.LARGE_VIEWS_BYTES", mapped_bytes)
    workers, stream = columns_of(20 * MB)
    with reading(workers, 16 * MB) as reader:
        stream.read(reader)
    assert workers.gathered


@pytest.mark.semantics("D2")
def test_a_small_read_of_a_large_band_decodes_what_is_under_it_and_gathers_nothing() -> None:
    workers, stream = columns_of(20 * MB)
    with reading(workers, 8 * MB) as reader:
        for start, chunks in ((10_000_050, {0, 1}), (10_009_950, {99, 0, 1}), (50, {0, 1})):
            workers.decoded.clear()
            buffer = bytearray(100)
            reader.read_into(stream.ref, stream.dataset, stream.data, start, memoryview(buffer))
            assert buffer == stream.array.tobytes()[start : start + 100]
            assert set(workers.decoded) <= chunks
    assert not workers.gathered


@pytest.mark.semantics("D2")
def test_where_no_row_fits_into_memory_either_a_full_disk_is_an_error() -> None:
    workers, stream = columns_of(2 * MB)

    def fill_disk(method: str, *arguments: Any, **options: Any) -> Any:
        if method == "decode_chunks":
            raise NoRoomError("/1: no room for decoded chunks")
        return Columns.call(workers, method, *arguments, **options)

    workers.call = fill_disk  # type: ignore[method-assign]
    with reading(workers, 16_000) as reader:
        for _ in range(2):
            with pytest.raises(NoRoomError):
                buffer = memoryview(bytearray(10_000))
                reader.read_into(stream.ref, stream.dataset, stream.data, 0, buffer)
        assert reader.statistics().disk_bytes == 0


def test_a_band_file_that_a_worker_has_cut_is_an_error() -> None:
    workers, stream = columns_of(20 * MB)
    decode = workers.call

    def cut(method: str, *arguments: Any, shared_buffers: Any = (), **options: Any) -> Any:
        answer = decode(method, *arguments, shared_buffers=shared_buffers, **options)
        if method == "decode_chunks":
            os.ftruncate(shared_buffers[0].descriptor, 4096)
        return answer

    workers.call = cut  # type: ignore[method-assign]
    with reading(workers, 8 * MB) as reader, pytest.raises(UnreadableError, match="too short"):
        buffer = memoryview(bytearray(100))
        reader.read_into(stream.ref, stream.dataset, stream.data, 10 * MB, buffer)


def test_who_reads_rows_of_a_band_that_is_forgotten_meanwhile_gets_them() -> None:
    workers, stream = columns_of(20 * MB)
    decode = workers.call

    def forget(method: str, *arguments: Any, **options: Any) -> Any:
        answer = decode(method, *arguments, **options)
        if method == "decode_chunks":
            reader.note_change(None, {})
        return answer

    workers.call = forget  # type: ignore[method-assign]
    with reading(workers, 8 * MB) as reader:
        buffer = bytearray(MB)
        reader.read_into(stream.ref, stream.dataset, stream.data, 5000, memoryview(buffer))
        assert buffer == stream.array.tobytes()[5000 : 5000 + MB]
        assert not workers.gathered
        assert reader.statistics().disk_bytes == 0


@pytest.mark.semantics("D2")
@pytest.mark.parametrize("order", [(0,), (1, 0)])
def test_a_disk_that_is_full_gets_its_room_back_and_is_not_filled_again_for_a_while(
    monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]
) -> None:
    workers, stream = columns_of(20 * MB)
    decode, left = workers.call, [30]
    descriptors: set[int] = set()

    def fill_disk(method: str, *arguments: Any, shared_buffers: Any = (), **options: Any) -> Any:
        if method == "decode_chunks" and arguments[0].is_band_file:
            descriptors.add(os.dup(shared_buffers[0].descriptor))  # as a worker keeps it
            left[0] -= len(arguments[0].tasks)
            if left[0] < 0:
                raise NoRoomError("/1: no room for decoded chunks")
        return decode(method, *arguments, shared_buffers=shared_buffers, **options)

    workers.call = fill_disk  # type: ignore[method-assign]
    with reading(workers, 8 * MB) as reader:
        stream.read(reader, order)
        assert reader.statistics().disk_bytes == 0
        assert reader.statistics().used_bytes <= 8 * MB
        assert {os.fstat(each).st_blocks for each in descriptors} == {0}
        assert len(descriptors) <= 31
        # 20 MB by 2 MB, and what was in the band file already.
        assert max(workers.decoded.values()) <= 12
        left[0] = 1000
        stream.read(reader)
        reader.note_change(None, {})  # its data are of another version then
        stream.read(reader)
        assert not workers.gathered
        later = time.monotonic() + 61
        monkeypatch.setattr(time, "monotonic", lambda: later)
        stream.read(reader)
        assert workers.gathered
    for each in descriptors:
        os.close(each)


@pytest.mark.semantics("D2")
def test_where_no_file_can_be_made_for_a_band_it_is_read_as_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    workers, stream = columns_of(20 * MB)
    with reading(workers, 8 * MB) as reader:
        stream.read(reader)
    assert [each.getMessage().count("it is read more slowly") for each in caplog.records] == [1]


def fill_disk_of(workers: Columns) -> None:
    decode = workers.call

    def fill_disk(method: str, *arguments: Any, **options: Any) -> Any:
        if method == "decode_chunks" and arguments[0].is_band_file:
            raise NoRoomError("/1: no room for decoded chunks")
        return decode(method, *arguments, **options)

    workers.call = fill_disk  # type: ignore[method-assign]


def test_a_small_read_takes_the_memory_of_its_chunks_alone_also_where_the_disk_is_full() -> None:
    workers, stream = columns_of(80 * MB)
    buffer = memoryview(bytearray(10))
    before = shared_memory_bytes()
    fill_disk_of(workers)
    with reading(workers, 32 * MB) as reader:
        reader.read_into(stream.ref, stream.dataset, stream.data, 10 * MB, buffer)
        assert workers.decoded.total() == 1
        rows = 8 * MB // 10_000  # a page each
        assert shared_memory_bytes() - before <= rows * 4096 + 2 * 4096


def test_many_readers_of_a_full_disk_take_no_more_memory_than_there_is() -> None:
    workers, stream = columns_of(40 * MB)
    decode, most = workers.call, 0

    def look(method: str, *arguments: Any, **options: Any) -> Any:
        nonlocal most
        time.sleep(0.001)
        most = max(most, reader.statistics().used_bytes)
        return decode(method, *arguments, **options)

    workers.call = look  # type: ignore[method-assign]
    expected = stream.array.tobytes()

    def read(start: int) -> None:
        buffer = bytearray(100_000)
        reader.read_into(stream.ref, stream.dataset, stream.data, start, memoryview(buffer))
        assert buffer == expected[start : start + len(buffer)]

    fill_disk_of(workers)
    with reading(workers, 8 * MB) as reader:
        with ThreadPoolExecutor(12) as readers:
            list(readers.map(read, range(0, 36 * MB, 3 * MB)))
        assert most <= 8 * MB
