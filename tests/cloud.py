#!/usr/bin/env python3
"""The service and the device together, from outside: built programs, a fake teacher, SQLite, and PostgreSQL
where Debian's is installed.
usage: cloud.py BUILD_FOLDER [FILTER]

Speaks TAP. PLM_KILL_ROUNDS: how often the kill tests kill (default: a few)."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(sys.argv[1]).resolve()
PLM, CLOUD = str(BUILD / "plm"), str(BUILD / "plm-cloud")
SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
HOME = pathlib.Path(tempfile.mkdtemp(prefix="plm-cloud-", dir=SHM))
MODEL = str(HOME / "tiny.gguf")
ROUNDS = int(os.environ.get("PLM_KILL_ROUNDS", "0"))
CANARY = "zebrafish-canary-7731"


# ---- a teacher, a service, a client ----


class Teacher:
    def __init__(self, behaviour="good"):
        self.log = HOME / f"teacher-{random.randrange(10**9)}.log"
        self.log.write_text("")
        self.child = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "fake_teacher.py"), str(self.log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.port = int(self.child.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/{behaviour}/v1"

    def calls(self):
        """The bodies of all calls so far, in order."""
        return self.log.read_bytes().splitlines()

    def close(self):
        self.child.kill()
        self.child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.close()


def clean_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith(("PLM_TEACHER", "PLM_CLOUD", "XDG_"))}


def cloud(*words, code=0):
    done = subprocess.run([CLOUD, *map(str, words)], capture_output=True, env=clean_environment(), timeout=60)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, f"{words}: exit {done.returncode}: {err or out}"
    return out, err


class Service:
    """plm-cloud serve, restarted at will on the same database and port."""

    def __init__(self, teacher, db=None, *options, keys=None, port=0, command="serve"):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="service-", dir=HOME))
        self.db = db or f"sqlite:{self.folder / 'ledger.db'}"
        self.keys = keys or self.folder / "keys"
        self.words = ["--db", self.db, "--keys", self.keys]
        self.teacher, self.options, self.port, self.command = teacher, options, port, command
        self.child = None

    def start(self):
        words = [CLOUD, self.command, *self.words, "--teacher", self.teacher, *self.options]
        if self.command == "serve":
            words += ["--listen", f"127.0.0.1:{self.port}"]
        self.log = open(self.folder / "log", "ab")
        at = self.log.tell()
        self.child = subprocess.Popen([str(w) for w in words], stderr=self.log, env=clean_environment())
        for _ in range(600):
            for line in (self.folder / "log").read_bytes()[at:].splitlines():
                if b'"event":"started"' in line:
                    self.port = json.loads(line).get("port", 0)
                    return self
            if self.child.poll() is not None:
                said = (self.folder / "log").read_text()[-500:]
                raise AssertionError(f"exit {self.child.returncode}: {said}")
            time.sleep(0.02)
        raise AssertionError("the service does not start")

    def kill(self, how=signal.SIGKILL):
        if self.child:
            self.child.send_signal(how)
            self.child.wait(60)
            self.log.close()
        code = self.child.returncode if self.child else 0
        self.child = None
        return code

    def tenant(self, name, *limits):
        return json.loads(cloud("tenant", "add", name, *self.words, *limits, "--json")[0])["key"]

    def stats(self):
        return json.loads(cloud("status", *self.words, "--json")[0])

    def events(self):
        return [json.loads(x) for x in (self.folder / "log").read_bytes().splitlines() if x.startswith(b"{")]

    def call(self, method, path, key=None, body=None, headers=(), timeout=30):
        """(status, headers, bytes) of one request."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        all_headers = dict(headers)
        if key:
            all_headers.setdefault("Authorization", "Bearer " + key)
        if body is not None:
            all_headers.setdefault("Content-Type", "application/json")
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            c.request(method, path, body, all_headers)
            r = c.getresponse()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
        finally:
            c.close()

    def submit(self, key, request, idem=None):
        return self.call("POST", "/v1/jobs", key, request, {"Idempotency-Key": idem or request["id"]})

    def wait(self, key, job, states=("done",), seconds=60):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            status, _, body = self.call("GET", f"/v1/jobs/{job}", key)
            assert status == 200, (status, body)
            doc = json.loads(body)
            if doc["state"] in states:
                return doc
            time.sleep(0.05)
        raise AssertionError(f"job {job} is still {doc}")

    def __enter__(self):
        return self.start()

    def __exit__(self, *a):
        self.kill()


