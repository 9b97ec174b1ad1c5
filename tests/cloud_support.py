"""What cloud.py needs to run a service: a teacher, the service, PostgreSQL, a relay, a device, requests."""

import contextlib
import hashlib
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
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(sys.argv[1]).resolve()
PLM, CLOUD = str(BUILD / "plm"), str(BUILD / "plm-cloud")
SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
HOME = pathlib.Path(tempfile.mkdtemp(prefix="plm-cloud-", dir=SHM))
MODEL = str(HOME / "tiny.gguf")


class Teacher:
    def __init__(self, behaviour="good"):
        self.log = HOME / f"teacher-{random.randrange(10**9)}.log"
        self.log.write_text("")
        self.child = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "fake_teacher.py"), str(self.log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
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

    def start(self, **environment):
        words = [CLOUD, self.command, *self.words, "--teacher", self.teacher, *self.options]
        if self.command == "serve":
            words += ["--listen", f"127.0.0.1:{self.port}"]
        self.log = open(self.folder / "log", "ab")
        at = self.log.tell()
        env = dict(clean_environment(), **environment)
        self.child = subprocess.Popen([str(w) for w in words], stderr=self.log, env=env)
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


def set_back():
    """What makes a program find the time an hour later than the kernel does, who has had it set back."""
    source, library = HOME / "set_back.c", HOME / "set_back.so"
    source.write_text(
        "#define _GNU_SOURCE\n#include <time.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n"
        "int clock_gettime(clockid_t c, struct timespec *t) {\n"
        "    int rc = (int)syscall(SYS_clock_gettime, c, t);\n"
        "    t->tv_sec += c == CLOCK_REALTIME ? 3600 : 0;\n    return rc;\n}\n"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return str(library)


class Line:
    """A kept connection for many small requests, of whichever tenant: with http.client they would be slow."""

    def __init__(self, port):
        self.port, self.socket, self.rest = port, None, b""

    def read(self, size):
        while len(self.rest) < size:
            data = self.socket.recv(65536)
            assert data, "the service closed the connection"
            self.rest += data
        data, self.rest = self.rest[:size], self.rest[size:]
        return data

    def ask(self, method, path, key, body=b"", idem=""):
        """(status, body) of one request."""
        if not self.socket:
            self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=30)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nIdempotency-Key: {idem}\r\n"
        if method == "POST":
            head += f"Content-Length: {len(body)}\r\n"
        self.socket.sendall(head.encode() + b"\r\n" + body)
        while (end := self.rest.find(b"\r\n\r\n")) < 0:
            data = self.socket.recv(65536)
            assert data, "the service closed the connection"
            self.rest += data
        answer = self.read(end + 4)
        length = re.search(rb"(?i)\r\nContent-Length: (\d+)", answer)
        return int(answer[9:12]), self.read(int(length.group(1)) if length else 0)

    def give_up(self):
        """Leaves in the middle of a request."""
        if self.socket:
            with contextlib.suppress(OSError):
                self.socket.sendall(b"GET /v1/service HTTP/1.1\r\nHost: localhost\r\nAuthor")
        self.close()

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket, self.rest = None, b""


def resident(pid):
    """Bytes of resident memory of a process."""
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


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


def certificate():
    """The service's options for TLS under a certificate of its own; the second of them is its file."""
    cert, key = HOME / "cert.pem", HOME / "key.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    return ["--tls-cert", cert, "--tls-key", key]


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


class Ledgers:
    """The calls (keyed hashes) whose replies a database holds."""

    sql = "SELECT job || ' ' || call FROM replies"

    @staticmethod
    def sqlite(path):
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return {row[0] for row in db.execute(Ledgers.sql)}
        finally:
            db.close()

    @staticmethod
    def postgres(url):
        out = subprocess.run(["psql", "-At", "-c", Ledgers.sql, url], capture_output=True, check=True)
        return set(out.stdout.decode().splitlines())


def stored_as(body, job, keys, stored):
    """The entry of stored that is this call of this job; only the folder of the keys can tell."""
    for number in range(500):
        call = hashlib.sha256(body + b"\n%d" % number).hexdigest().encode()
        for key in keys:
            entry = hashlib.blake2b(job.encode() + b"\0" + call, key=key, digest_size=32).hexdigest()
            if f"{job} {entry}" in stored:
                return f"{job} {entry}"
    return None


class Postgres:
    """A PostgreSQL of the test's own, on a socket of its own. None where Debian's is not installed."""

    bin = pathlib.Path("/usr/lib/postgresql/15/bin")

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="plm-pg-", dir=SHM))
        self.run = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.run:
            shutil.chown(self.folder, "postgres")
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        words = [str(self.bin / "initdb"), "-D", str(self.data), "-A", "trust", "-U", "plm", "-N"]
        subprocess.run([*self.run, *words], check=True, capture_output=True, cwd="/")
        self.url = f"postgres:///postgres?host={str(self.folder).replace('/', '%2F')}&user=plm"
        self.start()

    def start(self):
        words = [str(self.bin / "postgres"), "-D", str(self.data), "-k", str(self.folder)]
        words += ["-c", "listen_addresses=", "-c", "unix_socket_permissions=0777", "-c", "fsync=off"]
        self.child = subprocess.Popen([*self.run, *words], stderr=subprocess.DEVNULL, cwd="/")
        for _ in range(300):
            if subprocess.run(["psql", "-c", "SELECT 1", self.url], capture_output=True).returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError("PostgreSQL does not start")

    @classmethod
    def here(cls):
        return (cls.bin / "postgres").exists() and shutil.which("psql") and shutil.which("runuser")

    def __enter__(self):
        return self

    def stop(self):
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGINT)
        self.child.wait(30)

    def __exit__(self, *a):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


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


def fits(value, schema, doc):
    """Does the value fit the part of JSON Schema that docs/openapi.json uses? Why not, or ""."""
    if "$ref" in schema:
        schema = doc["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    kind = schema.get("type")
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float)}
    kinds["boolean"] = bool
    if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return f"{value!r} is no {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{value!r} is none of {schema['enum']}"
    if "minimum" in schema and value < schema["minimum"]:
        return f"{value!r} is under {schema['minimum']}"
    if kind == "object":
        properties = schema.get("properties", {})
        missing = set(schema.get("required", ())) - set(value)
        extra = set(value) - set(properties) if schema.get("additionalProperties") is False else set()
        if missing or extra:
            return f"{sorted(missing)} missing, {sorted(extra)} not known"
        return next(filter(None, (fits(value[k], properties[k], doc) for k in value if k in properties)), "")
    return ""
