"""Manifests as YAML: the bytes that are shown are those that are applied."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import yaml

from goku_core.submit.order import Manifest


class _Dumper(yaml.SafeDumper):
    """Nothing is said by reference, and files keep their lines."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def rendered(manifests: Sequence[Manifest]) -> str:
    return "".join(
        "---\n" + yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True) for one in manifests
    )


def difference(before: str, after: str, names: tuple[str, str]) -> str:
    """Unified, without the lines around: what of the one is not in the other."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), *names, n=1, lineterm="")
    return "".join(f"{line}\n" for line in lines)
