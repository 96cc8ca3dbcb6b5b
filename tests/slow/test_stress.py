"""Short versions of the stress programs: kills, full disks, two processes, readers beside a writer, flipped bits."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import in_fresh_process
from tests.stress import bit_flips, readers, two_processes

ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
pytestmark = pytest.mark.slow


@linux
@pytest.mark.parametrize("careless", [False, True])
def test_a_process_that_opens_a_bank_twice_loses_nothing(careless):
    found = two_processes.run(4, careless=careless)
    assert found["acknowledged"] > 12
    assert (found["lost"], found["wrong"]) == (0, 0)
    assert careless or found["unlocked"] == 0


@linux
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_readers_beside_a_writer_are_never_stale():
    for who, tally in readers.run(4).items():
        assert tally["reads"] > 0, who
        assert (tally["stale"], tally["wrong"], tally["errors"]) == (0, 0, 0), (who, tally.first)


@pytest.mark.parametrize("write", [False, True])
def test_one_flipped_bit_gives_nothing_wrong(write):
    for kind, counts in bit_flips.run(stride=397, write=write).items():
        assert counts["refused"] > 0
        assert not {key: n for key, n in counts.items() if key.startswith(("wrong", "unnamed", "lost"))}, kind


@linux
def test_kills_of_every_kind_of_writer_lose_nothing():
    found = in_fresh_process("import sys; from tests.stress.kills import main; sys.exit(main())", "--kills", "14")
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count('"acknowledged"') == 7


@linux
@pytest.mark.parametrize("program", [("full_disks", "--cases", "80"), ("full_disk_served",)])
def test_full_disks_lose_nothing(program):
    name, *options = program
    command = ["unshare", "-rm", sys.executable, "-m", f"tests.stress.{name}", *options]
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare")
    if found.returncode == 2 or "unshare" in found.stderr:
        pytest.skip("needs the right to mount")
    assert found.returncode == 0, found.stdout + found.stderr
