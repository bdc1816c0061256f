"""What can go wrong in `index`.

SearchIndexError
├── SpecError         a factory string or a size that no index can be built from
├── IndexFileError    an index file is missing, altered or of another format
├── CatalogueError    the catalogue is missing, locked, full or of another format
│   ├── LogTrimmedError       changes were asked for that the log no longer holds
│   └── RequestConflictError  two connections go on with one resumable request
├── TuneError         nothing to tune on, or no operating point reaches the target
├── ExpressionError   the text of a filter is not in the filter language
├── FilterError       a filter asks for what the products' fields cannot answer
└── CursorError       a cursor that this catalogue did not sign, or for another request
    └── CursorGone    a cursor of a release that is no longer served
"""


class SearchIndexError(Exception):
    """Base of all errors that `index` raises for the user to act on."""


class SpecError(SearchIndexError):
    """A factory string or a size that no index can be built from."""


class IndexFileError(SearchIndexError):
    """An index file is missing, altered or of another format."""


class CatalogueError(SearchIndexError):
    """The catalogue is missing, locked, full or of another format."""


class LogTrimmedError(CatalogueError):
    """Changes were asked for that the log no longer holds: a bulk load or a trim came between."""


class RequestConflictError(CatalogueError):
    """A resumable request does not stand where this group of lines begins; nothing of the group was stored."""


class TuneError(SearchIndexError):
    """Nothing to tune on, or no operating point reaches the target."""


class ExpressionError(SearchIndexError):
    """The text of a filter is not in the filter language; says what was expected, what was found, and where."""


class FilterError(SearchIndexError):
    """A filter asks for what the products' fields cannot answer.

    Args:
        field: the field it names.
        value: the value that does not fit.
        message: what is wrong and what to do.
    """

    def __init__(self, field: str, value: object, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.value = value


class CursorError(SearchIndexError):
    """A cursor that this catalogue did not sign, or that belongs to another request."""


class CursorGone(CursorError):  # noqa: N818 - as HTTP says 410 Gone
    """A cursor of a release that is no longer served."""
