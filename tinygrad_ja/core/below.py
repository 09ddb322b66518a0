"""Which nodes of the tape lie below others: what a value was made from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tape import Node


def nodes_below(roots: Iterable[Node | None]) -> dict[int, Node]:
    """Every node that the roots were made from, themselves included, by number."""
    seen: dict[int, Node] = {}
    stack = [node for node in roots if node is not None]
    while stack:
        node = stack.pop()
        if node.number not in seen:
            seen[node.number] = node
            stack.extend([p for p in node.parents if p is not None])
    return seen


def on_path(roots: Iterable[Node], targets: dict[int, Any]) -> set[int]:
    """Numbers of the nodes through which a target can be reached from the roots, targets included."""
    below = nodes_below(roots)
    path: set[int] = set()
    for number in sorted(below):  # parents come before their users
        if number in targets or any(p is not None and p.number in path for p in below[number].parents):
            path.add(number)
    return path
