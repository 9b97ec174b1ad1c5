#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets: for each a valid small input and the known hostile shapes, which the
shapes_*.py beside this file give by target and name in their TARGETS.

usage: make_corpus.py               the small ones, to fuzz/corpus beside what fuzzers found
       make_corpus.py --large DIR   those over 16 KiB, which the build makes instead of the repository
"""

import importlib, pathlib, sys

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
SMALL = 16 << 10


def main(args):
    large = args[:1] == ["--large"]
    corpus = pathlib.Path(args[1]) if large else HERE / "corpus"
    for module in sorted(HERE.glob("shapes_*.py")):
        for name, shapes in importlib.import_module(module.stem).TARGETS.items():
            folder = corpus / name
            folder.mkdir(parents=True, exist_ok=True)
            for seed, data in shapes().items():
                if (len(data) > SMALL) == large:
                    (folder / seed).write_bytes(data)


main(sys.argv[1:])
