"""Numbers that stand beside a name in a pickle, read without unpickling.

Unpickling runs whatever a file asks for. Here the standard library's disassembler lists the
operations, none of which is carried out, and numbers are taken from where a dictionary with plain
values has them: straight after their key.
"""

from __future__ import annotations

import pickletools
import struct

__all__ = ["numbers_after"]

_TEXT = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
_NUMBER = {"BINFLOAT", "BININT", "BININT1", "BININT2", "FLOAT", "INT"}
_KEPT = {"MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "FRAME"}
"""Operations that leave the values as they are."""


def numbers_after(pickled: bytes, key: str, count: int) -> tuple[float, ...] | None:
    """The first `count` numbers that follow a text; None: it is not there, or no plain numbers are.

    An array's, a NumPy scalar's or a subclass's pickled form is no plain number.
    """
    found: list[float] | None = None
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name in _KEPT:
                continue
            if found is None:
                if opcode.name in _TEXT and argument == key:
                    found = []
            elif opcode.name in _NUMBER and isinstance(argument, int | float):
                found.append(float(argument))
                if len(found) == count:
                    return tuple(found)
            else:
                found = None
    except (ValueError, OverflowError, struct.error):  # damaged, or no pickle
        return None
    return None
