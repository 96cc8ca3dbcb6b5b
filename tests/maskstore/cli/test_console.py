"""Errors speak Python; the command line gives the same argument as its option."""

import pytest

from maskstore.cli import console

WORDS = {
    "method": "--infer",
    "train_run": "supsup train",
    "extras": "masks.bank",
    "bank.extras(name)": "masks.bank",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("found a file (`overwrite=True` replaces it)", "found a file (--overwrite replaces it)"),
        ('`device="cpu"` works everywhere', "--device cpu works everywhere"),
        ("give `one_task=True` or `images=16`", "give --one-task or --images 16"),
        ('choose `method="exhaustive"`', "choose --infer exhaustive"),
        ("a folder made by `train_run`", "a folder made by `supsup train`"),
        ("given (`extras`), and `bank.extras(name)` has them", "given (`masks.bank`), and `masks.bank` has them"),
        ("a run of `other_function`", "a run of `other_function`"),
        ("found 'device=cpu' and `a b=True`", "found 'device=cpu' and `a b=True`"),
    ],
)
def test_errors_name_options_on_the_command_line(text: str, expected: str) -> None:
    assert console.reworded(text, WORDS) == expected


def test_the_systems_own_errors_say_what_was_expected(capsys: pytest.CaptureFixture[str]) -> None:
    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "/home/x/.bash_completions")

    assert console.run("maskstore", refused, (), []) == 1
    said = "maskstore: /home/x/.bash_completions: expected permission to write there, found none\n"
    assert capsys.readouterr().err == said
