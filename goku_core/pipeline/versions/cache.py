"""Where DVC keeps the bytes of an output: a second place to restore from.

A fresh clone has no store of ours; after `dvc pull` it has DVC's cache. And `dvc repro` removes a stage's outputs before
it runs the command, so that the workspace cannot answer either. Read from DVC's files alone; DVC is not imported.
"""

from __future__ import annotations

import configparser
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # built without libyaml: slower
    from yaml import SafeLoader


class DvcCache:
    """DVC's cache of the work tree at `root`; empty where DVC does not work."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self, path: str) -> dict[str, Path]:
        """Files of the output at `path` as dvc.lock has it: relative path (empty for a single file) -> place in the cache.

        Those that have not been pulled are left out. What they hold is for the caller to check: they are named by MD5.
        """
        name = self.outputs.get(path)
        if name is None:
            return {}
        if not name.endswith(".dir"):
            members = {"": name}
        else:
            listing = self._place(name)
            if not listing.is_file():
                return {}
            members = {one["relpath"]: one["md5"] for one in json.loads(listing.read_text(encoding="utf-8"))}
        places = {relative: self._place(md5) for relative, md5 in members.items()}
        return {relative: place for relative, place in places.items() if place.is_file()}

    @cached_property
    def outputs(self) -> dict[str, str]:
        """Path -> MD5 of all outputs in dvc.lock; of a folder, of its listing."""
        file = self._root / "dvc.lock"
        if not file.is_file():
            return {}
        try:
            value = yaml.load(file.read_text(encoding="utf-8"), Loader=SafeLoader)
        except yaml.YAMLError:  # in the middle of a merge: DVC will say so, and this is only a second place to look
            return {}
        stages: Mapping[str, Any] = (value or {}).get("stages", {})
        outputs = (out for stage in stages.values() for out in stage.get("outs", ()))
        return {out["path"]: out["md5"] for out in outputs if "md5" in out}

    @cached_property
    def _cache(self) -> Path:
        settings = configparser.ConfigParser(strict=False, interpolation=None)
        settings.read([self._root / ".dvc/config", self._root / ".dvc/config.local"], encoding="utf-8")
        return self._root / ".dvc" / settings.get("cache", "dir", fallback="cache")

    def _place(self, md5: str) -> Path:
        return self._cache / "files" / "md5" / md5[:2] / md5[2:]
