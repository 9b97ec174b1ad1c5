"""Runs the test_... functions of a script and speaks TAP."""

import time
import traceback


def run(functions, only=""):
    """functions: a script's globals(). A function that returns "SKIP" is skipped. Returns how many failed."""
    tests = [(name, f) for name, f in functions.items() if name.startswith("test_") and only in name]
    failed = 0
    print(f"1..{len(tests)}", flush=True)
    for i, (name, test) in enumerate(tests, 1):
        start = time.monotonic()
        try:
            verdict = "ok %d # SKIP %s" if test() == "SKIP" else "ok %d - %s"
        except Exception as e:  # a failing test must not hide the others
            verdict = "not ok %d - %s"
            failed += 1
            lines = [frame.lineno for frame in traceback.extract_tb(e.__traceback__)[1:]]
            print("# " + f"{type(e).__name__}: {e} at line {lines}".replace("\n", "\n# "))
        print(verdict % (i, name), f"# {time.monotonic() - start:.1f} s", flush=True)
    return failed
