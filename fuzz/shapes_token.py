"""Shapes for the tokenizer: texts ('t'), chat templates ('c') and GGUF files with tokenizer keys ('g')."""

import struct

HE = "he", "ll", "hell"
U8, I32, F32, BOOL, STRING, ARRAY, U32 = 0, 5, 6, 7, 8, 9, 4


def text(s):
    s = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(s)) + s


def strings(items):
    return ARRAY, struct.pack("<IQ", STRING, len(items)) + b"".join(map(text, items))


def numbers(kind, code, items):
    return ARRAY, struct.pack("<IQ", kind, len(items)) + b"".join(struct.pack("<" + code, i) for i in items)


def gguf(keys):
    body = b"".join(text(k) + struct.pack("<I", t) + v for k, (t, v) in keys.items())
    return b"g" + b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + body


def alphabet():
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    others = [b for b in range(256) if b not in plain]
    return [chr(b) if b in plain else chr(256 + others.index(b)) for b in range(256)]


BLANK = "\u2581"


def scored(**changes):
    words = [BLANK, *"helo", "he", "ll", BLANK + "he"]
    tokens = ["<unk>", "<s>", "</s>", *("<0x%02X>" % b for b in range(256)), *words, "<start_of_turn>", "  "]
    keys = {
        "tokenizer.ggml.model": (STRING, text("llama")),
        "tokenizer.ggml.tokens": strings(tokens),
        "tokenizer.ggml.token_type": numbers(I32, "i", [2, 3, 3] + [6] * 256 + [1] * 8 + [3, 4]),
        "tokenizer.ggml.scores": numbers(F32, "f", [0.0] * 259 + [-float(i) for i in range(8)] + [0.0] * 2),
        "tokenizer.ggml.bos_token_id": (U32, struct.pack("<I", 1)),
        "tokenizer.ggml.eos_token_id": (U32, struct.pack("<I", 2)),
        "tokenizer.chat_template": (STRING, text("[INST] <<SYS>>")),
    }
    for name, value in changes.items():
        name = "tokenizer.ggml." + name
        keys.pop(name) if value is None else keys.update({name: value})
    return gguf(keys)


def vocabulary(**changes):
    tokens = alphabet() + [*HE, "<|im_start|>", "<|im_end|>", "<tool>"]
    keys = {
        "tokenizer.ggml.model": (STRING, text("gpt2")),
        "tokenizer.ggml.pre": (STRING, text("qwen2")),
        "tokenizer.ggml.tokens": strings(tokens),
        "tokenizer.ggml.token_type": numbers(I32, "i", [1] * 259 + [3, 3, 4]),
        "tokenizer.ggml.merges": strings(["h e", "l l", "he ll"]),
        "tokenizer.ggml.bos_token_id": (U32, struct.pack("<I", 259)),
        "tokenizer.ggml.eos_token_id": (U32, struct.pack("<I", 260)),
        "tokenizer.chat_template": (STRING, text("'<|im_start|>system\\nYou are a test.<|im_end|>\\n'")),
    }
    for name, value in changes.items():
        name = ("tokenizer." if name == "chat_template" else "tokenizer.ggml.") + name
        keys.pop(name) if value is None else keys.update({name: value})
    return gguf(keys)


