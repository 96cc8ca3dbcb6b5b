"""What an import costs: the package and the help load no torch, and without torch one line says what to install."""

import pytest

from tests.helpers.commands import in_fresh_process

HEAVY = ("torch", "numba", "sklearn", "matplotlib")
ADVICE = 'supsup_models: expected torch, found it not installed (pip install "maskstore[models]")'
PROBE = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules])"


@pytest.mark.slow
def test_package_and_help_load_nothing_heavy() -> None:
    for code in (
        "import supsup_models",
        "from supsup_models.cli.app import run_command; run_command(['--help'])",
        "from supsup_models.cli.app import run_command; run_command(['train', '--help'])",
        "from supsup_models.cli.app import run_command; run_command(['train', '--stream', 'x', '--out', 'y'])",
        "from supsup_models.cli.app import run_command; run_command(['reproduce', 'x'])",
    ):
        found = in_fresh_process(f"{code}\n{PROBE}")
        assert found.stdout.splitlines()[-1] == "[]", (code, found.stdout)


@pytest.mark.slow
def test_the_probe_can_fail() -> None:
    found = in_fresh_process(f"from supsup_models import MaskedNetwork\n{PROBE}")
    assert "torch" in found.stdout


@pytest.mark.slow
def test_without_torch_one_line_says_what_to_install() -> None:
    hidden = "import sys; sys.modules['torch'] = None\n"
    found = in_fresh_process(f"{hidden}from supsup_models import MaskedNetwork")
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1] == f"ImportError: {ADVICE}"
    command = "from supsup_models.cli.app import run_command; sys.exit(run_command(['eval', 'x']))"
    found = in_fresh_process(f"{hidden}{command}")
    assert found.returncode == 1
    assert found.stderr == f"supsup: {ADVICE}\n"


def test_everything_public_is_there() -> None:
    import supsup_models

    for name in supsup_models.__all__:
        assert getattr(supsup_models, name) is not None
