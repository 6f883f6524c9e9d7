"""What parent and child say to each other over a pipe, and how a batch becomes bytes.

A message is one byte of kind, eight bytes of length, and that many bytes: JSON for setup and failures, an Arrow IPC
stream for batches.
"""

from __future__ import annotations

import struct

import pyarrow as pa

HEADER = struct.Struct(">cQ")
SETUP, READY, BATCH, RESULT, FAILURE = b"S", b"Y", b"B", b"R", b"F"


def as_bytes(batch: pa.RecordBatch) -> bytes:
    """One batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def from_bytes(data: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_next_batch()