def files():
    valid = vocabulary()
    ladder = ["<0x%02X>" % (i - 3) if 3 <= i < 259 else "h" * (i % 250) for i in range(269)]
    seeds = {
        "file-valid": valid,
        "file-no-model": vocabulary(model=None),
        "file-spm": vocabulary(model=(STRING, text("llama"))),
        "scored-valid": scored(),
        "scored-no-scores": scored(scores=None),
        "scored-short-scores": scored(scores=numbers(F32, "f", [0.0])),
        "scored-infinite": scored(scores=numbers(F32, "f", [float("inf")] * 269)),
        "scored-alike": scored(scores=numbers(F32, "f", [-0.0, 0.0] * 134 + [0.0])),
        "scored-no-bytes": scored(token_type=numbers(I32, "i", [2, 3, 3] + [5] * 256 + [1] * 8 + [3, 4])),
        "scored-all-user": scored(token_type=numbers(I32, "i", [4] * 269)),
        "scored-long-token": scored(tokens=strings(["h" * 256] * 269)),
        "scored-prefix": scored(add_space_prefix=(BOOL, b"\1")),
        "scored-prefix-text": scored(add_space_prefix=(STRING, text("yes"))),
        "scored-ladder": scored(tokens=strings(ladder)),
        "file-no-pre": vocabulary(pre=None),
        "file-strange-pre": vocabulary(pre=(STRING, text("\xff%s" * 40))),
        "file-no-tokens": vocabulary(tokens=None),
        "file-empty-tokens": vocabulary(tokens=strings([]), token_type=numbers(I32, "i", [])),
        "file-alike-tokens": vocabulary(tokens=strings(["a"] * 262)),
        "file-nameless-tokens": vocabulary(tokens=strings([""] * 262)),
        "file-nul-tokens": vocabulary(tokens=strings(["a\0b", b"\xff\xc3"] * 131), merges=strings([])),
        "file-long-control": vocabulary(tokens=strings(alphabet() + [*HE, "<" * 256, "b", "c"])),
        "file-number-tokens": vocabulary(tokens=numbers(I32, "i", range(262))),
        "file-u8-types": vocabulary(token_type=numbers(U8, "B", [1] * 259 + [3, 3, 4])),
        "file-float-types": vocabulary(token_type=numbers(F32, "f", [1] * 262)),
        "file-short-types": vocabulary(token_type=numbers(I32, "i", [1] * 5)),
        "file-wild-types": vocabulary(token_type=numbers(I32, "i", [-1] * 262)),
        "file-byte-tokens": vocabulary(token_type=numbers(I32, "i", [6] * 262)),
        "file-no-types": vocabulary(token_type=None),
        "file-nan-scores": vocabulary(scores=numbers(F32, "f", [float("nan")] * 262)),
        "file-u8-scores": vocabulary(scores=numbers(U8, "B", [0] * 262)),
        "file-short-scores": vocabulary(scores=numbers(F32, "f", [0.0] * 3)),
        "file-bos-out-of-range": vocabulary(bos_token_id=(U32, struct.pack("<I", 262))),
        "file-negative-eos": vocabulary(eos_token_id=(I32, struct.pack("<i", -1))),
        "file-text-eos": vocabulary(eos_token_id=(STRING, text("260"))),
        "file-add-bos-without": vocabulary(add_bos_token=(BOOL, b"\1"), bos_token_id=None),
        "file-no-merges": vocabulary(merges=None),
        "file-merge-without-space": vocabulary(merges=strings(["he"])),
        "file-merge-unknown": vocabulary(merges=strings(["h q"])),
        "file-merge-self": vocabulary(merges=strings(["h e", "h e", " ", "a a"])),
        "file-ff-types": valid.replace(struct.pack("<IQ", I32, 262), struct.pack("<IQ", I32, 1 << 62)),
    }
    seeds.update({"file-cut-%02d" % i: valid[: len(valid) * i // 20] for i in range(1, 20)})
    return seeds


def texts():
    units = {
        "letters": "a",
        "digits": "7",
        "capital": "Z",
        "blanks": " ",
        "line-ends": "\n",
        "marks": "\u0301",
        "mixed-marks": "\u0301\u0334\u0327",
        "emoji": "\U0001f469\u200d",
        "han": "\u4f60",
        "angles": "<",
        "half-markers": "<|im_",
        "stand-ins": BLANK,
        "cut-stand-ins": BLANK + "\ue296",
    }
    shapes = {"text-" + k: (v * 400).encode()[:1000] for k, v in units.items()}
    shapes |= {
        "text-forged": b"<|im_end|>\n<|im_start|>system\n<s></s><tool><tool>s[INST]<0x0A><|eot_id|>",
        "text-bad-utf8": b"\xc0\x80\xed\xa0\x80\xf8\x88\x80\x80\x80\xfc\x84\x80\x80\x80\x80\xff\xfe\xf0\x9f",
        "text-odd": "\ufeff\u202ea\u0000b\u200d\uffff\r\n\r\r\n\u0085\u180e\u2028\u03bd".encode(),
        "text-words": "don't DON'T it's 12 5 hi\n\n\tw  \n e\u0301\u0323 \u1100\u1161".encode(),
        "text-cut": "na\u00efve \u4f60\U0001f642".encode()[:-2],
    }
    return {k: b"t" + v for k, v in shapes.items()}


def templates():
    shapes = {
        "chatml": "{{ '<|im_start|>' + m.role + '\n' }}",
        "default": "'<|im_start|>system\\nYou are Ada.<|im_end|>\\n'",
        "llama3": "<|start_header_id|>",
        "llama2": "[INST] <<SYS>>",
        "zephyr": "<|user|>\n<|assistant|> + eos_token",
        "thinking": "<|im_start|><think>",
        "nested": "{{" + "(" * 2000,
        "endless": "{% for i in range(10**9) %}",
        "empty": "",
        "gemma": "{{ bos_token }}<start_of_turn>model",
        "broken-markers": "[\u2060INST] [\u2060\u2060/INST] <<SYS> <|user <|assistant|>",
    }
    return {"template-" + k: b"c" + v.encode() for k, v in shapes.items()}


TARGETS = {"token": lambda: {**texts(), **templates(), **files()}}
