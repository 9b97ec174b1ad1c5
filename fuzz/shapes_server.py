"""Shapes of a request's head: a Host, and a path on the next line."""


def heads():
    job = b"d99e51abad3785d4795380e80a8519af"
    hosts = {
        "address": b"127.0.0.1:8443",
        "name": b"plm.example.org",
        "name-port": b"PLM.example.org:443",
        "v6": b"[::1]:8443",
        "v6-open": b"[::1",
        "v6-tail": b"[::1]x:1",
        "empty": b"",
        "port-only": b":80",
        "port-none": b"localhost:",
        "port-long": b"localhost:" + b"9" * 40,
        "nested": b"localhost.evil.example",
        "user": b"a@localhost",
        "long": b"a" * 5000,
    }
    paths = {
        "health": b"/healthz",
        "job": b"/v1/jobs/" + job,
        "events": b"/v1/jobs/" + job + b"/events",
        "up": b"/v1/jobs/../../x",
        "escaped": b"/v1/jobs/%2e%2e",
        "part-long": b"/v1/jobs/" + b"a" * 65,
        "braces": b"/v1/jobs/{}",
        "none": b"",
    }
    seeds = {f"host-{n}": h + b"\n/healthz" for n, h in hosts.items()}
    seeds.update({f"path-{n}": b"localhost\n" + p for n, p in paths.items()})
    return seeds


TARGETS = {"server": heads}
