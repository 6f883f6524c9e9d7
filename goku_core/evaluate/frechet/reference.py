"""What a set is measured against: statistics that were published, or another set.

ADM's reference batches are .npz files with `mu`, `sigma` (pool_3), `mu_s`, `sigma_s` (spatial), taken over the whole training
set, and `arr_0`, 10,000 of its pictures, on which precision and recall are taken. Pickled arrays are not read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from goku_core.evaluate.frechet.moments import Moments
from goku_core.pipeline.errors import GokuError

STORED = {"pool": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}


def published(path: Path) -> Mapping[str, Moments]:
    """Statistics stored in an .npz, by name of the feature; empty where it holds pictures alone.

    Raises GokuError for a file that is no .npz or would have to be unpickled.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {
                name: Moments(arrays[mean], arrays[covariance])
                for name, (mean, covariance) in STORED.items()
                if mean in arrays.files and covariance in arrays.files
            }
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise GokuError(f"{path} cannot be read as an .npz of plain arrays: {str(error).splitlines()[0]}") from error


def holds_pictures(path: Path) -> bool:
    """Whether there are pictures behind the reference: a folder, or an .npz with `arr_0`."""
    if path.is_dir():
        return True
    with np.load(path, allow_pickle=False) as arrays:
        return "arr_0" in arrays.files
