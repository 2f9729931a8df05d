"""What was proven of which files, so that anybody can check it again? A JSON document.

`certify` makes one, `save` and `load` write and read it, `check` holds it against the files, and
on demand against everything made again.
"""

from __future__ import annotations

from bnfold.audit import Audit, check
from bnfold.certified import load
from bnfold.certifying import certify, fingerprint, save

__all__ = ["Audit", "certify", "check", "fingerprint", "load", "save"]
