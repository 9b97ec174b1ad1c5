"""Shapes of what `git log` prints, as import/git.c asks for it."""

HASH = "0123456789abcdef0123456789abcdef01234567"


def commit(
    subject="Fix the pump",
    body="It leaked.\n",
    files=("src/pump.c", "README"),
    mail="ana@example.org",
    hash=HASH,
    time="1700000000",
):
    raw = lambda s: s if isinstance(s, bytes) else s.encode()
    head = b"\1" + b"\0".join(map(raw, (hash, "Ana", mail, time, subject, body)))
    return head + b"\0" + (b"\n" + b"".join(raw(f) + b"\0" for f in files) if files else b"")


def git():
    log = (
        commit()
        + commit("Add a valve", "", ("valve.c",), hash="f" * 40)
        + commit("Other", mail="bob@example.org")
    )
    seeds = {
        "valid": log,
        "empty": b"",
        "sha256": commit(hash="a" * 64),
        "no-files": commit(files=()),
        "no-subject": commit(""),
        "trailers": commit(body="Why.\n\nSigned-off-by: Ana <ana@example.org>\nReviewed-by: B <b@c>\n"),
        "only-trailers": commit(body="Signed-off-by: Ana <a@b>\n"),
        "merge": commit('Revert "x"') + commit("Merge branch 'a'") + commit("fixup! x") + commit("squash! "),
        "not-utf8": commit(b"\xff\xfe", b"\xc3(", (b"\xed\xa0\x80",)),
        "control": commit("a\x1b[31mb\x07", "\r\n\t\x0b"),
        "file-like-a-commit": commit(files=("\1" + HASH, "x")),
        "file-with-newline": commit(files=("a\nb", "\n", "\n\n")),
        "files-many": commit(files=[f"f{i}" for i in range(300)]),
        "files-long": commit(files=["n" * 70000] * 3),
        "subject-long": commit("s" * 300000),
        "body-long": commit(body="word " * 60000),
        "time-bad": commit(time="-1")
        + commit(time="99999999999999999999")
        + commit(time="")
        + commit(time="1e9"),
        "mail-empty": commit(mail=""),
        "hash-short": commit(hash="abc"),
        "hash-not-hex": commit(hash="z" * 40),
        "many": b"".join(commit(f"Change {i}", hash=f"{i:040x}") for i in range(500)),
        "same-hash": commit() + commit("Other words"),
        "only-nul": b"\0" * 5000,
        "no-nul": b"\1" + b"a" * 100000,
        "starts-with-file": b"stray\0" + commit(),
        "address": b"ana@example.org\0",
    }
    for cut in range(1, len(commit()), 7):
        seeds[f"cut-{cut:03d}"] = commit()[:cut]
    return seeds


TARGETS = {"git": git}
