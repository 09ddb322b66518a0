"""Texts that mean something in a format, for changes to insert where they do not belong."""

from __future__ import annotations

JSON = rb'[] {} , "a": null 1e999 - "\ud800" "\u0000" NaN'.split()
TREE = rb'{"$tensor":["w","F32",[1],0]} {"$dict":[[ {"$int":"0xf"} {"$float":"inf"} "$tuple"'.split() + JSON
HEADER = rb'"data_offsets":[0,0] "shape":[ "BF16" "U64" "__metadata__":{} 18446744073709551616'.split() + JSON

XML = [
    b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>',
    b'<!DOCTYPE a SYSTEM "file:///etc/passwd">',
    b'<?xml version="1.0" encoding="UTF-16"?>',
    *b"&b; &#0; &#x110000; &amp; <![CDATA[ ]]> <object> </object> <!-- --> <xmin> xmlns=''".split(),
]

PICKLE = [
    *b"] } ( ) t \x85 \x86 \x87 e u q\x00 h\x00 R b Q N \x81 0 2".split(b" "),
    *[
        b"cos\nsystem\n",
        b"cbuiltins\neval\n",
        b"ctorch\nSize\n",
        b"ctorch\nfloat32\n",
        b"ctorch\nFloatStorage\n",
        b"i__main__\nx\n",
    ],
    *[b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_tensor_v3\n", b"ccollections\nOrderedDict\n", b"."],
    *[
        b"J\xff\xff\xff\x7f",
        b"\x8a\x08" + b"\xff" * 7 + b"\x3f",
        b"X\xff\xff\xff\xff",
        b"\x8e" + b"\xff" * 8,
        b"G\x7f\xf8" + b"\0" * 6,
    ],
]
"""Instructions, names and numbers of pickles."""

ONNX = [b"\x08\x01", b"\x12\x00", b"Loop", b"x"]
WAV = b"fmt |data|RIFF|LIST".split(b"|")
TREES = [b"(2 a)", b"(", b")", b" " * 70_000]
SGF = [b"AB[aa:ii]", b"[aa:ss]", b"SZ[52]", b"[]", b"\\", b"(;", b";B[tt]"]
LINES = [b"\n", b"\r", b"\t"]
TABLE = [b",", b'"', b"\n", b"\r"]
SERIES = [b",", b'"', b"\n", b"nan", b"1_0"]
ZIP = [b"PK\1\2", b"PK\3\4", b"PK\5\6", b"../"]
TAR = [b"../", b"\x80" + b"\xff" * 11, b"x", b"L"]
IMAGE = [b"IDAT", b"PLTE", b"tRNS", b"IHDR", b"\xff\xd8", b"\xff\xc0"]
