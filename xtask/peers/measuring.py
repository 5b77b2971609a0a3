"""What the scripts of `cargo xtask peers` have in common: one figure of one program per process, as a JSON line."""

import argparse
import json
import statistics
import time


def arguments(figures):
    """Parses the command line; every script takes the same options."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="model directory, or file")
    parser.add_argument("figure", choices=figures)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--row-tokens", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def seconds_of(work):
    """Wall-clock seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median(repetitions, work):
    """Median of what `work` returns, in seconds, after one call that warms up."""
    work()
    return statistics.median(work() for _ in range(repetitions))


def report(seconds, **versions):
    """Prints the result as the last line of standard output."""
    print(json.dumps({"seconds": seconds, "versions": versions}), flush=True)
