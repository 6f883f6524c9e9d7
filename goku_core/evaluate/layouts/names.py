"""How each benchmark calls the file of a sample, as folders and a name.

Some prompts cannot be file names: they hold "/", are longer than the 255 bytes of a file system, or two of them become one
name. Such samples have a second name, by-id/<sample id>, which no prompt can collide with, as it lies in a folder of its own.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from goku_core.evaluate.manifest import Sample
from goku_core.pipeline.errors import GokuError

Parts = tuple[str, ...]
MOST_BYTES = 255  # of a name, in ext4, XFS, APFS and NTFS
BY_ID = "by-id"
SUFFIX = {"image": ".png", "video": ".mp4"}
VBENCH2_LETTERS = 180
SETS = {"imagenet": "image", "ucf101": "video"}
"""Benchmarks of whole sets, whose layout is a plain folder."""


def official(samples: Sequence[Sample]) -> dict[str, Parts]:
    """Sample id -> folders and name, as the benchmark's own code writes it, whether a file can be called so or not.

    The four tiles of a DPG-Bench prompt share one name. Raises GokuError where the plan does not fit the layout.
    """
    benchmarks = {sample.benchmark for sample in samples}
    if len(benchmarks) > 1:
        raise GokuError(f"samples of {', '.join(sorted(benchmarks))} are in one plan: no benchmark has a layout for it")
    named = _NAMED.get(next(iter(benchmarks), ""), _plain)
    return named(samples)


def by_id(sample: Sample) -> Parts:
    """The second name of a sample."""
    return BY_ID, sample.sample_id + SUFFIX[sample.media]


def trouble(names: dict[str, Parts], fold: bool, shared: bool = False) -> dict[str, str]:
    """Sample id -> why its name cannot be that of a file; samples that can are not in it.

    fold    the file system takes names that differ by case or by Unicode composition for one
    shared  several samples lie in one file, so that equal names are meant
    """

    def key(parts: Parts) -> Parts:
        return tuple(unicodedata.normalize("NFC", part).casefold() for part in parts) if fold else parts

    counted = Counter(key(parts) for parts in (set(names.values()) if shared else names.values()))
    found = {}
    for sample_id, parts in names.items():
        if why := next((why for part in parts if (why := _illegal(part))), ""):
            found[sample_id] = why
        elif counted[key(parts)] > 1:
            found[sample_id] = "another sample has the same name" + (" but for its case" if fold else "")
    return found


def _illegal(part: str) -> str:
    if part in ("", ".", ".."):
        return f"{part!r} is no name"
    if "/" in part or "\0" in part:
        return 'it holds "/" or a zero byte'
    try:
        size = len(part.encode("utf-8"))
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair"
    return f"it has {size} bytes, a file name at most {MOST_BYTES}" if size > MOST_BYTES else ""


def prompt_number(sample: Sample) -> int:
    """Number of the prompt in its suite."""
    return int(sample.prompt.prompt_id.rsplit("-", 1)[1])


def _geneval(samples: Sequence[Sample]) -> dict[str, Parts]:
    return {s.sample_id: (f"{prompt_number(s):05d}", "samples", f"{s.index:04d}.png") for s in samples}


def _vbench(samples: Sequence[Sample]) -> dict[str, Parts]:
    return {s.sample_id: (f"{s.prompt.text}-{s.index}.mp4",) for s in samples}


def _vbench2(samples: Sequence[Sample]) -> dict[str, Parts]:
    """Its own code cuts prompts at 180 letters."""
    return {s.sample_id: (s.prompt.dimensions[0], f"{s.prompt.text[:VBENCH2_LETTERS]}-{s.index}.mp4") for s in samples}


def _dpg(samples: Sequence[Sample]) -> dict[str, Parts]:
    return {s.sample_id: (f"{s.prompt.metadata['item_id']}.png",) for s in samples}


def _compbench(samples: Sequence[Sample]) -> dict[str, Parts]:
    """One running number per category: pictures of a prompt after one another, prompts in the order of their file."""
    many: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        many[sample.task][sample.prompt.prompt_id] += 1
    for category, counts in many.items():
        if len(set(counts.values())) > 1:
            raise GokuError(f"{category}: prompts have {min(counts.values())} to {max(counts.values())} pictures each; "
                            "the layout numbers them in one row and needs as many of each")  # fmt: skip
    names = {}
    for sample in samples:
        pictures = many[sample.task][sample.prompt.prompt_id]
        number = sample.prompt.metadata["row"] * pictures + sample.index
        names[sample.sample_id] = (sample.task, "samples", f"{sample.prompt.text}_{number:06d}.png")
    return names


def _plain(samples: Sequence[Sample]) -> dict[str, Parts]:
    """The file that a sample was taken from, else its id."""
    names = {}
    for sample in samples:
        given = sample.prompt.metadata.get("file")
        suffix = SUFFIX[sample.media]
        if given is None:
            names[sample.sample_id] = (sample.sample_id + suffix,)
        else:
            names[sample.sample_id] = PurePosixPath(given).parts
    return names


_NAMED: dict[str, Callable[[Sequence[Sample]], dict[str, Parts]]] = {
    "geneval": _geneval,
    "vbench": _vbench,
    "vbench2": _vbench2,
    "dpg": _dpg,
    "compbench": _compbench,
}
