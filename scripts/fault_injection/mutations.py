"""Files that are not what they were: by chance, and as somebody would who means harm."""

import io
import json
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Bend = Callable[[bytes, random.Random], bytes]

HUGE = (2**63 - 1, 2**64 - 1, 2**40, 10**12, 2**32, -1 % 2**64)
MARK = "pwned-by-a-name"
SCRIPT = f'"><script>{MARK}()</script><img src=x onerror={MARK}()>'
"""A name that a page must not believe."""
ESCAPES = ("../../../../etc/passwd", "/etc/passwd", "..", "a/../../b", "~root", "\x00", "")


class Hostile:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def torn(content: bytes, draw: random.Random) -> bytes:
    """Cut off, flipped, lengthened or noise."""
    kind = draw.randrange(5)
    if kind == 0:
        return content[: draw.randrange(len(content))]
    if kind == 1:
        flipped = bytearray(content)
        for _ in range(draw.choice((1, 8, 64))):
            flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
        return bytes(flipped)
    if kind == 2:
        return content + draw.randbytes(100)
    if kind == 3:
        return draw.randbytes(draw.randrange(1, 4096))
    return draw.choice((b"", b"\x00" * 64, b"\xff" * 64, pickle.dumps({"weight": Hostile()})))


def text(content: bytes, draw: random.Random) -> bytes:
    """Lines lost, doubled, endless or of bytes that are no text."""
    lines = content.splitlines(keepends=True)
    if not lines or draw.random() < 0.4:
        return torn(content, draw)
    place = draw.randrange(len(lines))
    odd = draw.choice((b"", lines[place] * 2, b"x" * 10**6, b"\xff\xfe\n", b"\x00\n", b"../..\n"))
    return b"".join([*lines[:place], odd, *lines[place + 1 :]])


def odd_json(content: bytes, draw: random.Random) -> bytes:
    """JSON with one value that is another, nested too deep, or no JSON."""
    kind = draw.random()
    if kind < 0.2:
        return torn(content, draw)
    if kind < 0.3:
        return draw.choice(
            (b"[" * 10**5 + b"]" * 10**5, b"null", b"[]", b"{}", b'"\xff"', b"1e999")
        )
    whole = json.loads(content)
    values = (None, -1, 0, 1e308, 2**70, "x" * 5000, [], {}, True, float("nan"), SCRIPT, *ESCAPES)
    _change(whole, draw, draw.choice(values))
    return json.dumps(whole).encode()


def _change(inner: Any, draw: random.Random, value: Any) -> None:
    """Put a value somewhere into a tree."""
    while isinstance(inner, dict | list) and inner:
        key = draw.choice(sorted(inner)) if isinstance(inner, dict) else draw.randrange(len(inner))
        if not isinstance(inner[key], dict | list) or not inner[key] or draw.random() < 0.3:
            inner[key] = value
            return
        inner = inner[key]


def odd_tensors(content: bytes, draw: random.Random) -> bytes:
    """A safetensors file whose header claims what is not so."""
    kind = draw.randrange(5)
    if kind == 0:
        return torn(content, draw)
    if kind == 1:
        return struct.pack("<Q", draw.choice(HUGE)) + content[8:]
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    names = [name for name in header if name != "__metadata__"]
    entry = header[draw.choice(names)]
    if kind == 2:
        entry["shape"] = draw.choice(([2**32, 2**32], [-1], [1e30], ["a"], {}, [0], [2**62]))
    elif kind == 3:
        entry["data_offsets"] = draw.choice(([0, 2**63], [-8, 8], [8, 0], [0], "all", [0, 1]))
    else:
        entry["dtype"] = draw.choice(("F128", "OBJECT", 7, None, "I64", "BOOL"))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def odd_archive(content: bytes, draw: random.Random) -> bytes:
    """A .npz or .pt whose members are bombs, absurd, or climb out of their folder."""
    kind = draw.randrange(4)
    if kind == 0:
        return torn(content, draw)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(made, "w") as bent:
        victim = draw.choice(whole.namelist())
        for name in whole.namelist():
            member = whole.read(name)
            if name == victim:
                member = (bomb(), _claiming(member, draw), pickle.dumps(Hostile()))[kind - 1]
                name = draw.choice((name, name, f"../../{name}"))
            bent.writestr(name, member, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def bomb() -> bytes:
    """A sound header of an array, and more zeros than anybody would keep."""
    shape = str(3 * 2**26)
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape},), }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + head.encode() + bytes(3 * 2**28)


def _claiming(member: bytes, draw: random.Random) -> bytes:
    shape = draw.choice(("(4294967296, 4294967296)", "(-1,)", "(1e30,)", "(1099511627776,)"))
    kind = draw.choice(("<f4", "|O", "<U999999999"))
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + head.encode() + member[128:]


def odd_idx(content: bytes, draw: random.Random) -> bytes:
    """An idx file whose header claims what is not so."""
    if draw.random() < 0.4:
        return torn(content, draw)
    bent, axes = bytearray(content), content[3]
    if draw.random() < 0.3:
        bent[draw.randrange(4)] = draw.choice((0, 1, 9, 13, 255))
    else:
        at = 4 + 4 * draw.randrange(axes)
        bent[at : at + 4] = struct.pack(">I", draw.choice((0, 1, 2**31, 2**32 - 1, 60000)))
    return bytes(bent)


def odd_image(content: bytes, draw: random.Random) -> bytes:
    """A picture that is torn, or a few bytes that claim to be a huge one."""
    if draw.random() < 0.6:
        return torn(content, draw)
    rows, columns = draw.choice(((0, 5), (2**31 - 1, 2**31 - 1), (60_000, 60_000), (30_000, 9_000)))
    head = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    scanlines = zlib.compress(bytes(10**7))
    parts = ((b"IHDR", head), (b"IDAT", scanlines), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
