#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets: for each a valid small input and the known hostile shapes.

usage: make_corpus.py               the small ones, to fuzz/corpus beside what fuzzers found
       make_corpus.py --large DIR   those over 16 KiB, which the build makes instead of the repository
"""
import pathlib, sys

sys.dont_write_bytecode = True
import shapes_text, shapes_token

TARGETS = {**shapes_text.TARGETS, **shapes_token.TARGETS}
SMALL = 16 << 10


def main(args):
    large = args[:1] == ["--large"]
    corpus = pathlib.Path(args[1]) if large else pathlib.Path(__file__).parent / "corpus"
    for name, shapes in TARGETS.items():
        folder = corpus / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed, data in shapes().items():
            if (len(data) > SMALL) == large:
                (folder / seed).write_bytes(data)


sys.dont_write_bytecode = True
main(sys.argv[1:])
