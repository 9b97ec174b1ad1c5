"""Shapes of safetensors files, and of PEFT adapters made of one and a configuration."""

import json, struct

import shapes_gguf


def file(header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype="F32", shape=(2, 2), at=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(at)}


def safetensors():
    four = shapes_gguf.floats(4)
    inside = lambda body, data=four: file(b'{"t":{' + body + b"}}", data)
    fields = lambda dtype=b'"F32"', shape=b"[4]", at=b"[0,16]": inside(
        b'"dtype":' + dtype + b',"shape":' + shape + b',"data_offsets":' + at
    )
    valid = file(
        {"__metadata__": {"format": "pt"}, "a": entry(), "b": entry("F16", (3,), (16, 22))}, four + b"\0" * 6
    )
    seeds = {
        "valid": valid,
        "empty": b"",
        "seven-bytes": b"\1" * 7,
        "header-0": struct.pack("<Q", 0),
        "header-1": file(b"{", length=1),
        "header-2-63": file(b"{}", length=1 << 63),
        "header-max": file(b"{}", length=(1 << 64) - 8),
        "header-past-end": file(b"{}", length=1000),
        "header-over-cap": file(b"{}", length=(16 << 20) + 1),
        "nothing": file({}),
        "list-first": file(b"[]"),
        "bom-first": file(b"\xef\xbb\xbf{}"),
        "space-first": file(b" {}"),
        "spaces-behind": file(b"{}      "),
        "nul-padding": file(b"{}\0\0\0\0"),
        "newline-behind": file(b"{}\n"),
        "bad-utf8": file(b'{"\xff":{}}'),
        "not-closed": file(b'{"t":'),
        "depth": file(b'{"t":' * 5000),
        "depth-lists": file(b"[" * 5000),
        "same-tensor": file(
            b'{"t":' + json.dumps(entry()).encode() + b',"t":' + json.dumps(entry()).encode() + b"}", four
        ),
        "same-field": inside(b'"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]'),
        "same-metadata": file(b'{"__metadata__":{},"__metadata__":{}}'),
        "metadata-number": file({"__metadata__": {"a": 1}}),
        "metadata-nested": file({"__metadata__": {"a": {"b": "c"}}}),
        "metadata-text": file({"__metadata__": "x"}),
        "dtype-unknown": fields(b'"F31"'),
        "dtype-lower": fields(b'"f32"'),
        "dtype-number": fields(b"1"),
        "dtype-8": fields(b'"F8_E4M3"', b"[16]"),
        "shape-negative": fields(shape=b"[-4]"),
        "shape-2-63": fields(shape=b"[9223372036854775808]"),
        "shape-real": fields(shape=b"[4.0]"),
        "shape-power": fields(shape=b"[4e0]"),
        "shape-text": fields(shape=b'["4"]'),
        "shape-zero": fields(shape=b"[04]"),
        "shape-plus": fields(shape=b"[+4]"),
        "shape-20": fields(shape=b"[" + b"1," * 19 + b"4]"),
        "shape-wraps": fields(shape=b"[4294967296,4294967296,4]"),
        "shape-wraps-right": fields(shape=b"[4611686018427387908]"),
        "shape-none": fields(shape=b"[]"),
        "shape-empty": fields(shape=b"[0]", at=b"[0,0]"),
        "offsets-back": fields(at=b"[16,0]"),
        "offsets-outside": fields(at=b"[0,1000000]"),
        "offsets-one": fields(at=b"[0]"),
        "offsets-three": fields(at=b"[0,8,16]"),
        "offsets-hole": fields(at=b"[4,20]"),
        "offsets-huge": fields(at=b"[0,18446744073709551615]"),
        "overlap": file({"a": entry(), "b": entry(at=(8, 24))}, four * 2),
        "hole": file({"a": entry(), "b": entry(at=(20, 36))}, four * 3),
        "trailing": file({"a": entry()}, four + b"PK\3\4"),
        "short": file({"a": entry()}, four[:8]),
        "missing-shape": inside(b'"dtype":"F32"'),
        "extra-field": inside(b'"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":[{"y":1}]'),
        "not-finite": file({"a": entry()}, b"\xff" * 16),
        "name-empty": file({"": entry()}, four),
        "name-long": file({"n" * 5000: entry()}, four),
        "name-escaped": file(b'{"\\u0061\\ud83d\\ude00\\u0000":' + json.dumps(entry()).encode() + b"}", four),
        "lone-surrogate": file(b'{"\\ud800":' + json.dumps(entry()).encode() + b"}", four),
        "many": file({f"t{i}": entry("U8", (1,), (i, i + 1)) for i in range(12000)}, b"\0" * 12000),
        "many-empty": file({f"t{i}": entry("F32", (0,), (0, 0)) for i in range(12000)}),
        "zip": b"PK\3\4" + valid,
        "pickle": b"\x80\x04\x95" + valid,
    }
    for cut in range(1, len(valid), 13):
        seeds[f"cut-{cut:03d}"] = valid[:cut]
    return seeds


