"""What can go wrong in `models`.

ModelsError
├── ConfigError    a configuration names an unknown key or an impossible value
├── DataError      a dataset or an input file is not what was expected
├── RunError       a run directory is missing, unfinished or made by another version
├── ReleaseError   a release is missing, incomplete, altered or of another format
└── ParityError    an exported tower does not compute what the trained one does
"""


class ModelsError(Exception):
    """Base of all errors that `models` raises for the user to act on."""


class ConfigError(ModelsError):
    """A configuration names an unknown key or an impossible value."""


class DataError(ModelsError):
    """A dataset or an input file is not what was expected."""


class RunError(ModelsError):
    """A run directory is missing, unfinished or made by another version."""


class ReleaseError(ModelsError):
    """A release is missing, incomplete, altered or of another format."""


class ParityError(ModelsError):
    """An exported tower does not compute what the trained one does."""
