"""Shapes of what plm-eval reads: 'r' results, 'o' outputs files, 'k' label counts in an adapter."""

import json


def line(**more):
    cell = {
        "v": 1, "task": "LaMP_3", "split": "dev", "user": 0, "arm": "base", "bm25": 0, "point": "all",
        "seed": 0, "config": "c", "teacher": "", "student": "s", "guarded": True, "queries": 2, "history": 9,
        "nll": [1.5, 2.0], "bytes": [1, 1], "metric": {"pred": [0, 4], "gold": [0, 3]}, "guard": {"near": 1},
        "cost": {"train_s": 1.5, "steps": 3, "answer_ms": 2.0, "first_token_ms": 1.0},
    }  # fmt: skip
    cell.update(more)
    return json.dumps({k: v for k, v in cell.items() if v is not None}).encode() + b"\n"


def results():
    whole = b"".join(
        line(user=u, arm=arm, point=p, nll=[1.0 + u * 0.1 + i * 0.01, 2.0])
        for u in range(4)
        for i, arm in enumerate(["base", "task", "real-matched", "real-best", "real+syn", "shuffled"])
        for p in ("8", "all")
    )
    rouge = line(task="LaMP_4", metric={"rouge1": [0.5, 1], "rougeL": [0.1, 1]}, bytes=[30, 2])
    return {
        "results": whole,
        "two-tasks": whole + rouge + line(task="LaMP_4", arm="copy", nll=None, bytes=None),
        "twice": line() + line(),
        "twice-unlike": line() + line(nll=[1, 1]),
        "torn": whole + line()[:40],
        "other-version": line(v=2),
        "no-task": line(task="LaMP_6") + line(task="?"),
        "odd-numbers": line(user=-1) + line(),
        "odd-user": line(user=1e9) + line(user=True),
        "huge-nll": line(nll=[1e308, 1e308]) + line(arm="task", nll=[-1e308, 0]),
        "zero-nll": line(nll=[0, 0]) + line(arm="task", nll=[0, 0]),
        "short-lists": line(nll=[1]) + line(metric={"pred": [0], "gold": []}, arm="task"),
        "odd-metric": line(metric={"pred": ["a", {}], "gold": [99, -99]}) + line(arm="task", metric=[]),
        "odd-cost": line(cost={"train_s": "x"}) + line(arm="task", cost=3),
        "far-labels": line(metric={"pred": [10**18, -5], "gold": [3, 2]}),
        "rows": line(arm="real+syn", teacher="t", synthetic={"asked": 3, "seen": 9, "kept": 4, "near": 1,
                     "dropped": {"near": 2, "": 1}}, gate={"chosen": "real"}, mixture={"bound": "x"}),
        "html": line(arm="<script>&\"'", student="</html>", config="%s%n"),
        "empty": b"",
        "no-object": b"[]\n3\n",
        "nul": line()[:30] + b"\0" + line()[30:],
    }  # fmt: skip


def outputs():
    gold = lambda task, *values: json.dumps(
        {"task": task, "golds": [{"id": str(i), "output": v} for i, v in enumerate(values)]}
    ).encode()
    return {
        "labels": gold("LaMP_2", "comedy", "classic", " sci-fi "),
        "ratings": gold("LaMP_3", "1", 5, 3.5, "+4", "1_0"),
        "texts": gold("LaMP_4", "A river", "\u00fcber", "", "..."),
        "no-label": gold("LaMP_1", "[1]", "[3]"),
        "no-number": gold("LaMP_3", "nan", "1e999"),
        "no-task": gold("LaMP_9", "a"),
        "same-id": b'{"task":"LaMP_4","golds":[{"id":1,"output":"a"},{"id":"1","output":"b"}]}',
        "odd-ids": b'{"task":"LaMP_4","golds":[{"id":1.5,"output":"a"}]}',
        "odd-output": b'{"task":"LaMP_4","golds":[{"id":"1","output":[]}]}',
        "empty-golds": b'{"task":"LaMP_4","golds":[]}',
        "list": b"[]",
        "nothing": b"",
    }


def counts():
    voice = lambda trust, weight, *bias: {"trust": trust, "weight": weight, "bias": bias}
    text = lambda *voices, labels=("1", "2", "3"): json.dumps({"labels": labels, "voices": voices}).encode()
    return {
        "counts": text(voice(0.75, 1, 0, 0, 0), voice(0.25, 0, -0.1, -2.5, -9)),
        "far": text(voice(1, 0, 1e4, -1e4, 0)),
        "no-trust": text(voice(0, 1, 0, 0, 0)),
        "much-trust": text(voice(1, 1, 0, 0, 0), voice(1, 1, 0, 0, 0)),
        "endless": text(voice(1, 1, 1e309, 0, 0)),
        "other-labels": text(voice(1, 1, 0, 0), labels=("1", "2")),
        "many": text(*[voice(0.1, 1, 0, 0, 0)] * 10),
        "none": text(),
    }


def evaluation():
    kinds = {b"r": results, b"o": outputs, b"k": counts}
    return {f"{k.decode()}-{name}": k + data for k, f in kinds.items() for name, data in f().items()}


TARGETS = {"eval": evaluation}
