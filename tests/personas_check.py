#!/usr/bin/env python3
"""Do the made-up people of personas.py have what a test of personal models needs?
usage: personas_check.py [FILTER]

Speaks TAP."""

import json
import pathlib
import re
import sys
import tempfile

import personas
import tap
from personas import GIVEN, MADE, TASKS

SCRATCH = tempfile.TemporaryDirectory(prefix="plm-personas-")
FIELDS = {
    "LaMP_1": "id title abstract citation date",
    "LaMP_2N": "id title text category date",
    "LaMP_2": "id description tag date",
    "LaMP_3": "id text score date",
    "LaMP_4": "id text title date",
    "LaMP_5": "id abstract title date",
    "LaMP_7": "id text date",
}


def made(*words):
    """The folder that these options make, once."""
    out = pathlib.Path(SCRATCH.name, "_".join(words) or "plain")
    if not out.exists():
        personas.main([*words, str(out)])
    return out


def read(out, task, split="dev"):
    questions = json.loads((out / task / f"{split}_questions.json").read_text())
    outputs = json.loads((out / task / f"{split}_outputs.json").read_text())
    assert outputs["task"] == task
    assert [str(q["id"]) for q in questions] == [g["id"] for g in outputs["golds"]]
    return questions, [g["output"] for g in outputs["golds"]]


def users(questions, golds):
    out = {}
    for q, gold in zip(questions, golds):
        out.setdefault(str(q["user_id"]), []).append((q, gold))
    return list(out.values())


def test_the_same_seed_gives_the_same_bytes_and_another_one_others():
    again = pathlib.Path(SCRATCH.name, "again")
    personas.main([str(again)])
    files = sorted(p.relative_to(again) for p in again.rglob("*.json"))
    assert len(files) == 4 * len(TASKS) + 1
    assert all((made() / f).read_bytes() == (again / f).read_bytes() for f in files)
    assert read(made("--seed", "1"), "LaMP_4") != read(made(), "LaMP_4")


def test_every_file_has_the_form_of_published_ones():
    kinds = set()
    for task in TASKS:
        for split in "dev", "task":
            questions, golds = read(made(), task, split)
            assert len({str(q["id"]) for q in questions}) == len(questions)
            assert all(isinstance(g, str) and g for g in golds)
            for q in questions:
                assert q["input"].startswith(personas.PROMPTS[task].split("{}")[0])
                for item in q["profile"]:
                    assert set(item) == set(FIELDS[task].split()), item
                    kinds.update(
                        (k, type(v).__name__) for k, v in item.items() if k in ("id", "date", "score")
                    )
            for records in users(questions, golds):
                profiles = [q["profile"] for q, _ in records]
                assert all(p == profiles[0] for p in profiles)
                dates = [str(item["date"]) for item in profiles[0]]
                assert dates == sorted(dates)
    assert kinds == {(k, t) for k in ("id", "date", "score") for t in ("int", "str")}


def test_people_of_the_two_files_are_not_the_same():
    for task in TASKS:
        dev, pool = (read(made(), task, split)[0] for split in ("dev", "task"))
        assert not {str(q["user_id"]) for q in dev} & {str(q["user_id"]) for q in pool}
        items = [{str(i["id"]) for q in x for i in q["profile"]} for x in (dev, pool)]
        assert not items[0] & items[1]


def test_there_are_hundreds_of_different_texts():
    for task in TASKS:
        texts = set()
        for split in "dev", "task":
            for q in read(made("--users", "12", "--profile", "40"), task, split)[0]:
                texts |= {str(item[GIVEN[task] or MADE[task]]) for item in q["profile"]}
        assert len(texts) > (150 if task == "LaMP_3" else 300), (task, len(texts))


