"""Shapes of GGUF files: models and adapters. Names begin with the number of the published attack
that they repeat (H01 to H43), where there is one."""

import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {
    U8: "B",
    I8: "b",
    U16: "H",
    I16: "h",
    U32: "I",
    I32: "i",
    F32: "f",
    BOOL: "B",
    U64: "Q",
    I64: "q",
    F64: "d",
}
HUGE = (1 << 64) - 1


def text(s):
    raw = s.encode() if isinstance(s, str) else s
    return struct.pack("<Q", len(raw)) + raw


def value(kind, v):
    if kind == STRING:
        return text(v)
    if kind == ARRAY:
        inner, items = v
        return struct.pack("<IQ", inner, len(items)) + b"".join(value(inner, i) for i in items)
    return struct.pack("<" + PACK[kind], v)


def key(name, kind, v):
    return text(name) + struct.pack("<I", kind) + value(kind, v)


def raw_key(name, kind, raw):
    return text(name) + struct.pack("<I", kind) + raw


def info(name, dims, kind, offset):
    return (
        text(name)
        + struct.pack("<I", len(dims))
        + struct.pack(f"<{len(dims)}Q", *dims)
        + struct.pack("<IQ", kind, offset)
    )


def file(keys, infos=(), data=b"", version=3, n_keys=None, n_tensors=None, align=32):
    """Keys and infos are bytes already; counts may lie."""
    head = b"GGUF" + struct.pack(
        "<IQQ",
        version,
        len(infos) if n_tensors is None else n_tensors,
        len(keys) if n_keys is None else n_keys,
    )
    body = head + b"".join(keys) + b"".join(infos)
    return body + b"\0" * (-len(body) % align if align and (infos or data) else 0) + data


def floats(n, start=0):
    return struct.pack(f"<{n}f", *[((i + start) % 7 - 3) / 8 for i in range(n)])


def laid_out(tensors, align=32):
    """[(name, dims, kind, bytes)] as infos and data."""
    infos, data = [], b""
    for name, dims, kind, raw in tensors:
        infos.append(info(name, dims, kind, len(data)))
        data += raw + b"\0" * (-len(raw) % align)
    return infos, data


