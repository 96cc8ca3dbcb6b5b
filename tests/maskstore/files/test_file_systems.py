"""Banks on network file systems: told from the list of what is mounted, which stands in for the real one here."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec, open_source
from maskstore.bank import compact
from maskstore.errors import BankNotFoundError, MaskStoreError, NetworkFileSystemError, SpecError
from maskstore.files import file_systems, is_network_type, mount_of
from maskstore.interop import merge, write_shard
from tests.helpers.commands import maskstore

SPEC = MaskSpec({"fc1": (20, 40)})
MASK = {"fc1": np.arange(800).reshape(20, 40) % 7 == 0}
LOCAL = (
    *("ext4", "ext3", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "overlay", "apfs", "ntfs3", "exfat", "vfat"),
    *(
        "squashfs",
        "iso9660",
        "virtiofs",
        "fuseblk",
        "fuse.gocryptfs",
        "fuse.ntfs-3g",
        "fuse.fuse-overlayfs",
        "bcachefs",
    ),
)
NETWORK = (
    *("nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "ceph", "9p", "beegfs", "afs", "glusterfs", "vboxsf", "gfs2"),
    *("fuse", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.gcsfuse", "fuse.never-heard-of"),
)


class Mounted:
    """Stands in for the list of what is mounted, with one more file system."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch, self._count = folder, patch, 0

    def __call__(self, *mounts: tuple[str, Path | str]) -> None:
        self._count += 1
        path = self._folder / f"mountinfo-{self._count}"
        lines = [
            f"{n} 1 0:{n} / {place} rw,relatime shared:1 - {kind} dev rw" for n, (kind, place) in enumerate(mounts)
        ]
        path.write_text("\n".join(["22 27 0:21 / / rw - ext4 /dev/vda rw", *lines, ""]))
        self._patch.setattr(file_systems, "_MOUNTS", path)