class Tap:
    """A relay to the service that keeps what the client sends, and may be told to harm it."""

    def __init__(self, port, harm=None):
        self.target, self.harm, self.seen = port, harm, b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self.pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self.pump, args=(server, client, False), daemon=True).start()

    def pump(self, a, b, out):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                if out:
                    self.seen += data
                if self.harm:
                    data = self.harm(data, out)
                b.sendall(data)
        for s in (a, b):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.listener.close()


def request(seed=1, n=3, want=6, text="The river flooded the lower field"):
    """A request as the device makes them, without a device."""
    records = [
        {"n": i + 1, "input": f"{text} on day {i} of week {seed}", "output": f"Flood {i}"} for i in range(n)
    ]
    r = random.Random(seed)
    return {
        "version": 1,
        "id": "%032x" % r.getrandbits(128),
        "user": "u1",
        "kind": "note",
        "task": "a title",
        "instruction": "Write a title.",
        "share": "exemplars",
        "style": "lines",
        "seed": seed,
        "max_answer_tokens": 64,
        "summary": "Short.",
        "words": {"input": {"mean": 8, "p5": 5, "p95": 12}, "output": {"mean": 2, "p5": 1, "p95": 4}},
        "labels": [],
        "records": records,
        "exemplars": list(range(1, n + 1)),
        "rewrite": list(range(1, n + 1)),
        "topics": ["river"],
        "want": {"reverse": 0, "rewrite": want, "new": 0, "label": 0},
    }


def error_of(body):
    e = json.loads(body)["error"]
    assert set(e) == {"code", "message", "type"} and e["message"], e
    return e


# ---- the flow ----


def test_a_job_from_submission_to_acknowledgement():
    with Teacher() as teacher, Service(teacher.url) as s:
        key = s.tenant("ada")
        status, _, body = s.submit(key, request())
        job = json.loads(body)
        assert status == 202 and job["state"] == "queued", (status, body)
        done = s.wait(key, job["id"])
        assert done["calls_done"] == len(teacher.calls()) > 0 and done["teacher"].startswith(teacher.url)
        status, headers, body = s.call("GET", f"/v1/jobs/{job['id']}/candidates", key)
        lines = [json.loads(x) for x in body.splitlines()]
        assert status == 200 and headers["content-type"] == "application/x-ndjson"
        assert sum("bad" not in x for x in lines) == done["examples"] > 0, (len(lines), done)
        assert {"mode", "call"} <= set(lines[0])
        status, _, body = s.call("GET", f"/v1/jobs/{job['id']}/audit", key)
        assert status == 200 and len(body.splitlines()) == done["calls_done"]
        assert s.call("DELETE", f"/v1/jobs/{job['id']}", key)[0] == 204
        assert s.call("GET", f"/v1/jobs/{job['id']}", key)[0] == 404
        assert s.stats()["done"] == 0 and s.kill(signal.SIGTERM) == 0


# ---- the device ----