def test_a_leak_is_there_only_where_it_was_planted():
    out = made("--plant-leak")
    manifest = json.loads((out / "personas.json").read_text())["people"]
    for task in TASKS:
        planted = [p["leak"] for p in manifest[task] if "leak" in p]
        assert len(planted) == 3, task
        questions, golds = read(out, task)
        for leak in planted:
            q = next(q for q in questions if str(q["id"]) == leak["query"])
            item = next(i for i in q["profile"] if str(i["id"]) == leak["item"])
            given = str(item[GIVEN[task] or MADE[task]]).lower().split()
            if task not in ("LaMP_1", "LaMP_7"):
                assert sum(w not in q["input"].lower().split() for w in given) <= 1, (item, q["input"])
            gold = golds[questions.index(q)]
            if task == "LaMP_1":
                assert item["citation"] in q["input"] and item["title"] in q["input"]
            elif task == "LaMP_7":
                assert sum(w not in gold.lower().split() for w in given) <= 1
            else:
                assert str(item[MADE[task]]) == gold
        for out, leaks in (made(), 0), (out, 3):
            found = 0
            for q, gold in zip(*read(out, task)):
                asked = gold if task == "LaMP_7" else q["input"].split(": ", 1)[1]
                if task != "LaMP_1":
                    asked = asked.split("article: ")[-1].split("description: ")[-1].split("review: ")[-1]
                found += any(personas.near(asked, str(i[GIVEN[task] or MADE[task]])) for i in q["profile"])
            assert found == leaks or task == "LaMP_1", (task, found)


def guess(task, q, items, neutral):
    """What somebody would answer who has seen the items and reads nothing but their habits."""
    made = [str(i[MADE[task]]) for i in items]
    if task == "LaMP_1":
        texts = " ".join(i["citation"] + " " + i["title"] for i in items).lower()
        choices = [
            max((m.lower() in c.lower()) * texts.count(m.lower()) for m in personas.METHODS)
            for c in re.findall(r'\[[12]\]: "(.*?)"', q["input"])
        ]
        return "[1]" if choices[0] >= choices[1] else "[2]"
    if task in ("LaMP_2N", "LaMP_2"):
        text = q["input"].split("article: ")[-1].split("description: ")[-1].lower()
        cues = (
            {k: v[0] for k, v in personas.NEWS.items()}
            if task == "LaMP_2N"
            else {k: [x for part in v for x in part] for k, v in personas.FILMS.items()}
        )
        return max((k for k, v in cues.items() if any(x.lower() in text for x in v)), key=made.count)
    if task == "LaMP_3":
        level = next(k for k, v in personas.VERDICTS.items() if any(x in q["input"] for x in v[0]))
        seen = [str(i["score"]) for i in items if any(x in i["text"] for x in personas.VERDICTS[level][0])]
        return max(seen or [level], key=(seen or [level]).count)
    return neutral(made)


def manner(texts):
    """The commonest case, end and first word of texts."""

    def of(t):
        case = (
            "lower"
            if t == t.lower()
            else "upper" if t.split()[2:3] == [w.upper() for w in t.split()[2:3]] else "other"
        )
        return case, t[-1] if not t[-1].isalpha() else "", ":" in t

    seen = [of(t) for t in texts]
    return max(seen, key=seen.count), of


def test_habits_can_be_learned_from_a_person_and_not_from_the_next():
    for task in TASKS:
        questions, golds = read(made("--users", "12"), task)
        people = users(questions, golds)
        right = {"own": 0, "other": 0}
        for n, records in enumerate(people):
            sources = {
                "own": records[0][0]["profile"],
                "other": people[(n + 1) % len(people)][0][0]["profile"],
            }
            for who, items in sources.items():
                for q, gold in records:
                    if task in ("LaMP_4", "LaMP_5", "LaMP_7"):
                        common, of = manner([i[MADE[task]] for i in items])
                        right[who] += common == of(gold)
                    else:
                        right[who] += guess(task, q, items, None) == gold
        own, other = right["own"] / len(questions), right["other"] / len(questions)
        print(f"# {task}: own {own:.2f}, the next one's {other:.2f}")
        assert own > 0.65 and own > other + 0.2, (task, own, other)


def test_shuffled_labels_leave_nothing_to_learn():
    for task in TASKS:
        questions, golds = read(made("--shuffle-labels"), task)
        plain, plain_golds = read(made(), task)
        assert golds == plain_golds and [q["input"] for q in questions] == [q["input"] for q in plain]
        hands = [[str(i[MADE[task]]) for q in x[::5] for i in q["profile"]] for x in (questions, plain)]
        assert hands[0] != hands[1] and sorted(hands[0]) == sorted(hands[1]), task


sys.exit(tap.run(globals(), "".join(sys.argv[1:2])) > 0)
