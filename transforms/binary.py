"""Arrow's columns and batches as plain bytes, and back."""

from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa


def binary_ends(values: pa.BinaryArray | pa.StringArray) -> npt.NDArray[np.int32]:
    """Where each value ends in the data, with the first one's start before them."""
    offsets = values.buffers()[1]
    return np.frombuffer(offsets, "<i4", len(values) + 1, 4 * values.offset) if len(values) else np.zeros(1, "<i4")


def pack_binary(values: pa.BinaryArray) -> tuple[bytes, bytes, memoryview]:
    """Which are not null (a bit each; nothing when all are), where each ends (int32, from 0), and the bytes."""
    ends, data, known = binary_ends(values), values.buffers()[2], b""
    if values.null_count:
        known = np.packbits(values.is_valid().to_numpy(zero_copy_only=False), bitorder="little").tobytes()
    start, stop = int(ends[0]), int(ends[-1])
    held = memoryview(data)[start:stop] if data is not None else memoryview(b"")
    return known, (ends - start if start else ends).tobytes(), held


def unpack_binary(known: memoryview, ends: memoryview, data: memoryview) -> pa.BinaryArray:
    """The inverse of pack_binary; a view into `data`."""
    aligned = pa.py_buffer(bytes(ends))  # Arrow wants its integers at multiples of their size
    validity = pa.py_buffer(known) if len(known) else None
    return pa.BinaryArray.from_buffers(pa.binary(), len(ends) // 4 - 1, [validity, aligned, pa.py_buffer(data)])


def ipc_bytes(batch: pa.RecordBatch) -> bytes:
    """An Arrow batch as an IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    found: bytes = sink.getvalue().to_pybytes()
    return found


class ArrowBatchCoder(beam.coders.Coder):
    """pa.RecordBatch as an Arrow IPC stream between stages; the schema travels along."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        return ipc_bytes(value)

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        with pa.ipc.open_stream(encoded) as stream:
            return stream.read_next_batch()

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> Any:
        return pa.RecordBatch


beam.coders.registry.register_coder(pa.RecordBatch, ArrowBatchCoder)
