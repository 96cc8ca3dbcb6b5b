"""Every error that supsup_models raises on purpose.

Each inherits from `SupSupError`, and from the builtin that a caller would expect, so that both `except SupSupError`
and, say, `except ValueError` work. Messages are one line: what was expected, what was found. Where a message names
another argument, it does so as a caller writes it, in backquotes: `` `device="cpu"` ``. The command line makes the
option `--device cpu` of that.
"""

from maskstore import errors


class SupSupError(Exception):
    """Base class of all errors that supsup_models raises on purpose.

    Examples:
        >>> from supsup_models import SupSupError, open_stream
        >>> try:
        ...     open_stream("permuted-digit")
        ... except SupSupError as error:
        ...     print(type(error).__name__)
        UnknownStreamError
    """

    def __str__(self) -> str:  # KeyError would print the repr of its message, and names of strangers are in it
        return errors.printable(str(self.args[0])) if self.args else ""


class ArgumentError(SupSupError, ValueError):
    """An argument was wrong before any work was done: a name that nothing has, or values that do not go together."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument is of a type that cannot be meant."""


class DataNotFoundError(SupSupError, FileNotFoundError):
    """A data set is in none of the places where it was looked for."""


class DataFormatError(SupSupError, ValueError):
    """A data file is damaged, cut short, of another format, or belongs to another data set."""


class DownloadError(SupSupError, OSError):
    """A data set could not be downloaded, or what came is not the data set."""


class UnknownStreamError(ArgumentError):
    """No stream of tasks of that name."""


class UnknownDataSetError(SupSupError, ValueError):
    """No data set of that name."""


class StreamLengthError(ArgumentError):
    """More tasks, or fewer, were asked for than a stream can give."""


class TaskDataError(SupSupError, ValueError):
    """Images and labels do not make a task: a wrong shape or type, NaN, a label out of range, or nothing at all."""


class ClassesWarning(UserWarning):
    """Labels leave out classes below the largest one, so the tasks have more classes than were perhaps meant."""


class UnknownNameError(ArgumentError):
    """No model, recipe, scenario, inference method or objective of that name."""


class NetworkError(ArgumentError):
    """A network was asked for with sizes it cannot have, or a recipe does not fit the network."""


class NoFeaturesError(NetworkError):
    """A network whose own view of images was asked for, and that has none."""


class ConversionError(SupSupError, ValueError):
    """A module has nothing to mask, or cannot be masked in the way that was asked for."""


class SparsityError(ArgumentError):
    """A density, or what it is made from, is out of range."""


class ExportError(SupSupError, ImportError):
    """A network was to be written in a format whose package is not installed."""


class PlotError(ArgumentError):
    """A plot cannot be drawn into the file of that name."""


class ShapeError(SupSupError, ValueError):
    """Images, labels or masks do not fit the network they were given to."""


class MissingMaskError(ArgumentTypeError):
    """A network was called without a mask, outside of a block that applies one."""


class MissingStatisticsError(ArgumentError):
    """A mask came without the normalisation statistics that its network needs."""


class StatisticsError(SupSupError, ValueError):
    """A task's normalisation statistics or own parameters hold NaN or infinity, or a variance is below zero."""


class OtherNetworkError(SupSupError, ValueError):
    """A state dict is of a network with other frozen weights."""


class ImageValueError(SupSupError, ValueError):
    """Images hold NaN, infinity, or pixels of a range that cannot be meant: not normalised as in training."""


class ImageValueWarning(UserWarning):
    """Images are hardly normalised: their values are as large as those of raw pixels, or larger."""


class LabelValueError(SupSupError, ValueError):
    """Labels lie outside the network's classes."""


class InferenceError(ArgumentError):
    """Task inference or an evaluation was asked for something that has no answer."""


class BatchStatisticsError(InferenceError):
    """A network that normalises with the statistics of a batch was asked about single images."""


class MethodWarning(UserWarning):
    """Task inference was asked for in a way that is known to give poor answers in this network."""


class TrainingStopped(SupSupError, RuntimeError):  # noqa: N818
    """Training ended early because its caller asked it to."""


class RunError(SupSupError, ValueError):
    """A run's folder holds no run, a damaged one, or one with other arguments."""


class ShardError(ArgumentError):
    """A run cannot be cut into these shards, or shards make no run: one is missing, comes twice, or is of another."""


class WorkerError(SupSupError, RuntimeError):
    """Workers elsewhere, for training or inference, cannot be reached, were lost, or could not be given their work."""


class RunBusyError(SupSupError, RuntimeError):
    """Another process is training in this run's folder."""


class RequestError(SupSupError, ValueError):
    """A server of masks could not answer a request; `status` is the HTTP status that says whose fault it was."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ReportError(SupSupError, ValueError):
    """A file to make a report from is of another kind, or one where the report was to go would be lost."""


class DeviceError(SupSupError, errors.DeviceError):
    """The device that was asked for is not there."""


class StateDictWarning(UserWarning):
    """A state dict does not say which frozen weights it goes with."""


class SharedStateWarning(UserWarning):
    """A call changed a buffer of a converted module, which belongs to no task."""