def vocabulary():
    tokens = [chr(c) for c in range(33, 127)] + ["th", "<|im_start|>", "<|im_end|>"]
    return [
        key("tokenizer.ggml.model", STRING, "gpt2"),
        key("tokenizer.ggml.pre", STRING, "qwen2"),
        key("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
        key("tokenizer.ggml.token_type", ARRAY, (I32, [1] * 95 + [3, 3])),
        key("tokenizer.ggml.merges", ARRAY, (STRING, ["t h"])),
        key("tokenizer.ggml.eos_token_id", U32, 96),
    ]


def configuration(**change):
    part = {
        "arch": key("general.architecture", STRING, "llama"),
        "name": key("general.name", STRING, "tiny"),
        "blocks": key("llama.block_count", U32, 1),
        "context": key("llama.context_length", U32, 64),
        "width": key("llama.embedding_length", U32, 8),
        "ffn": key("llama.feed_forward_length", U32, 16),
        "heads": key("llama.attention.head_count", U32, 2),
        "kv": key("llama.attention.head_count_kv", U32, 1),
        "eps": key("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        "base": key("llama.rope.freq_base", F32, 10000.0),
    }
    part.update(change)
    return [p for p in part.values() if p]


def weights():
    shapes = [("token_embd.weight", [8, 97]), ("output_norm.weight", [8])]
    block = [
        ("attn_norm", [8]),
        ("attn_q", [8, 8]),
        ("attn_k", [8, 4]),
        ("attn_v", [8, 4]),
        ("attn_output", [8, 8]),
        ("ffn_norm", [8]),
        ("ffn_gate", [8, 16]),
        ("ffn_up", [8, 16]),
        ("ffn_down", [16, 8]),
    ]
    shapes += [(f"blk.0.{name}.weight", dims) for name, dims in block]
    size = lambda dims: dims[0] * (dims[1] if len(dims) > 1 else 1)
    return [(name, dims, 0, floats(size(dims), i)) for i, (name, dims) in enumerate(shapes)]


def one(dims, kind=0, offset=0, data=b"\0" * 64, keys=(), name="t"):
    return file(list(keys), [info(name, dims, kind, offset)], data)


def gguf():
    tiny = file(configuration() + vocabulary(), *laid_out(weights()))
    short = file(
        [
            key("general.architecture", STRING, "llama"),
            key("a.b", ARRAY, (STRING, ["x", "yz"])),
            key("a.c", ARRAY, (F32, [1.0, 2.0])),
        ],
        *laid_out([("t", [4], 0, floats(4))]),
    )
    align = lambda kind, v: file([key("general.alignment", kind, v)], *laid_out([("t", [4], 0, floats(4))]))
    named = lambda name: one([4], name=name)
    seeds = {
        "valid": tiny,
        "valid-short": short,
        "valid-v2": file([], version=2),
        "empty": b"",
        "H01-tensors-wrap": file([], n_tensors=(1 << 64) // 64 + 1),
        "H01-tensors-huge": file([], n_tensors=HUGE),
        "H02-keys-wrap": file([], n_keys=(1 << 64) // 48 + 1),
        "H02-keys-4g": file([], n_keys=0xFFFFFFFF),
        "H02-keys-max": file([], n_keys=HUGE),
        "counts-negative": file([], n_keys=1 << 63, n_tensors=1 << 63),
        "H03-key-length-max": file([struct.pack("<Q", HUGE) + b"a"], n_keys=1),
        "H03-string-length-max": file([raw_key("a", STRING, struct.pack("<Q", HUGE))]),
        "H03-string-2g": file([raw_key("a", STRING, struct.pack("<Q", (1 << 31) - 1) + b"x")]),
        "H04-array-wrap": file([raw_key("a", ARRAY, struct.pack("<IQ", U64, 1 << 61))]),
        "H04-strings-wrap": file([raw_key("a", ARRAY, struct.pack("<IQ", STRING, (1 << 60) + 1))]),
        "H05-dims-5": one([2, 2, 2, 2, 2]),
        "H05-dims-255": one([1] * 255),
        "H05-dims-0": one([]),
        "H05-dims-4g": file([], [text("t") + struct.pack("<I", 0xFFFFFFFF)], b"\0" * 64),
        "H08-sum-wraps": file([], [info(f"t{i}", [(1 << 62) - 64], 24, 0) for i in range(4)], b"\0" * 64),
        "H09-two-i8": file(
            [],
            [info("a", [0x7FFFFFFFFFFFFFC0], 24, 0), info("b", [0x7FFFFFFFFFFFFFC0], 24, 0x7FFFFFFFFFFFFFC0)],
            b"\0" * 64,
        ),
        "H10-bytes-wrap": one([1 << 32, 1 << 29, 4]),
        "H10-elements-wrap": one([1 << 32, 1 << 32]),
        "H11-pad-wraps": one([(1 << 64) - 16], 24),
        "H12-zero-dimension": one([4, 0]),
        "H12-zero-first": one([0, 4]),
        "H13-alignment-0": align(U32, 0),
        "H14-alignment-3": align(U32, 3),
        "H14-alignment-2g": align(U32, 1 << 31),
        "H14-alignment-text": align(STRING, "32"),
        "H14-alignment-list": align(ARRAY, (U32, [32])),
        "H15-offset-outside": one([4], offset=1 << 20),
        "H15-offset-wraps": one([4], offset=HUGE - 31),
        "H15-offset-odd": one([4], offset=1),
        "H16-data-short": one([64], data=b"\0" * 32),
        "H16-no-data": one([4], data=b""),
        "H18-type-256": one([4], 0x100),
        "H18-type-negative": one([4], 0xFFFFFFFF),
        "H18-type-gap": one([4], 4),
        "H19-row-not-a-block": one([33], 8, data=b"\0" * 64),
        "H19-q4-k-128": one([128], 12, data=b"\0" * 144),
        "H20-empty-key": file([key("", U32, 1)]),
        "H21-same-key": file([key("a", U32, 1), key("a", U32, 2)]),
        "H21-same-key-other-type": file([key("a", U32, 1), key("a", STRING, "x")]),
        "H21-same-tensor": file([], *laid_out([("t", [4], 0, floats(4))] * 2)),
        "H22-array-of-nothing": file([raw_key("a", ARRAY, struct.pack("<IQ", 99, 1 << 60))]),
        "H23-string-past-end": file([raw_key("a", STRING, struct.pack("<Q", 100) + b"short")]),
        "H24-magic-only": b"GGUF",
        "H24-three-bytes": b"GGU",
        "H25-version-0": file([], version=0),
        "H25-version-1": file([], version=1),
        "H25-version-4": file([], version=4),
        "H25-swapped": file([], version=3 << 24),
        "H26-length-2-63": file([raw_key("a", STRING, struct.pack("<Q", 1 << 63))]),
        "H26-length-2-32": file([raw_key("a", STRING, struct.pack("<Q", 1 << 32) + b"abcd")]),
        "array-in-array": file(
            [raw_key("a", ARRAY, struct.pack("<IQ", ARRAY, 1) + struct.pack("<IQ", U8, 0))]
        ),
        "array-1000-deep": file([raw_key("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 1000)]),
        "array-of-0": file([key("a", ARRAY, (U32, [])), key("b", ARRAY, (STRING, []))]),
        "bool-2": file([raw_key("a", BOOL, b"\2")]),
        "kind-13": file([raw_key("a", 13, b"\0" * 8)]),
        "key-65536": file([key("k" * 65536, U32, 1)]),
        "key-not-utf8": file([key(b"\xff\xfe", U32, 1)]),
        "key-with-nul": file([key("a\0b", U32, 1)]),
        "name-63": named("n" * 63),
        "name-64": named("n" * 64),
        "name-empty": named(""),
        "name-not-utf8": named(b"\xff"),
        "name-percent": named("%n%s%n"),
        "name-path": named("../x"),
        "overlap": file([], [info("a", [16], 0, 0), info("b", [16], 0, 32)], floats(32)),
        "reverse": file([], [info("a", [8], 0, 32), info("b", [8], 0, 0)], floats(16)),
        "gap": file([], [info("a", [8], 0, 0), info("b", [8], 0, 64)], floats(24)),
        "trailing": short + b"garbage",
        "many-tensors": file([], [info(f"t{i}", [1], 0, 32 * i) for i in range(20000)], b"\0" * 32 * 20000),
        "many-keys": file([key(f"k{i}", U8, 1) for i in range(60000)]),
        "many-strings": file([key("a", ARRAY, (STRING, [""] * 120000))]),
        "lower-case-magic": short.replace(b"GGUF", b"gguf", 1),
        "zip": b"PK\3\4" + short[4:],
        "elf": b"\x7fELF" + short[4:],
        "count-one-more": file([key("a", U8, 1)], n_keys=2),
        "count-one-less": file([key("a", U8, 1), key("b", U8, 1)], n_keys=1),
        "floats-not-finite": file([key("a", F32, float("nan")), key("b", F64, float("inf"))]),
    }
    for cut in range(4, len(short), 11):
        seeds[f"cut-{cut:03d}"] = short[:cut]
    return seeds


def pairs(name="blk.0.attn_q.weight", rank=2, wide=8, high=8):
    return [
        (f"{name}.lora_a", [wide, rank], 0, floats(wide * rank)),
        (f"{name}.lora_b", [rank, high], 0, floats(rank * high)),
    ]


def adapter_keys(**change):
    part = {
        "type": key("general.type", STRING, "adapter"),
        "arch": key("general.architecture", STRING, "llama"),
        "kind": key("adapter.type", STRING, "lora"),
        "alpha": key("adapter.lora.alpha", F32, 4.0),
        "base": key("plm.base.sha256", STRING, "ab" * 32),
        "recipe": key("plm.recipe", STRING, "{}"),
    }
    part.update(change)
    return [p for p in part.values() if p]


def adapter_gguf():
    make = lambda tensors=None, **change: file(adapter_keys(**change), *laid_out(tensors or pairs()))
    alpha = lambda v, kind=F32: key("adapter.lora.alpha", kind, v)
    valid = make()
    seeds = {
        "valid": valid,
        "all-linears": make(
            [
                p
                for n in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
                for p in pairs(f"blk.0.{n}.weight")
            ]
        ),
        "H40-ranks-differ": make([pairs()[0], pairs(rank=3)[1]]),
        "H40-alpha-nan": make(alpha=alpha(float("nan"))),
        "H40-alpha-0": make(alpha=alpha(0.0)),
        "H40-alpha-negative": make(alpha=alpha(-1.0)),
        "H40-alpha-infinite": make(alpha=alpha(float("inf"))),
        "H40-alpha-text": make(alpha=alpha("4", STRING)),
        "H40-unknown-target": make(pairs("blk.0.attn_norm.weight")),
        "H40-unknown-name": make(pairs("nobody")),
        "H40-three-dims": make([("blk.0.attn_q.weight.lora_a", [8, 2, 2], 0, floats(32)), pairs()[1]]),
        "only-a": make(pairs()[:1]),
        "only-b": make(pairs()[1:]),
        "no-tensors": file(adapter_keys()),
        "layer-4g": make(pairs("blk.4294967295.attn_q.weight")),
        "layer-negative": make(pairs("blk.-1.attn_q.weight")),
        "layer-1023": make(pairs("blk.1023.attn_q.weight")),
        "layer-1024": make(pairs("blk.1024.attn_q.weight")),
        "layer-leading-zero": make(pairs("blk.00.attn_q.weight") + pairs()),
        "rank-2000": make(pairs(rank=2000)),
        "H17-cut": valid[:-20],
        "not-an-adapter": make(type=key("general.type", STRING, "model")),
        "no-type": make(type=b""),
        "no-kind": make(kind=b""),
        "no-arch": make(arch=b""),
        "other-kind": make(kind=key("adapter.type", STRING, "dora")),
        "nan-inside": make(
            [("blk.0.attn_q.weight.lora_a", [8, 2], 0, struct.pack("<16f", *[float("nan")] * 16)), pairs()[1]]
        ),
        "half-precision": make([("blk.0.attn_q.weight.lora_a", [8, 2], 1, b"\0\x3c" * 16), pairs()[1]]),
        "quantised": make([("blk.0.attn_q.weight.lora_a", [32, 2], 8, b"\0" * 68), pairs(wide=32)[1]]),
        "bad-hash": make(base=key("plm.base.sha256", STRING, "xyz")),
        "hash-number": make(base=key("plm.base.sha256", U32, 1)),
        "meta-many": make(**{f"m{i}": key(f"plm.m{i}", STRING, "v") for i in range(400)}),
        "meta-nul": make(recipe=key("plm.recipe", STRING, "a\0b")),
        "meta-bad-utf8": make(recipe=key("plm.recipe", STRING, b"\xff")),
    }
    for cut in range(24, len(valid), 61):
        seeds[f"cut-{cut:03d}"] = valid[:cut]
    return seeds


TARGETS = {"gguf": gguf}
