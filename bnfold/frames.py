"""How do two processes of one program pass each other objects? Pickles with their lengths.

Arrays travel beside the pickle, so that neither end copies them once more. Both ends are our
own: what comes out of `read` is trusted as much as this process is.
"""

from __future__ import annotations

import pickle
import struct
from typing import IO, Any

_LENGTH = struct.Struct("<Q")


def write(stream: IO[bytes], message: Any) -> None:
    """Send one object. Raises what `pickle` raises, before anything is sent, and OSError."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    parts: list[bytes | memoryview] = [head, *(buffer.raw() for buffer in buffers)]
    lengths = (len(parts), *(len(part) for part in parts))
    stream.write(b"".join(map(_LENGTH.pack, lengths)))
    for part in parts:
        stream.write(part)
    stream.flush()


def read(stream: IO[bytes]) -> Any:
    """The next object. Raises EOFError at the end, even in the middle of an object."""
    count = _number(stream)
    lengths = [_number(stream) for _ in range(count)]
    head, *buffers = [_exactly(stream, length) for length in lengths]
    return pickle.loads(head, buffers=buffers)


def _number(stream: IO[bytes]) -> int:
    (number,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return int(number)


def _exactly(stream: IO[bytes], length: int) -> bytearray:
    """So many bytes; a bytearray, so that the arrays in it can be written to."""
    found = bytearray(length)
    view, done = memoryview(found), 0
    while done < length:
        got = stream.readinto(view[done:])  # type: ignore[attr-defined]  # typeshed: not in IO
        if not got:
            raise EOFError
        done += got
    return found
