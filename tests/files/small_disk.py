"""A small disk: a file system in memory, which only root may mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SmallDisk:
    """A file system that is mounted at `folder`."""

    folder: Path

    def resize(self, size: str) -> None:
        """Give it the size `size`, such as 20m."""
        subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], check=True)

    def leave(self, room_kb: int) -> None:
        """Make it so small that this much room is left."""
        self.resize(f"{shutil.disk_usage(self.folder).used // 1024 + room_kb}k")

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)


def mounted(folder: Path, size: str) -> SmallDisk | str:
    """A file system of `size` at `folder`, or why there is none."""
    if os.geteuid() != 0:
        return "only root may mount a small file system"
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"this machine does not let root mount a tmpfs: {made.stderr.strip()}"
    return SmallDisk(folder)
