"""Files of another user: an error of the system becomes one line that names the file, its owner and what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from selftrain.errors import InputError

NOT_OURS: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says of a file or folder that this user may not make, change or open."""


def not_permitted(error: BaseException) -> InputError | None:
    """The line for `error`, if it says that this user may not use a file; else None."""
    if not isinstance(error, OSError) or error.errno not in NOT_OURS or error.filename is None:
        return None
    path = Path(os.fsdecode(error.filename)).absolute()
    there = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
    if error.errno == errno.EROFS:
        return InputError(f"{path} cannot be used ({error.strerror}): name a place that can be written to")
    if _is_ours(there):
        return InputError(
            f"{path} cannot be used ({error.strerror}): it is yours; give yourself the right with chmod u+rwX"
        )
    return InputError(
        f"{path} cannot be used ({error.strerror}): {there} belongs to {_owner(there)}, and this is "
        f"{_user(os.geteuid())}. Have it made yours, or run as its owner, or name another place, such as a workspace "
        "of your own"
    )


def _is_ours(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _owner(path: Path) -> str:
    try:
        return _user(path.lstat().st_uid)
    except OSError:
        return "another user"


def _user(uid: int) -> str:
    """The name of the user `uid`; in a container it may have none."""
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name!r}"
    except KeyError:
        return f"user {uid}"
