"""What did pip-audit find? Exits with 1 for a known hole, with 75 where it could look nothing up.

    python .ci/audit.py REPORT.json

pip-audit itself exits with 0 where the service knows none of the packages, as behind a mirror that
has files and no database. Nothing looked up is no good news, so it is told apart.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

SKIPPED = 75
OURS = {"bnfold"}


def main(report: Path) -> int:
    """Print what was found in `report` and return the exit code."""
    packages = json.loads(report.read_text("utf-8"))["dependencies"]
    packages = [p for p in packages if p["name"] not in OURS]
    known = [p for p in packages if "skip_reason" not in p]
    unknown = sorted(p["name"] for p in packages if "skip_reason" in p)
    print(f"{len(known)} of {len(packages)} packages were looked up")
    if unknown:
        print(f"not looked up: {', '.join(unknown)}")
    holes = [(p, hole) for p in known for hole in p["vulns"]]
    for package, hole in holes:
        mended = ", ".join(hole["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {hole['id']}, mended in {mended}")
    if holes:
        return 1
    if not known:
        print("skipped: the service that knows of vulnerabilities knows none of these packages")
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
