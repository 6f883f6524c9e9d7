"""The supervised pool: an operator runs over a table in child processes that we own, here or on a Ray cluster.

An operator is a function ``(pyarrow.RecordBatch, settings: dict) -> pyarrow.RecordBatch``, named
"package.module:function". It may return any number of rows per input row, and must answer an empty batch with an empty
batch of its schema. It knows no engine; rows carry ids, places and spans, never pixels.

Why our own pool: no engine contains a decoder's segmentation fault, a hang or a memory bomb. Here each is contained:
the child is killed and replaced, its batch is tried again, then row by row, and a row that fails alone is quarantined
while all others go on. Messages to children are JSON and Arrow, never pickle. On a cluster the same child works inside
a Ray worker.
"""

from goku_core.pipeline.pool.devices import Devices
from goku_core.pipeline.pool.operator import choose_engine, run_operator
from goku_core.pipeline.pool.result import PoolResult, Quarantined

__all__ = ["Devices", "PoolResult", "Quarantined", "choose_engine", "run_operator"]
