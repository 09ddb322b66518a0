"""Damaged and hostile files for every reader of the project, and a check that none of them does harm.

    python -m tinygrad_ja.testing.mangle                        10,000 files, in equal shares for each reader; a table
    --files N (10000)    --seed N (0)    --only READER ...      how many, which ones, whose
    --only READER --number N --keep FILE                        one file of such a run again, written to FILE

Each file is a whole one that was changed: cut, extended, with other bits, bytes, numbers and lengths, pieces left out, repeated or
exchanged, two files spliced, text nested deep, with long tokens, huge numbers, entities, names that come twice, and bytes that are not
UTF-8. About half are changed inside of their frame, so that lengths and checksums are right again and the change reaches what lies behind
those checks. A seed, a reader and a number give the same file everywhere.

A file passes when its reader, within a time limit, returns a value whose parts fit together (``values.py``), or raises StateError that names
the file and the fault; when nothing else was opened, written, connected, started or compiled meanwhile (as Python's audit events tell); and
when reading took no more memory than twice what the file declares and the reader checks (``sizes.py``), and a constant.
"""

from .readers import READERS, Reader, usable_readers
from .trial import Outcome, mangled, run, watched

__all__ = ["READERS", "Outcome", "Reader", "mangled", "run", "usable_readers", "watched"]
