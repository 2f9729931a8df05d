"""A result as one self-contained page: `page(document)` is HTML that needs nothing else."""

from bnfold.html.page import check_libraries, page, write

__all__ = ["check_libraries", "page", "write"]
