#!/usr/bin/env python3
"""Makes scores.json and strip.json beside it: python3 make.py
LaMP's metrics of made-up answers by scikit-learn 1.9 and rouge-score 0.1.2, put together as LaMP's evaluator does
(strip, exact labels or -1, float() or the worst rating, plain mean of ROUGE), and Python's own strip() and float()."""
import json
import math
import os
import random

from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, mean_squared_error

here = os.path.dirname(os.path.abspath(__file__))
rng = random.Random(11)
LABELS = {
    "LaMP_1": ["[1]", "[2]"],
    "LaMP_2": "sci-fi|based on a book|comedy|action|twist ending|dystopia|dark comedy|classic|psychology|fantasy|"
    "romance|thought-provoking|social commentary|violence|true story".split("|"),
    "LaMP_2N": "travel|education|parents|style & beauty|entertainment|food & drink|science & technology|business|"
    "sports|healthy living|women|politics|crime|culture & arts|religion".split("|"),
    "LaMP_3": list("12345"),
}
SPACES = ["", " ", "\n", "\t ", "\u00a0", "\u2003", "\x1f", "\u3000\x85"]
WORDS = "It's the Ünïted \u212aelvin's 10.5% of a re-view, don't; naïve über-cool 東京 ice-cream NO.1 @user #tag x2".split()


def labels(task):
    names = LABELS[task]
    golds = [rng.choice(names[: max(2, len(names) - 3)]) for _ in range(60)]
    preds = []
    for gold in golds:
        said = gold if rng.random() < 0.5 else rng.choice(names)
        said = rng.choice([said] * 8 + [said.upper() + ".", said + " or so", "", "none"])
        preds.append(rng.choice(SPACES) + said + rng.choice(SPACES))
    at = lambda x: names.index(x.strip()) if x.strip() in names else -1
    g, p = [at(x) for x in golds], [at(x) for x in preds]
    f1 = f1_score(g, p, labels=list(range(len(names))), average="macro", zero_division=0)
    return golds, preds, [accuracy_score(g, p), f1], sum(x < 0 for x in p)


def rating(text, gold):
    try:
        return float(text), 0
    except ValueError:
        return (1.0 if abs(1 - gold) > abs(5 - gold) else 5.0), 1


def ratings():
    golds = [rng.choice("12345") for _ in range(60)]
    odd = ["10", "-3", "4.0", "+4", " 3\u00a0", "4/5", "five", "", "4 stars", "1_0", "_1", "1e0", "0x4", ".5", "2.",
           "+-4", "1__0", "\u2003 2", "--1", "3,5"]
    preds = odd + [rng.choice("12345") for _ in range(40)]
    g = [float(x) for x in golds]
    read = [rating(x.strip(), y) for x, y in zip(preds, g)]
    p = [x for x, _ in read]
    return (golds, preds, [mean_absolute_error(g, p), math.sqrt(mean_squared_error(g, p))], sum(x for _, x in read))


def texts():
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    make = lambda n: " ".join(rng.choice(WORDS) for _ in range(n))
    golds = [make(rng.randint(1, 12)) for _ in range(40)]
    preds = [rng.choice([g, make(5), "", g[: len(g) // 2], g[::-1], make(20)]) for g in golds]
    scores = [scorer.score(g.strip(), p.strip()) for g, p in zip(golds, preds)]
    means = [sum(s[name].fmeasure for s in scores) / len(scores) for name in ("rouge1", "rougeL")]
    return golds, preds, means, 0


cases = []
for task in ["LaMP_1", "LaMP_2", "LaMP_2N", "LaMP_3", "LaMP_4", "LaMP_5", "LaMP_7"]:
    kind = labels if task in LABELS and task != "LaMP_3" else ratings if task == "LaMP_3" else texts
    golds, preds, values, unread = kind(task) if kind is labels else kind()
    cases.append({"task": task, "golds": golds, "preds": preds, "values": values, "unread": unread})
with open(f"{here}/scores.json", "w") as out:
    out.write("[" + ",\n".join(map(json.dumps, cases)) + "]\n")

strings = ["", " ", "a", " a ", "\ta\r\n", "\u00a0a\u00a0", "a\u0085", "\u2028\u2029a b\u205f", "\u3000", "\u200ba\u200b",
           "\ufeffa", "\x1c\x1d\x1e\x1fa\x1f", "é ", " é\u1680", "\u180ea", "東京\u3000", "\u202f😀 😀\u2009"]
with open(f"{here}/strip.json", "w") as out:
    json.dump([[s, s.strip()] for s in strings], out)
