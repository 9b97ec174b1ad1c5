#!/usr/bin/env python3
"""`plm-eval run` from outside: made-up people, a tiny model and a fake teacher. Every arm of every task runs;
runs that were killed, cut into shards or started twice say the same; planted faults show.
usage: eval.py BUILD_FOLDER [FILTER]"""

import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import tap

ROOT = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(sys.argv[1]).resolve()
HOLD = tempfile.TemporaryDirectory(prefix="plm-eval-")
HOME = pathlib.Path(HOLD.name)
MODEL = HOME / "tiny.gguf"
TASKS = ["LaMP_1", "LaMP_2", "LaMP_2N", "LaMP_3", "LaMP_4", "LaMP_5", "LaMP_7"]
LABELS = {"LaMP_1", "LaMP_2", "LaMP_2N", "LaMP_3"}
PLAIN = (
    "majority,histogram,copy,base,bm25,task,task+prior,task+fit,task@1,real,real-matched,real-matched:0.5,"
    "real-best,real-dropout,real+prior,real+nearest,shuffled,mixture"
)
WRITTEN = "generic,synthetic,real+unfiltered,real+syn,real+syn@4,gate,real+syn/2,real+chosen,real+syn+prior"


def people(name, *words, users=3, queries=2, profile=6):
    folder = HOME / name
    if not folder.exists():
        size = ["--users", users, "--queries", queries, "--profile", profile, "--task-users", 4]
        subprocess.run([sys.executable, ROOT / "personas.py", *map(str, size), *words, folder], check=True)
    return folder


def recipe(name="recipe", **settings):
    path = HOME / f"{name}.json"
    short = {"least_steps": 2, "most_steps": 2}
    path.write_text(json.dumps({"task_examples": 8, "donors": 2, "user": short, "best": short, **settings}))
    return path


def command(task, data, out, arms, *words):
    first = [BUILD / "plm-eval", "run", "--task", task, "--data", data, "-m", MODEL]
    return [
        *map(str, first),
        "--out",
        str(out),
        "--arms",
        arms,
        "--recipe",
        str(recipe()),
        "-q",
        *map(str, words),
    ]


