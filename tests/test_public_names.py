from __future__ import annotations

import libskylark

PUBLIC = ["BadInput", "Context", "Event", "Function", "Reply", "SettingError", "SkylarkError", "__version__"]


def test_the_public_names_are_these() -> None:
    assert sorted(libskylark.__all__) == PUBLIC


def test_every_public_name_can_be_imported() -> None:
    assert all(hasattr(libskylark, name) for name in libskylark.__all__)
