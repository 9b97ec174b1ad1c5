"""Shapes of text: JSON lines and plain words."""


def jsonl():
    row = b'{"text":"The river floods every spring.","title":"River","date":"2024-03-01"}'
    seeds = {
        "valid": row + b"\n" + b'{"text":"b","n":[1,-2.5e3,true,null]}\n',
        "empty": b"",
        "blank-lines": b"\n\n   \n\r\n",
        "crlf": row + b"\r\n" + row + b"\r\n",
        "cr-only": row + b"\r" + row,
        "no-final-newline": row,
        "two-on-a-line": row + row,
        "object-across-lines": b'{"text":\n"a"}\n',
        "array-line": b"[1,2,3]\n",
        "scalar-lines": b'1\n"a"\nnull\ntrue\n-0\n',
        "nul-byte": b'{"text":"a\0b"}\n\0\n',
        "nul-escape": b'{"text":"a\\u0000b"}\n{"a\\u0000":1}\n',
        "bad-utf8": b'{"text":"\xff\xfe\x80\xc3"}\n',
        "overlong-utf8": b'{"text":"\xc0\x80\xe0\x80\xaf"}\n',
        "surrogate-bytes": b'{"text":"\xed\xa0\x80"}\n',
        "lone-surrogates": b'{"text":"\\ud800"}\n{"text":"\\udc00"}\n{"a":"\\ud800\\ud800"}\n',
        "surrogate-pair": b'{"text":"\\ud83d\\ude00"}\n',
        "bom": b"\xef\xbb\xbf" + row,
        "bom-mid-file": row + b"\n\xef\xbb\xbf" + row,
        "utf16": row.decode().encode("utf-16"),
        "duplicate-keys": b'{"a":1,"a":2}\n{"a":1,"\\u0061":2}\n',
        "trailing-comma": b'{"a":1,}\n[1,]\n',
        "comments": b'{"a":1} // x\n/* y */ {}\n',
        "numbers": b"[1e400]\n[-1e400]\n[12345678901234567890]\n[1.0]\n[1e2]\n[-0]\n",
        "bad-numbers": b"[01]\n[+1]\n[.5]\n[NaN]\n[Infinity]\n[0x1]\n[1.]\n",
        "depth-64": b"[" * 64 + b"]" * 64,
        "depth-65": b"[" * 65 + b"]" * 65,
        "depth-100000": b"[" * 100000,
        "depth-objects": b'{"a":' * 20000,
        "depth-in-string": b'"' + b"[" * 100000 + b'"',
        "truncated-escape": b'{"a":"\\u00',
        "backslash-at-end": b'"\\',
        "long-line": b'{"text":"' + b"x" * (1 << 20) + b'"}\n' + row,
        "many-keys": b"{" + b",".join(b'"k%d":%d' % (i, i) for i in range(3000)) + b"}",
        "many-empty-arrays": b"[" + b"[]," * 130000 + b"[]]",
        "many-empty-objects": b"[" + b"{}," * 130000 + b"{}]",
        "too-many-objects": b"[" + b"{}," * 349000 + b"{}]",
        "objects-in-objects": b"[" + b'{"":{}},' * 65000 + b"{}]",
        "many-numbers": b"[" + b"1," * 520000 + b"1]",
        "gzip": bytes.fromhex("1f8b08000000000000ffabae05004352fb9302000000"),
    }
    for cut in range(1, len(row), 9):
        seeds[f"cut-{cut:02d}"] = row[:cut]
    return seeds


def words():
    return {
        "valid": "The naïve Café — 10.5% of users; ÉTÉ 你好 世界 한국 カタカナ.\n".encode(),
        "empty": b"",
        "blanks": " \t\r\n\u00a0\u2003\u3000\u0085".encode(),
        "bad-utf8": b"a\xff\xfeb\x80c\xc3 \xe2\x82 \xf0\x9f\x98",
        "overlong": b"\xc0\xaf\xe0\x80\xaf\xf0\x80\x80\xaf \xf8\x88\x80\x80\x80 \xfc\x84\x80\x80\x80\x80",
        "surrogates": b"\xed\xa0\x80\xed\xb0\x80",
        "nul": b"a\0b\0\0c",
        "grows-in-lower-case": "ȺȾİK".encode() * 100,
        "marks-first": "\u0301\u0301a\u0301".encode(),
        "marks-long": b"e" + "\u0301".encode() * 50000,
        "letters-long": b"a" * 131072,
        "digits-long": b"7" * 100000,
        "letters-apart": b"a " * 50000,
        "emoji-zwj": "👩\u200d👩\u200d👧\u200d👦".encode() * 500,
        "bidi": "\u202eabc\u202c \u2066x\u2069".encode(),
        "noncharacters": "\uffff\ufffe\U0010ffff\ufdd0 \ufffd".encode(),
        "same-word": b"the " * 1000,
        "crlf": b"a\r\nb\rc\n\n\nd",
        "homoglyphs": "νalue value".encode(),
        "control": bytes(range(128)),
        "all-bytes": bytes(range(256)),
    }


TARGETS = {"jsonl": jsonl, "words": words}
