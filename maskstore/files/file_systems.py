"""Which file system a file lies on, and whether other machines may use the file at the same time.

SQLite's write-ahead log needs memory that all its users share. On a network file system users on two machines have no
such memory: each would believe that it is alone, and the bank would be damaged. So a bank is not written there, and it
is read there only if the caller says that nobody writes to it. `docs/clusters.md` has the types and the reasons.
"""

import os
import re
import time
from pathlib import Path

from maskstore.errors import NetworkFileSystemError

_MOUNTS = Path("/proc/self/mountinfo")
"""Linux lists there what is mounted; on other systems the type of a file system is not known here."""
_FRESH = 1.0  # seconds for which a list that was read is used again
# fmt: off
_NETWORK = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "auristorfs", "lustre", "gpfs", "mmfs", "ceph",
        "beegfs", "beegfs_nodev", "fhgfs", "panfs", "pvfs2", "orangefs", "glusterfs", "wekafs", "vastfs",
        "quobyte", "9p", "coda", "davfs", "vboxsf", "vmhgfs", "prl_fs", "gfs2", "ocfs2",
    }
)
_LOCAL_FUSE = frozenset(
    {
        "gocryptfs", "encfs", "cryfs", "securefs", "bindfs", "mergerfs", "fuse-overlayfs", "ntfs-3g", "ntfs",
        "exfat", "exfat-fuse", "fuse2fs", "ext2", "apfs", "apfs-fuse", "squashfuse", "erofsfuse", "zfs",
    }
)
# fmt: on
"""FUSE file systems that keep files on disks of this machine; of every other one it is not known where they are."""
Mounts = list[tuple[str, str]]
_READ: dict[Path, tuple[float, Mounts]] = {}


def is_network_type(kind: str) -> bool:
    """Whether other machines may use the files of a file system of this type, such as "nfs4" or "fuse.sshfs".

    Examples:
        >>> from maskstore.files import is_network_type
        >>> [is_network_type(kind) for kind in ("ext4", "overlay", "nfs4", "fuse.sshfs", "fuse.gocryptfs", "fuseblk")]
        [False, False, True, True, False, False]
    """
    name, _, program = kind.partition(".")
    return kind in _NETWORK or (name == "fuse" and program not in _LOCAL_FUSE)


def mount_of(path: Path) -> tuple[str, str]:
    """The type of the file system that a path lies on, and where that is mounted; two empty texts if not known.

    Symbolic links are followed. The file need not be there.
    """
    place, best = os.path.realpath(path), ("", "")
    for kind, where in _mounts():
        inside = place == where or place.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best[1]):  # of mounts at one place the last one is seen
            best = kind, where
    return best


def check_local(path: Path, *, reading: bool = False) -> None:
    """NetworkFileSystemError for a bank on a network file system, which says what to do instead.

    Args:
        path: The bank, or the folder that it is to be made in.
        reading: Whether it is only read.
    """
    kind, where = mount_of(path)
    if not is_network_type(kind):
        return
    found = f"found the network file system {kind} at {where}"
    if reading:
        raise NetworkFileSystemError(
            f"{path}: expected a bank on a disk of this machine, {found}, where a writer on another machine is not "
            "seen; `immutable=True` reads the bank as it lies there, if nobody writes to it"
        )
    raise NetworkFileSystemError(
        f"{path}: expected a disk of this machine to write a bank to, {found}; write to a local folder and copy what "
        "is finished, as docs/clusters.md shows"
    )


def _mounts() -> Mounts:
    """Type and place of all that is mounted, in the order in which it was."""
    when, found = _READ.get(_MOUNTS, (-_FRESH, []))
    if time.monotonic() - when < _FRESH:
        return found
    try:
        lines = os.fsdecode(_MOUNTS.read_bytes()).split("\n")
    except OSError:
        lines = []
    pairs = (line.split(" - ", 1) for line in lines if " - " in line)
    found = [(end.split(" ")[0], _plain(start.split(" ")[4])) for start, end in pairs if start.count(" ") >= 5]
    _READ.clear()
    _READ[_MOUNTS] = time.monotonic(), found
    return found


def _plain(place: str) -> str:
    """A path in which spaces, tabs, ends of lines and backslashes were written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place)
