#!/usr/bin/env python3
"""Makes stats.json beside it with scipy 1.17: python3 make_stats.py
Sign-flip permutation tests of random values (all patterns), Clopper-Pearson's one-sided bounds, and t's points."""
import json
import os

import numpy as np
from scipy import stats

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(3)
tests = []
for n in [2, 3, 5, 8, 11, 14]:
    for ties in [False, True]:
        values = rng.normal(-0.3, 1, n)
        if ties:
            values = np.round(values * 2) / 2
        p = {
            side: stats.permutation_test((values,), np.mean, permutation_type="samples", alternative=side, vectorized=True,
                                         n_resamples=np.inf).pvalue
            for side in ["two-sided", "less", "greater"]
        }
        tests.append({"values": values.tolist(), "p": [p["two-sided"], p["less"], p["greater"]]})
bounds = [
    [k, n, stats.binomtest(k, n, alternative="less").proportion_ci(0.95, method="exact").high]
    for k, n in [(0, 1), (0, 20), (1, 20), (3, 120), (60, 120), (119, 120), (7, 1000)]
]
json.dump({"tests": tests, "bounds": bounds}, open(f"{here}/stats.json", "w"))
