"""`python -m docs.generator`: writes every page of the reference."""

from __future__ import annotations

import sys

from docs.generator import PAGES, page
from docs.generator.places import REFERENCE

REFERENCE.mkdir(exist_ok=True)
for name in PAGES:
    (REFERENCE / name).write_text(page(name), encoding="utf-8")
    sys.stdout.write(f"docs/reference/{name}\n")
