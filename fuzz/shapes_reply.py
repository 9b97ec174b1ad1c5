"""Shapes of a teacher's replies: bodies ('b'), texts ('t'), and requests with candidates ('q')."""

import json

GOOD = '{"n":1,"input":"the brook rose in May"}\n{"n":2,"input":"the bus came late again"}\n'


def body(content=GOOD, finish="stop", **change):
    message = {"role": "assistant", "content": content}
    doc = {
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 9},
    }
    return b"b" + json.dumps({**doc, **change}).encode()


def bodies():
    full = body()
    seeds = {
        "valid": full,
        "empty": b"b",
        "html": b"b<html><body>502 Bad Gateway</body></html>",
        "cut": full[:-30],
        "choices-none": body(choices=[]),
        "choices-missing": b"b{}",
        "choices-number": body(choices=7),
        "choices-two": body(choices=[{"message": {"content": "a"}}, {"message": {"content": "b"}}]),
        "message-null": body(choices=[{"message": None}]),
        "content-null": body(None),
        "content-list": body([{"type": "text", "text": GOOD}]),
        "content-number": body(7),
        "content-empty": body("  \n"),
        "content-nul": body("a\0b"),
        "content-surrogate": b'b{"choices":[{"message":{"content":"\\ud800"}}]}',
        "content-not-utf8": b'b{"choices":[{"message":{"content":"\xff"}}]}',
        "content-long": body("x " * 400000),
        "finish-length": body(finish="length"),
        "finish-filter": body(finish="content_filter"),
        "finish-tools": body(finish="tool_calls"),
        "finish-null": body(finish=None),
        "finish-number": body(finish=3),
        "usage-negative": body(usage={"prompt_tokens": -5, "completion_tokens": 1 << 62}),
        "usage-text": body(usage={"prompt_tokens": "9"}),
        "usage-list": body(usage=[]),
        "error-with-200": b'b{"error":{"message":"overloaded"}}',
        "error-null": body(error=None),
        "refusal": body(choices=[{"message": {"content": GOOD, "refusal": "I can not."}}]),
        "list": b"b[]",
        "scalar": b'b"text"',
        "two-values": full + full[1:],
        "depth": b"b" + b'{"choices":' * 5000,
        "same-keys": b'b{"choices":[],"choices":[]}',
    }
    return {"body-" + name: data for name, data in seeds.items()}


def texts():
    seeds = {
        "valid": GOOD,
        "prose": "Sure! Here you go:\n" + GOOD + "Hope this helps.",
        "fence": "```json\n" + GOOD + "```",
        "list": "[" + GOOD.replace("\n", ",\n") + "]",
        "commas": GOOD.replace("}\n", "},\n"),
        "single-quotes": "{'n':1,'input':'x'}",
        "json5": "{n:1,input:'x',}",
        "number-0": '{"n":0,"input":"x"}',
        "number-7": '{"n":7,"input":"x"}',
        "number-huge": '{"n":9223372036854775807,"input":"x"}',
        "number-text": '{"n":"1","input":"x"}',
        "number-real": '{"n":1.0,"input":"x"}',
        "same-number": '{"n":1,"input":"x"}\n{"n":1,"input":"y"}',
        "no-text": '{"n":1}',
        "text-number": '{"n":1,"input":7,"output":8}',
        "text-empty": '{"n":1,"input":"","output":" "}',
        "extra-fields": '{"n":1,"input":"x","output":"y","z":{"a":[]}}',
        "across-lines": '{\n"n":1,\n"input":"x"\n}',
        "cut": GOOD[:-9],
        "control": '{"n":1,"input":"a\\u0000b\\u001b[31m"}',
        "special-tokens": '{"n":1,"input":"<|im_end|><|im_start|>system"}',
        "placeholder": '{"n":1,"input":"[NAME_1] met [PLACE_99]"}',
        "quoted": '"A title"',
        "curly-quotes": "\u201cA title\u201d",
        "half-quoted": '"A "title" of"',
        "only-quotes": '""',
        "refusal": "I am sorry, but as an AI I can not do that.",
        "blank": " \n\t\n",
        "carriage-returns": GOOD.replace("\n", "\r\n"),
        "long-line": '{"n":1,"input":"' + "x" * 200000 + '"}',
        "many-lines": '{"n":1,"input":"x"}\n' * 5000,
        "depth": '{"n":1,"input":' + "[" * 10000,
        "not-utf8": b'{"n":1,"input":"\xff"}',
        "nul": b'{"n":1,\0"input":"x"}',
        "outputs": '{"n":1,"output":"River"}\n{"n":2,"output":"Bus"}',
    }
    return {"text-" + name: b"t" + (t if isinstance(t, bytes) else t.encode()) for name, t in seeds.items()}


def requests():
    span = {"mean": 5.5, "p5": 3, "p95": 9}
    good = {"version": 1, "id": "0123456789abcdef" * 2, "user": "u", "kind": "note", "task": "title"}
    good |= {"instruction": "Do.", "summary": "", "share": "exemplars", "style": "lines", "seed": 7}
    good |= {"max_answer_tokens": 64, "words": {"input": span, "output": span}, "topics": ["spring"]}
    good |= {"labels": [{"label": "a", "count": 2}], "exemplars": [1], "rewrite": [2]}
    good |= {"records": [{"n": 1, "input": "x", "output": "y"}, {"n": 2, "input": "z", "output": "w"}]}
    good |= {"want": {"reverse": 1, "rewrite": 1, "new": 1, "label": 1}}
    candidate = {"mode": "rewrite", "source": 2, "shown": [1], "input": "a", "output": "", "call": "ab" * 32}

    def make(lines=(candidate,), **change):
        rows = [{**good, **change}, *lines]
        return b"q" + b"\n".join(r if isinstance(r, bytes) else json.dumps(r).encode() for r in rows)

    but = lambda **change: make([{**candidate, **change}])
    seeds = {"valid": make(), "list": b"q[]", "empty": b"q", "no-newline": make([])}
    seeds |= {
        f"without-{k}": b"q" + json.dumps({x: v for x, v in good.items() if x != k}).encode() for k in good
    }
    seeds |= {f"number-{k}": make(**{k: 1 << 40}) for k in good}
    seeds |= {f"text-{k}": make(**{k: "x" * 5000}) for k in good}
    seeds |= {
        "records-out-of-order": make(records=good["records"][::-1]),
        "records-nested": make(records=[[[]]]),
        "rewrite-outside": make(rewrite=[0, 3, -1]),
        "summary-with-records": make(share="summary"),
        "want-huge": make(want={"reverse": 1 << 30, "rewrite": 0, "new": 0, "label": 0}),
        "words-backwards": make(words={"input": {"mean": -1, "p5": 9, "p95": 3}, "output": span}),
        "candidate-mode": but(mode="nobody"),
        "candidate-source": but(source=3),
        "candidate-source-negative": but(source=-1),
        "candidate-source-real": but(source=2.0),
        "candidate-shown": but(shown=[1, 2, 3, 1 << 40, "x"]),
        "candidate-shown-many": but(shown=[1] * 20000),
        "candidate-empty": but(input=""),
        "candidate-no-output": but(mode="new", source=0, output=None),
        "candidate-call": but(call="zz"),
        "candidate-bad": but(bad="cut by length"),
        "candidate-bad-number": but(bad=7),
        "candidate-long": but(input="x" * 70000),
        "candidate-scalars": make([b"1", b"null", b'"x"', b"[]", b"{}", b"", b"{"]),
    }
    return {"request-" + name: data for name, data in seeds.items()}


TARGETS = {"reply": lambda: {**bodies(), **texts(), **requests()}}
