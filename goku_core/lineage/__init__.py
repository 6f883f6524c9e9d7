"""Where something came from and what was made of it, from records on disk or in a bucket: no server is asked."""

from __future__ import annotations

from goku_core.lineage.chain import Chain, chain
from goku_core.lineage.index import Node

__all__ = ["Chain", "Node", "chain"]
