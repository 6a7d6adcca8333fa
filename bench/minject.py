#!/usr/bin/env python3
"""How long minject takes for a large image: bench/minject.py [--mib 300] [--rounds 5]

Wall and CPU seconds of inject and remove (medians), beside the SHA-256 of the same bytes by Python's own library.
The test of the same (tests/minject/test_minject.py) counts bytes instead, since time is no test.
"""
import argparse
import hashlib
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "minject"))
import make_pe

parser = argparse.ArgumentParser()
parser.add_argument("--mib", type=int, default=300)
parser.add_argument("--rounds", type=int, default=5)
args = parser.parse_args()
TOOL = ROOT / "build" / "linux-release" / "minject"


def timed(*words):
    """(wall, CPU) seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([TOOL, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "large.exe"
        data = make_pe.make(text_bytes=args.mib << 20)
        path.write_bytes(data)
        rows = {"inject": [], "remove": []}
        for _ in range(args.rounds):
            rows["inject"].append(timed("inject", "--force", str(path)))
            rows["remove"].append(timed("remove", str(path.with_name("large-mi.exe"))))
        start = time.perf_counter()
        hashlib.sha256(data).digest()
        print(f"{args.mib} MiB with a checksum; SHA-256 alone {time.perf_counter() - start:.2f} s")
        for name, times in rows.items():
            wall, cpu = (statistics.median(column) for column in zip(*times))
            print(f"{name}: {wall:.2f} s, {cpu:.2f} s of them computing")


if __name__ == "__main__":
    main()
