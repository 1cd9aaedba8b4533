"""The one error tree of ravecodec, and the exit code of each branch.

Every package raises these and nothing else on bad input; `cli` turns them into one sentence on
stderr.
A message is one sentence that names the file, what was found and what was expected.
"""


class RavecodecError(Exception):
    """Base of every error that ravecodec raises on purpose; exit code 1."""

    exit_code = 1


class UsageError(RavecodecError):
    """The call itself makes no sense (unknown option value, in == out); exit code 2."""

    exit_code = 2


class InputError(RavecodecError):
    """The input cannot be read or is not audio that can be coded (missing, NaN, > 2 channels); exit
    code 3.
    """

    exit_code = 3


class FormatError(RavecodecError):
    """Not an .rvc stream, or one of a version or with a feature that this reader does not know;
    exit code 4.
    """

    exit_code = 4


class CorruptError(RavecodecError):
    """A checksum or a bound in the stream does not hold; exit code 5."""

    exit_code = 5


class TruncatedError(CorruptError):
    """The stream ends before its END chunk; exit code 6."""

    exit_code = 6


class ModelError(RavecodecError):
    """The model is missing, damaged, or not the one that made the stream; exit code 7."""

    exit_code = 7


class OutputError(RavecodecError):
    """The output exists already or cannot be written; exit code 8."""

    exit_code = 8