@pytest.fixture
def mounted(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Mounted:
    return Mounted(tmp_path_factory.mktemp("mounts"), monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with MaskBank.create(tmp_path / "a.bank", SPEC) as bank:
        bank.put("task-0", MASK)
    return tmp_path / "a.bank"


@pytest.mark.parametrize("kind", NETWORK)
def test_a_network_type_is_refused_in_every_mode_but_as_immutable(kind: str, path: Path, mounted: Mounted) -> None:
    mounted((kind, path.parent))
    for use in (
        lambda: MaskBank.open(path),
        lambda: MaskBank.open(path, "a"),
        lambda: MaskBank.create(path.parent / "b.bank", SPEC),
        lambda: MaskBank.create(path, SPEC, exist_ok=True),
        lambda: open_source(path),
        lambda: compact(path),
        lambda: merge([path], path.parent / "b.bank", immutable=True),
        lambda: merge([path], path.parent / "b.bank"),
    ):
        with pytest.raises(NetworkFileSystemError, match=rf"found the network file system {kind} at "):
            use()
    assert os.listdir(path.parent) == ["a.bank"] or sorted(os.listdir(path.parent)) == ["a.bank", "a.bank.lock"]
    for opened in (MaskBank.open(path, immutable=True), open_source(path, immutable=True)):
        with opened:
            assert opened["task-0"].dense()["fc1"].tolist() == MASK["fc1"].tolist()
            assert opened.verify() == 1
    assert not list(path.parent.glob("*-shm"))  # nothing is written there


@pytest.mark.parametrize("kind", LOCAL)
def test_a_local_type_is_used_as_ever(kind: str, path: Path, mounted: Mounted) -> None:
    mounted((kind, path.parent))
    assert mount_of(path) == (kind, str(path.parent))
    assert not is_network_type(kind)
    with MaskBank.open(path, "a") as bank:
        bank.put("task-1", MASK)
    assert list(MaskBank.open(path)) == ["task-0", "task-1"]


def test_the_deepest_mount_counts_and_of_those_at_one_place_the_last(path: Path, mounted: Mounted) -> None:
    inner = path.parent / "inner"
    inner.mkdir()
    mounted(("nfs4", path.parent), ("xfs", inner))
    assert mount_of(inner / "b.bank")[0] == "xfs"
    assert mount_of(path)[0] == "nfs4"
    assert mount_of(Path(f"{path.parent}x/b.bank"))[0] == "ext4"  # another folder that begins alike
    mounted(("autofs", path.parent), ("nfs4", path.parent))
    assert mount_of(path)[0] == "nfs4"
    mounted(("nfs4", path.parent), ("tmpfs", path.parent))
    assert mount_of(path)[0] == "tmpfs"


def test_names_with_spaces_links_and_relative_paths(
    path: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = path.parent / "a share\\1"
    share.mkdir()
    (path.parent / "link").symlink_to(share)
    mounted(("cifs", str(share).replace("\\", "\\134").replace(" ", "\\040")))
    monkeypatch.chdir(path.parent)
    for place in (share / "b.bank", path.parent / "link" / "b.bank", Path("link/b.bank")):
        with pytest.raises(NetworkFileSystemError, match="cifs"):
            MaskBank.create(place, SPEC)
    path.rename(share / "c.bank")
    (path.parent / "d.bank").symlink_to(share / "c.bank")
    with pytest.raises(NetworkFileSystemError, match="cifs"):
        MaskBank.open(path.parent / "d.bank")
    assert list(MaskBank.open("d.bank", immutable=True)) == ["task-0"]


def test_where_the_types_are_not_known_nothing_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (None, "", "nonsense\n", "1 2 - nfs4\n"):
        listed = tmp_path / f"mounts-{content is None}-{len(content or '')}"
        if content is not None:
            listed.write_text(content)
        monkeypatch.setattr(file_systems, "_MOUNTS", listed)
        assert mount_of(path) == ("", "")
        assert list(MaskBank.open(path)) == ["task-0"]


def test_the_list_of_this_machine_is_understood(path: Path) -> None:
    if not Path("/proc/self/mountinfo").exists():
        pytest.skip("needs Linux")
    kind, where = mount_of(path)
    assert kind
    assert str(path).startswith(where)


def test_a_missing_bank_is_said_to_be_missing(path: Path, mounted: Mounted) -> None:
    mounted(("nfs4", path.parent))
    with pytest.raises(BankNotFoundError):
        MaskBank.open(path.parent / "none.bank")


def test_immutable_is_for_reading_and_is_kept_when_pickled(path: Path, mounted: Mounted) -> None:
    with pytest.raises(SpecError, match='expected "r" for a bank that is immutable'):
        MaskBank.open(path, "a", immutable=True)
    mounted(("nfs4", path.parent))
    with MaskBank.open(path, immutable=True) as bank, pickle.loads(pickle.dumps(bank)) as again:
        assert list(again) == ["task-0"]


def test_an_immutable_bank_with_a_log_is_read_whole(path: Path, mounted: Mounted) -> None:
    """A writer that was killed leaves its log; both are copied to the temporary folder."""
    bank = MaskBank.open(path, "a")
    bank.put("task-1", MASK)
    other = path.parent / "copy"
    other.mkdir()
    for name in ("a.bank", "a.bank-wal"):
        (other / name).write_bytes((path.parent / name).read_bytes())
    bank.close()
    mounted(("nfs4", other))
    with MaskBank.open(other / "a.bank", immutable=True) as opened:
        assert list(opened) == ["task-0", "task-1"]


def test_a_bank_that_changes_although_it_is_immutable_is_read_anew(path: Path, mounted: Mounted) -> None:
    new = path.parent / "b.bank"
    with MaskBank.create(new, SPEC) as bank:
        bank.put("task-9", MASK)
    mounted(("nfs4", path.parent))
    with MaskBank.open(path, immutable=True) as opened:
        assert list(opened) == ["task-0"]
        new.replace(path)
        with pytest.raises(MaskStoreError, match="found it deleted or replaced"):
            list(opened)


def test_the_commands_say_the_option_and_take_it(
    path: Path, mounted: Mounted, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shard(MaskBank.open(path), path.parent / "a.shard")
    outside = path.parent.parent / "b.bank"
    mounted(("nfs4", path.parent))
    commands: dict[str, tuple[object, ...]] = {
        "ls": (path,),
        "stats": (path,),
        "verify": (path,),
        "get": (path, "task-0", "-o", path.parent / "m.npz"),
        "export": (path, path.parent / "e.npz"),
        "diff": (path, path),
        "merge": (path, path.parent / "a.shard", outside, "--overwrite"),
    }
    for command, words in commands.items():
        assert maskstore(command, *words) == 1
        assert "--immutable reads the bank as it lies there" in capsys.readouterr().err
        assert maskstore(command, *words, "--immutable") == 0
    assert list(MaskBank.open(outside)) == ["task-0"]
    for words in (("rm", path, "task-0"), ("compact", path), ("put", path, "t", path.parent / "m.npz")):
        assert maskstore(*words) == 1
        assert "expected a disk of this machine to write a bank to" in capsys.readouterr().err
