"""What is said where a package is missing that only some uses need."""

from maskstore.errors import MissingPackageError


def missing_package(what: str, package: str, extra: str) -> MissingPackageError:
    """The error for a package that is not installed.

    Args:
        what: What needs it.
        package: Its name.
        extra: The extra of this project that has it.

    Examples:
        >>> from maskstore.files import missing_package
        >>> str(missing_package("tasks.safetensors", "safetensors", "interop"))
        'tasks.safetensors: expected safetensors, found it not installed (in the checkout: pip install ".[interop]")'
    """
    text = f'{what}: expected {package}, found it not installed (in the checkout: pip install ".[{extra}]")'
    return MissingPackageError(text, name=package)
