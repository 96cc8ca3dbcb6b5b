"""The version of the project, and nothing else, so that every module can import it."""

__version__ = "0.1.0"
