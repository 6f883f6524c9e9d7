"""Latents and text features on disk: safetensors shards named by content, planned from one Parquet index."""

from goku_core.shards.reader import ShardReader
from goku_core.shards.writer import ShardWriter, index_schema, write_index

__all__ = ["ShardReader", "ShardWriter", "index_schema", "write_index"]