def peft(config, tensors):
    """The adapter target's input for PEFT: the length of the configuration, it, and the tensors."""
    raw = config if isinstance(config, bytes) else json.dumps(config).encode()
    return b"PEFT" + struct.pack("<I", len(raw)) + raw + tensors


def adapter():
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none"}
    name = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"

    def tensors(layer=0, rank=2, wide=8, high=8, form=name):
        a, b = shapes_gguf.floats(rank * wide), shapes_gguf.floats(rank * high)
        return file(
            {
                form.format(layer, "A"): entry(shape=(rank, wide), at=(0, len(a))),
                form.format(layer, "B"): entry(shape=(high, rank), at=(len(a), len(a) + len(b))),
            },
            a + b,
        )

    but = lambda **change: peft({**config, **change}, tensors())
    seeds = {"gguf-" + k: v for k, v in shapes_gguf.adapter_gguf().items()}
    seeds |= {
        "peft-valid": peft(config, tensors()),
        "peft-no-config": peft(b"", tensors()),
        "peft-config-list": peft([], tensors()),
        "peft-rank-differs": but(r=3),
        "peft-rank-0": but(r=0),
        "peft-rank-huge": but(r=1 << 40),
        "peft-rank-text": but(r="2"),
        "peft-alpha-text": but(lora_alpha="x"),
        "peft-alpha-huge": peft(b'{"peft_type":"LORA","r":2,"lora_alpha":1e400}', tensors()),
        "peft-target-regex": but(target_modules="(a+)+$"),
        "peft-target-number": but(target_modules=7),
        "peft-dora": but(use_dora=True),
        "peft-rslora": but(use_rslora=True),
        "peft-bias": but(bias="all"),
        "peft-type": but(peft_type="IA3"),
        "peft-fan-in": but(fan_in_fan_out=True),
        "peft-rank-pattern": but(rank_pattern={"q_proj": 9}),
        "peft-layers": but(layers_to_transform=[1 << 33]),
        "peft-layer-huge": peft(config, tensors(1 << 32)),
        "peft-layer-negative": peft(config, tensors(-1)),
        "peft-other-name": peft(config, tensors(form="x.{}.lora_{}")),
        "peft-only-a": peft(config, file({name.format(0, "A"): entry()}, shapes_gguf.floats(4))),
        "peft-nothing": peft(config, file({})),
        "peft-cut": peft(config, tensors()[:-9]),
        "peft-not-finite": peft(config, tensors()[:-4] + b"\xff" * 4),
        "peft-depth": peft(b'{"a":' * 1000, tensors()),
        "peft-config-longer": b"PEFT" + struct.pack("<I", 1 << 31) + b"{}",
        "empty": b"",
    }
    return seeds


TARGETS = {"safetensors": safetensors, "adapter": adapter}
