"""What every message of an error or a warning looks like, in Python and on the command line."""

import re

ADVICE_OF_OTHERS = (
    "allow_pickle",
    "weights_only",
    "Traceback",
    "No module named",
    "NotImplementedError",
    "object has no attribute",
    "unexpected keyword",
    "positional argument",
    "github.com",
    "Please",
    "out of memory",
)
"""Words of other libraries that say nothing to who called this one."""


def check_message(text: str, *, command: bool = False) -> None:
    """One line that can be printed: what was expected, what was found; options for a command, arguments for Python."""
    assert text.strip() == text
    assert text
    assert text.isprintable(), ascii(text)
    assert len(text) < 600, text
    assert "expected" in text, text
    assert re.search(r"found|expected one of|did you mean", text), text
    for words in ADVICE_OF_OTHERS:
        assert words not in text, text
    if command:
        assert not re.search(r"`[a-z_]+=", text), text
    else:
        own = re.sub(r"`(supsup|maskstore) [^`]*`", "", text)  # the name of a command may have its options
        assert not re.search(r"(?<![\w-])--[a-z]", own), text
