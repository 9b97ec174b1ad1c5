#!/usr/bin/env python3
"""`plm-eval latency` from outside, on a tiny model and a server of known pace.
usage: latency.py BUILD_FOLDER [FILTER]

Speaks TAP."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import tap

ROOT = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(sys.argv[1]).resolve()
HOME = tempfile.TemporaryDirectory(prefix="plm-latency-")
QUESTIONS = pathlib.Path(HOME.name, "questions.txt")
SLACK = 500  # ms that a busy machine may add to the best of a few


def run(*words, code=0, **more):
    env = dict(os.environ, http_proxy="http://127.0.0.1:1", **more)
    done = subprocess.run(
        [str(BUILD / "plm-eval"), "latency", *map(str, words)],
        env=env,
        timeout=120,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, f"exit {done.returncode}, not {code}: {done.stderr or done.stdout}"
    return done.stdout, done.stderr


def measure(behaviour, *words, limit=4):
    out, err = run(
        "--endpoint",
        f"http://127.0.0.1:{PORT}/{behaviour}/v1",
        "--questions",
        QUESTIONS,
        "--limit",
        limit,
        "--json",
        *words,
    )
    return json.loads(out)["rows"], err


def model():
    path = pathlib.Path(HOME.name, "tiny.gguf")
    if not path.exists():
        subprocess.run([str(BUILD / "tests/make-tiny-model"), str(path)], check=True)
    return path


def refused(behaviour):
    _, err = run(
        "--endpoint",
        f"http://127.0.0.1:{PORT}/{behaviour}/v1",
        "--questions",
        QUESTIONS,
        "--timeout",
        1,
        code=1,
    )
    assert len(err.strip().splitlines()) == 1, err
    return err


def test_a_round_trip_is_paid_for_the_connection_and_for_the_answer():
    rows, _ = measure("good", "--rtt", "0,100")
    direct, none, far = rows[:3]
    assert [r["where"] for r in rows] == ["direct"] + ["network"] * 4
    for row, ms in (direct, 0), (none, 0), (far, 200):
        assert row["answered"] == 4 and row["success"] == 1, row
        first, whole = (min(x[k] for x in row["each"]) for k in (0, 1))
        assert 60 + ms <= first < 60 + ms + SLACK and whole >= first + 60, row
        assert first <= row["first_ms"]["p50"] <= row["first_ms"]["p95"] <= row["answer_ms"]["p95"]
        assert row["tokens"] == 8
    assert direct["added_ms"] is None and far["added_ms"] is not None


def test_an_outage_refuses_a_tenth_of_the_questions_and_ends():
    rows, err = measure("good", "--rtt", "5", limit=11)
    outage = rows[-1]
    assert (outage["outage"], outage["answered"], outage["success"]) == (2, 9, 0.8182), outage
    assert outage["failed"] == {"refused": 2, "timed out": 0, "cut": 0, "rejected": 0}
    refused_ones = [i for i, x in enumerate(outage["each"]) if x[1] is None]
    assert refused_ones == [7, 8], refused_ones
    assert not err, err


def test_a_stall_makes_an_answer_late_or_lost():
    late, _ = measure("good", "--rtt", "5", "--stalls", 100, "--stall", 0.5)
    assert late[2]["stalled"] == late[2]["answered"] == 4, late[2]
    assert 500 <= min(whole for _, whole in late[2]["each"]) < 700 + SLACK, late[2]
    lost, err = measure("good", "--rtt", "5", "--stalls", 100, "--stall", 3, "--timeout", 0.4)
    assert lost[2]["answered"] == 0 and lost[2]["failed"]["timed out"] == 4, lost[2]
    assert lost[2]["first_ms"]["p50"] is None and lost[3]["answered"] == 3 and "Timeout" in err


def test_the_same_seed_stalls_the_same_questions():
    def stalled(seed):
        rows, _ = measure("good", "--rtt", "1", "--stalls", 50, "--stall", 1.2, "--seed", seed, limit=6)
        return [whole > 1100 for _, whole in rows[2]["each"]]

    first = stalled(3)
    assert first == stalled(3) and 0 < sum(first) < 6


def test_every_form_of_a_stream_is_read():
    for behaviour, pieces in (
        ("good", 8),
        ("crlf", 8),
        ("dribble", 8),
        ("nodone", 8),
        ("plain", 1),
        ("empty", 0),
    ):
        rows, _ = measure(behaviour, "--rtt", "1", limit=1)
        assert rows[0]["answered"] == 1 and rows[0]["tokens"] == pieces, (behaviour, rows[0])
        assert rows[0]["first_ms"]["p50"] >= 60


def test_what_the_server_does_wrong_is_one_sentence():
    assert "out of order" in refused("broken")
    assert "JSON" in refused("nonsense")
    assert "ended before the answer" in refused("cut")
    assert "Timeout" in refused("silent")
    assert "503" in refused("status") and "too many questions" in refused("status")
    assert "302" in refused("redirect")


def test_the_key_goes_along_and_nowhere_else():
    key = pathlib.Path(HOME.name, "key")
    key.write_text("a-key\n")
    rows, err = measure("key", "--rtt", "1", "--endpoint-key", key, limit=1)
    assert rows[0]["answered"] == 1 and "a-key" not in err
    assert "no such key" in refused("key")


def test_device_and_endpoint_stand_in_one_table():
    lamp = pathlib.Path(HOME.name, "lamp")
    subprocess.run([sys.executable, str(ROOT / "personas.py"), "--tasks", "LaMP_4", str(lamp)], check=True)
    words = [
        "--model",
        model(),
        "--questions",
        lamp / "LaMP_4" / "dev_questions.json",
        "--limit",
        3,
        "--max-tokens",
        5,
    ]
    out, _ = run(*words, "--endpoint", f"http://127.0.0.1:{PORT}/good/v1", "--rtt", "10", "--quiet")
    lines = out.splitlines()
    assert len(lines) == 3 + 5 and lines[3].startswith("this device"), out
    assert all("3 of 3" in line for line in lines[3:7]) and "2 of 3, 1 refused" in lines[7], out
    doc = json.loads(run(*words, "--json")[0])
    assert doc["questions"] == 3 and [r["where"] for r in doc["rows"]] == ["device"]
    assert doc["rows"][0]["answered"] == 3 and 1 <= doc["rows"][0]["tokens"] <= 5


def test_misuse_is_one_sentence_too():
    for words, code, said in (
        ([], 2, "it takes --questions"),
        (["--questions", QUESTIONS], 2, "--endpoint"),
        (["--questions", "/nowhere", "--endpoint", "http://127.0.0.1:1/v1"], 1, "No such file"),
        (["--questions", QUESTIONS, "--endpoint", "http://example.org/v1"], 1, "https alone"),
        (["--questions", QUESTIONS, "--endpoint", "gopher"], 1, "--endpoint takes a URL"),
        (["--questions", QUESTIONS, "--endpoint", "http://127.0.0.1:1/v1", "--rtt", "a"], 1, "--rtt takes"),
        (["--questions", QUESTIONS, "--endpoint", "http://127.0.0.1:1/v1"], 1, "refused"),
    ):
        _, err = run(*words, code=code)
        assert said in err and len(err.strip().splitlines()) == 1, err
    for text in "[", "[{}]", '[{"input": 3}]', "[1]", "\n \n", "[]":
        bad = pathlib.Path(HOME.name, "bad.json")
        bad.write_text(text)
        _, err = run("--questions", bad, "--endpoint", "http://127.0.0.1:1/v1", code=1)
        assert "question" in err, err


def server(*words):
    """A fake server and its port; it ends with its standard input."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "fake_openai.py"), *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, int(process.stdout.readline())


def test_tls_pays_for_its_handshake_through_the_proxy():
    if not shutil.which("openssl"):
        return "SKIP"
    both, key, cert = (pathlib.Path(HOME.name, name) for name in ("both.pem", "key.pem", "cert.pem"))
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    both.write_text(key.read_text() + cert.read_text())
    process, port = server(both)
    words = ["--endpoint", f"https://localhost:{port}/good/v1", "--questions", QUESTIONS, "--limit", 3]
    words += ["--rtt", 100, "--json"]
    _, err = run(*words, code=1)
    assert "certificate" in err, err
    row = json.loads(run(*words, "--endpoint-ca", cert)[0])["rows"][1]
    first = min(x[0] for x in row["each"])
    assert row["answered"] == 3 and 60 + 300 <= first < 60 + 400 + SLACK, row
    process.stdin.close()
    process.wait()


def main():
    global PORT
    QUESTIONS.write_text("".join(f"What is in box {i}?\n\n" for i in range(30)))
    process, PORT = server()
    failed = tap.run(globals(), "".join(sys.argv[2:3]))
    process.stdin.close()
    process.wait()
    sys.exit(failed > 0)


main()