def plm(*words, home, key="", code=0):
    env = dict(clean_environment(), HOME=str(home), XDG_CACHE_HOME=str(home))
    env["XDG_DATA_HOME"] = str(home / "data")
    if key:
        env["PLM_TEACHER_KEY"] = key
    done = subprocess.run(
        [PLM, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=120
    )
    assert done.returncode == code, f"{words}: exit {done.returncode}: {done.stderr.decode()}"
    return done.stdout.decode(), done.stderr.decode()


def notes(n):
    r = random.Random(7)
    words = "river stone bread lamp coat train winter garden letter window harbour kettle".split()
    bodies = [" ".join(r.choice(words) for _ in range(9)) for _ in range(n)]
    return "".join(
        f"# {b[:6]} {i}\n\nToday {b} number {i}.\n\n" for i, b in enumerate(bodies)
    )


PERSONALIZE = "--user ada --task note --steps 40 --lr 0.01 -q --json --yes".split()


def fresh(name):
    path = HOME / name
    path.mkdir(exist_ok=True)
    return path


def test_personalize_over_the_service_gives_the_adapter_of_the_teacher_itself():
    source = HOME / "notes.md"
    source.write_text(notes(24))
    with Teacher() as teacher, Service(teacher.url, None, "--weak-teacher") as s:
        words = ["personalize", source, *PERSONALIZE, "-m", MODEL]
        whole = json.loads(plm(*words, "--teacher", teacher.url, home=fresh("direct"))[0])
        calls = len(teacher.calls())
        key = s.tenant("ada")
        there = f"plm+http://127.0.0.1:{s.port}"
        over = json.loads(plm(*words, "--teacher", there, home=fresh("over"), key=key)[0])
        assert whole["augmented"]["kept"] > 0 and len(teacher.calls()) == 2 * calls
        assert [a["sha256"] for a in over["arms"]] == [a["sha256"] for a in whole["arms"]]
        # Stored on the device, so gone from the service.
        assert s.stats()["done"] == 0
        keyless = ["augment", "--user", "ada", "--task", "note", "--teacher", there]
        assert "needs a key" in plm(*keyless, home=HOME / "over", code=1)[1]


def test_dry_run_shows_the_bytes_that_the_service_gets():
    home, seen = fresh("dry"), []
    (HOME / "notes.md").write_text(notes(24))
    with Teacher() as teacher, Service(teacher.url) as s:
        key, there = s.tenant("ada"), f"plm+http://127.0.0.1:{s.port}"
        plm("import", HOME / "notes.md", "--user", "ada", "--kind", "note", home=home)
        words = ["augment", "--user", "ada", "--task", "note", "--teacher", there, "-q", "-m", MODEL]
        shown = plm(*words, "--dry-run", home=home, key=key)[0]
        assert json.loads(shown)["records"] and s.stats()["requests_today"] == 0
        with Tap(s.port) as tap:
            words[words.index(there)] = f"plm+http://127.0.0.1:{tap.port}"
            plm(*words, home=home, key=key)
        sent = rb"POST /v1/jobs HTTP/1.1\r\n.*?\r\n\r\n(\{.*?\})(?=[A-Z]+ /|$)"
        bodies = re.findall(sent, tap.seen, re.S)
        assert [b.decode() for b in bodies] == [shown.rstrip("\n")], (len(bodies), tap.seen[:300])


def main():
    subprocess.run([str(BUILD / "tests" / "make-tiny-model"), MODEL, "--context", "1024"], check=True)
    tests = [
        (n, f)
        for n, f in globals().items()
        if n.startswith("test_") and (len(sys.argv) < 3 or sys.argv[2] in n)
    ]
    failed = 0
    print(f"1..{len(tests)}")
    for i, (name, test) in enumerate(tests, 1):
        start = time.monotonic()
        try:
            verdict = "ok %d # SKIP %s" if test() == "SKIP" else "ok %d - %s"
        except Exception as e:  # a failing test must not hide the others
            verdict = "not ok %d - %s"
            failed += 1
            where = traceback.extract_tb(e.__traceback__)[1:]
            print(f"# {type(e).__name__}: {e} at line {[w.lineno for w in where]}")
        print(verdict % (i, name), f"# {time.monotonic() - start:.1f} s", flush=True)
    shutil.rmtree(HOME, ignore_errors=True)
    sys.exit(1 if failed else 0)


main()
