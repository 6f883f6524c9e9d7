"""Features of samples, append-only: what a network said about a file is computed once, whoever asks for it.

A row is named by (sample id, SHA-256 of the file, fingerprint of the network and its preprocessing). Parts are named by
their content and appear whole, so any number of workers write into one folder and a killed run loses at most the part
it was writing. What is read is sorted by sample id: neither the order of files nor of workers reaches the statistics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from goku_core.pipeline.errors import GokuError

NAMES = ("sample_id", "media", "network")


@dataclass(frozen=True)
class Features:
    """Rows of one network, sorted by sample id.

    ids      n sample ids
    vectors  by name ("pool", "spatial", "logits"): float32 (n, width)
    """

    ids: tuple[str, ...]
    vectors: Mapping[str, np.ndarray]


class FeatureStore:
    """A folder of Parquet parts. network: fingerprint of what computes the features; rows of other networks are not seen."""

    def __init__(self, folder: Path, network: str) -> None:
        self.folder, self.network = folder, network
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, ids: Sequence[str], media: Sequence[str], vectors: Mapping[str, np.ndarray]) -> None:
        """One new part. vectors: by name, (n, width), kept as float32. Raises GokuError for NaN and for unequal lengths."""
        if not ids:
            return
        columns: dict[str, pa.Array] = {
            "sample_id": pa.array(ids, pa.string()),
            "media": pa.array(media, pa.string()),
            "network": pa.array([self.network] * len(ids), pa.string()),
        }
        for name, rows in vectors.items():
            values = np.ascontiguousarray(rows, dtype=np.float32)
            if values.ndim != 2 or not len(ids) == len(media) == len(values):
                raise GokuError(f"features {name!r}: {values.shape} for {len(ids)} samples and {len(media)} files")
            if not np.isfinite(values).all():
                bad = ids[int(np.argmin(np.isfinite(values).all(axis=1)))]
                raise GokuError(
                    f"features {name!r} of sample {bad} hold NaN or infinity: the network or the file is broken"
                )
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        table = pa.table(columns)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        written = sink.getvalue()
        place = self.folder / f"part-{hashlib.sha256(written).hexdigest()[:24]}.parquet"
        draft = place.with_suffix(".draft")
        draft.write_bytes(written)
        draft.rename(place)

    def known(self) -> set[tuple[str, str]]:
        """(sample id, digest of the file) of every row of this network."""
        return {
            (row["sample_id"], row["media"])
            for part in self._parts()
            for row in pq.read_table(part, columns=list(NAMES)).to_pylist()
            if row["network"] == self.network
        }

    def read(self, wanted: Iterable[tuple[str, str]]) -> Features:
        """The rows of these (sample id, digest of the file).

        Raises GokuError naming what is missing, and where two rows of one name differ (then the network is not
        deterministic, or its fingerprint leaves something out).
        """
        asked = dict(wanted)
        found: dict[str, dict[str, np.ndarray]] = {}
        for part in self._parts():
            table = pq.read_table(part)
            vectors = {
                name: table[name].combine_chunks().values.to_numpy().reshape(table.num_rows, -1)
                for name in table.column_names
                if name not in NAMES
            }
            named = zip(*(table[name].to_pylist() for name in NAMES), strict=True)
            for number, (sample, media, network) in enumerate(named):
                if network != self.network or asked.get(sample) != media:
                    continue
                row = {name: values[number] for name, values in vectors.items()}
                _agree(sample, found.setdefault(sample, row), row)
        if missing := sorted(set(asked) - set(found)):
            raise GokuError(
                f"{self.folder}: features of {len(missing)} of {len(asked)} samples are missing, the first is {missing[0]}. "
                "Run the same command again: it computes what is missing and nothing else."
            )
        ids = tuple(sorted(found))
        names = sorted(found[ids[0]]) if ids else []
        return Features(ids, {name: np.stack([found[sample][name] for sample in ids]) for name in names})

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))


def _agree(sample: str, earlier: Mapping[str, np.ndarray], row: Mapping[str, np.ndarray]) -> None:
    same = earlier.keys() == row.keys() and all(np.array_equal(earlier[name], row[name]) for name in row)
    if not same:
        raise GokuError(
            f"features: two rows of sample {sample} by one network differ. They were computed on machines that round "
            "differently: delete the folder of features and compute all of them on one kind of machine."
        )
