"""Published scores of other models, as data with sources, and whether each row agrees with itself."""

from goku_core.evaluate.published.reading import Doubt, PublishedRow, Source, benchmarks, doubts, rows

__all__ = ["Doubt", "PublishedRow", "Source", "benchmarks", "doubts", "rows"]
