"""Exit codes of the command line and of the batch in Slicer."""

__all__ = ["EXIT_INTERRUPTED", "EXIT_SOME_FAILED", "EXIT_WRONG"]

EXIT_WRONG = 2
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130
