"""A folder that changes as a ConfigMap does that kubelet has mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class MountedConfigMap:
    """A folder with the files of a ConfigMap, all of which change at once.

        volume = MountedConfigMap(tmp_path / "kube-dns")
        volume.swap(stubDomains='{"example.org": ["192.0.2.1"]}')

    As with kubelet, each file is a symbolic link into `..data`, which is a symbolic link to the
    folder of the current version; `swap` replaces `..data` with one rename.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which the first `swap` makes."""
        self.folder = folder
        self._number = 0

    def swap(self, **files: str) -> None:
        """Switch to a version with exactly these files, given as name and content."""
        self.folder.mkdir(exist_ok=True)
        self._number += 1
        version = self.folder / f"..2026_{self._number}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
        new = self.folder / "..data_tmp"
        new.symlink_to(version.name)
        new.rename(self.folder / "..data")
        for name in files:
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        for link in self.folder.iterdir():
            if not link.name.startswith("..") and link.name not in files:
                link.unlink()
