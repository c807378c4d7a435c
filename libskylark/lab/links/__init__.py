"""Links between nodes as arithmetic: which way bytes take, when they are out at its other end, and who is cut off.

`figures` says what a link has, `effects` does it to bytes, one class each, `route` composes the effects of all links of
a way, `pair` has what can be cut or set by hand, `network` leads all pairs of nodes over the links of an epoch.
"""

from __future__ import annotations

from libskylark.lab.links.figures import CutMode, Figures, Hop, Reroute, Scope
from libskylark.lab.links.network import Links

__all__ = ["CutMode", "Figures", "Hop", "Links", "Reroute", "Scope"]
