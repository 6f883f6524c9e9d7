"""Latents and text features on disk: safetensors shards named by content, planned from one Parquet index."""

from goku_core.shards.encoders import refuse_other_encoders
from goku_core.shards.places import Files, Ranged
from goku_core.shards.reader import ShardReader
from goku_core.shards.writer import ShardWriter, index_schema, index_table, write_index

__all__ = [
    "Files",
    "Ranged",
    "ShardReader",
    "ShardWriter",
    "index_schema",
    "index_table",
    "refuse_other_encoders",
    "write_index",
]
