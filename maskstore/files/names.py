"""What can be the name of a task."""

from maskstore.errors import SpecError


def check_name(name: object) -> None:
    """SpecError unless `name` can be a task's name."""
    if not is_name(name):
        raise SpecError(f"task name: expected 1 to 512 characters of valid Unicode without NUL, found {name!r:.60}")


def is_name(name: object) -> bool:
    """Whether it is 1 to 512 characters of valid Unicode without NUL."""
    if not isinstance(name, str) or not 0 < len(name) <= 512 or "\0" in name:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
