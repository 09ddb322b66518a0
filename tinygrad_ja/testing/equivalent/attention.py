"""Proofs for attention."""

from __future__ import annotations

_ORIGINAL = "_attention_backward: return tuple([None if d is None else d.astype(query.dtype, copy=False) for d in made])"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("attention", f"{_ORIGINAL}  =>  return tuple([None if d is None else d.astype({arguments}) for d in made])"): (
        "copy says only whether an array that has the dtype already is copied; the values are the same either way."
    )
    for arguments in ("query.dtype", "query.dtype, copy=True")
}