def run(task, data, out, arms, *words, code=0):
    done = subprocess.run(
        command(task, data, HOME / out, arms, *words), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, f"exit {done.returncode}, not {code}: {done.stderr or done.stdout}"
    return done.stdout + done.stderr


def lines(out):
    text = (HOME / out / "results.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def numbers(out):
    """What must not depend on when and how often a run was stopped: all but times."""
    found = {}
    for line in lines(out):
        line["cost"] = {k: v for k, v in line["cost"].items() if not k.endswith(("_s", "_ms"))}
        key = tuple(line[k] for k in ("task", "user", "arm", "bm25", "point", "seed"))
        assert key not in found, f"{key} is there twice"
        found[key] = line
    return found


def mean(values):
    values = list(values)
    return sum(values) / len(values)


class Teacher:
    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "fake_teacher.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        port = int(self.process.stdout.readline())
        return ["--teacher", f"http://127.0.0.1:{port}/good/v1", "--teacher-model", "fake"]

    def __exit__(self, *why):
        self.process.stdin.close()
        self.process.wait(10)


def test_every_plain_arm_of_every_task_runs():
    data = people("people")
    for task in TASKS:
        run(task, data, "plain", PLAIN, "--points", "0,4,all", "--users", 2)
    found = numbers("plain")
    for task in TASKS:
        for arm, k in [
            ("base", 0),
            ("base", 4),
            ("task", 0),
            ("task", 1),
            ("real-matched", 0),
            ("shuffled", 0),
        ]:
            for user in (0, 1):
                line = found[(task, user, arm, k, "all", 0)]
                assert len(line["nll"]) == line["queries"] == 2 and all(x > 0 for x in line["nll"])
        assert (task, 0, "copy", 0, "all", 0) in found or task in LABELS
        assert (task, 0, "real", 0, "4", 0) in found and (task, 0, "real", 0, "0", 0) not in found
        if task in LABELS:
            n = 2 if task == "LaMP_1" else 5 if task == "LaMP_3" else 15
            line = found[(task, 0, "histogram", 0, "0", 0)]
            assert all(math.isclose(x, math.log(n), rel_tol=1e-6) for x in line["nll"])


def test_what_is_known_is_not_asked_again():
    """Arms that weigh the same probabilities anew have their pace; a first token is timed once a run."""
    costs = {}
    for line in lines("plain"):
        costs[tuple(line[k] for k in ("task", "user", "point", "arm", "bm25"))] = line["cost"]
    for (task, user, point, arm, _), cost in costs.items():
        if arm == "task+prior":
            assert cost["answer_ms"] == costs[task, user, point, "task", 0]["answer_ms"] > 0
    for task in TASKS:
        for arm in ("base", "real-matched", "shuffled"):
            of_arm = [c for k, c in costs.items() if k[0] == task and k[3:] == (arm, 0)]
            assert sum("first_token_ms" in c for c in of_arm) == 1, (task, arm)


def test_a_fitted_arm_says_what_it_did():
    """With four items and more it weighs the adapter by items that it never saw, and says so."""
    seen = 0
    for line in lines("plain"):
        if line["arm"] in ("task+fit", "real+prior"):
            p = line["prior"]
            fits = line["history"] >= 4 or line["arm"] == "task+fit"
            assert p["items"] == (line["history"] if fits else 0), line
            assert 0 <= p["weight"] <= 1 and (p["items"] > 0) == (p["nll"] > 0)
            seen += p["nll"] < p["plain"]
    assert seen > 0


def test_a_mixture_loses_at_most_its_bound():
    for line in lines("plain"):
        if line["arm"] == "mixture":
            m = line["mixture"]
            assert m["experts"] > 1 and m["loss"] <= m["bound"] + 1e-6, m


def test_arms_with_a_teacher_run_on_kept_replies_the_second_time():
    data = people("people")
    for task in ("LaMP_1", "LaMP_3", "LaMP_4", "LaMP_7"):
        with Teacher() as teacher:
            run(task, data, "written-" + task, WRITTEN, "--points", "all", "--users", 1, *teacher)
        results = HOME / ("written-" + task) / "results.jsonl"
        first = results.read_text()
        results.unlink()
        run(task, data, "written-" + task, WRITTEN, "--points", "all", "--users", 1, *teacher)  # who is gone
        again = [json.loads(x) for x in results.read_text().splitlines()]
        before = [json.loads(x) for x in first.splitlines()]
        assert len(before) == 8 + (task in LABELS)
        assert [x.get("nll") for x in again] == [x.get("nll") for x in before]
        assert before[3]["synthetic"]["kept"] > 0
        half, chosen = before[6]["rows"], before[7]["rows"]
        assert half["kept"] == chosen["kept"] > 0 and -1 <= chosen["score_dropped"] <= chosen["score"] <= 1
        installs = before[5]["gate"]["chosen"]
        assert installs in {"base", "real", "real+syn"} or (task in LABELS and installs.endswith("+prior"))


def test_a_service_as_the_ceiling_answers_and_has_no_nll():
    data = people("people")
    for task in ("LaMP_3", "LaMP_4"):
        with Teacher() as teacher:
            run(task, data, "service-" + task, "teacher,teacher@1", "--points", "4", "--users", 1, *teacher)
        for line in lines("service-" + task):
            m = line["metric"]
            assert "nll" not in line and line["service"]["unanswered"] == 0 and line["teacher"]
            if task == "LaMP_4":
                assert len(m["rouge1"]) == 2 and all(0 <= x <= 1 for x in m["rouge1"])
            else:
                assert len(m["pred"]) == 2 and all(-1 <= x < 5 for x in m["pred"])
                assert all(0 <= x < 5 for x in m["gold"])


def test_a_run_that_is_killed_goes_on_to_the_same_numbers():
    data = people("people")
    arms = "base,task,real-matched,shuffled"
    run("LaMP_3", data, "whole", arms, "--points", "4,all")
    out, rounds = HOME / "killed", 0
    while True:
        process = subprocess.Popen(
            command("LaMP_3", data, out, arms, "--points", "4,all"), stdout=subprocess.DEVNULL
        )
        try:
            process.wait(0.02 + 0.05 * rounds)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            rounds += 1
    assert process.returncode == 0 and rounds > 0
    assert numbers("killed") == numbers("whole")


def test_a_torn_last_line_is_made_again():
    path = HOME / "whole" / "results.jsonl"
    before = numbers("whole")
    path.write_bytes(path.read_bytes()[:-25])
    run("LaMP_3", people("people"), "whole", "base,task,real-matched,shuffled", "--points", "4,all")
    assert numbers("whole") == before


def test_shards_add_up_to_the_whole():
    data = people("people")
    merged = {}
    for i in (1, 2):
        run(
            "LaMP_3",
            data,
            f"shard{i}",
            "base,task,real-matched,shuffled",
            "--points",
            "4,all",
            "--shard",
            f"{i}/2",
        )
        merged.update(numbers(f"shard{i}"))
    assert merged == numbers("whole")


def test_no_text_is_in_the_results():
    text = (HOME / "plain" / "results.jsonl").read_text() + (
        HOME / "written-LaMP_4" / "results.jsonl"
    ).read_text()
    for task in TASKS:
        for question in json.loads((people("people") / task / "dev_questions.json").read_text()):
            for item in question["profile"]:
                for field in ("text", "title", "abstract", "description"):
                    assert item.get(field, "?" * 20)[:20] not in text


def test_a_planted_leak_is_left_out_and_counted():
    for task in ("LaMP_1", "LaMP_4"):
        near = {}
        for name, words in (("clean", ()), ("leak", ("--plant-leak",))):
            data = people(name, *words, users=4)
            run(task, data, name + task, "base", "--points", "all")
            run(task, data, name + task, "base", "--points", "all", "--no-guard")
            for line in lines(name + task):
                near[name, line["user"], line["guarded"]] = line["guard"]["near"]
        for user in range(4):
            more = near["leak", user, True] - near["clean", user, True]
            assert (more > 0) == (user % 2 == 0) and near["leak", user, False] == 0, (task, near)


def test_shuffled_labels_take_away_what_a_counter_knows():
    score = {}
    for name, words in (("many", ()), ("dealt", ("--shuffle-labels",))):
        data = people(name, *words, users=12, queries=6, profile=20)
        run("LaMP_3", data, name, "histogram", "--points", "all")
        score[name] = mean(mean(x["nll"]) for x in lines(name))
    assert score["many"] + 0.1 < score["dealt"], score


def test_misuse_is_one_sentence():
    data = people("people")
    for words, says in [
        (("LaMP_6", data, "bad", "base"), "--task is"),
        (("LaMP_3", data, "bad", "bass"), "is no arm"),
        (("LaMP_3", data, "bad", "base", "--points", "4,x"), "--points"),
        (("LaMP_3", data, "bad", "base", "--shard", "3/2"), "--shard"),
        (("LaMP_3", data, "bad", "real+syn"), "--teacher"),
        (("LaMP_3", data, "bad", "base", "--split", "test"), "--split"),
        (("LaMP_3", HOME / "nowhere", "bad", "base"), "No such file"),
    ]:
        said = run(*words, code=1)
        assert says in said and said.count("\n") == 1, said
    (HOME / "odd.json").write_text('{"rank": 8, "speed": 3}')
    assert "no setting" in run("LaMP_3", data, "bad", "base", "--recipe", HOME / "odd.json", code=1)


def main():
    subprocess.run([str(BUILD / "tests" / "make-tiny-model"), MODEL, "--context", "1024"], check=True)
    sys.exit(tap.run(globals(), "".join(sys.argv[2:3])) > 0)


main()
