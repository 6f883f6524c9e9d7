"""Content store: every committed file once, named by its SHA-256, shared with the workspace by hard link.

Objects are read-only, and because a workspace output is the same inode, so is the output: an edit in place would change
the store too. Whoever restores checks the digest first; an object that differs is dropped and the work is done again.
"""

from __future__ import annotations

from pathlib import Path

from goku_core.pipeline.files import link
from goku_core.pipeline.fingerprint import Digests, Tree

READ_ONLY = 0o444


class Store:
    def __init__(self, root: Path, digests: Digests) -> None:
        self.root, self._digests = root, digests

    def place(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256

    def put(self, place: Path, tree: Tree) -> None:
        """Take in every file of `tree`, which lies at `place`; its files become links to the store's objects."""
        for name, sha256 in tree.files.items():
            self.take(place / name if tree.folder else place, sha256)

    def take(self, file: Path, sha256: str) -> None:
        """Take in one file with that digest; it becomes a link to the store's object."""
        target = self.place(sha256)
        if self.holds(sha256):
            if not target.samefile(file):
                link(target, file)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        link(file, target)
        target.chmod(READ_ONLY)

    def holds(self, sha256: str) -> bool:
        """Is the object here with the right bytes? A damaged one is removed."""
        target = self.place(sha256)
        if not target.is_file():
            return False
        if self._digests.file(target) == sha256:
            return True
        target.unlink(missing_ok=True)
        return False

    def holds_tree(self, tree: Tree) -> bool:
        return all(self.holds(sha256) for sha256 in set(tree.files.values()))

    def lay_out(self, tree: Tree, place: Path) -> None:
        """Build `tree` at `place` (which must not exist) from the store's objects."""
        place.parent.mkdir(parents=True, exist_ok=True)
        if not tree.folder:
            link(self.place(tree.files[""]), place)
            return
        place.mkdir()
        for name, sha256 in tree.files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            link(self.place(sha256), place / name)
