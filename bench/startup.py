#!/usr/bin/env python3
"""What the redirection adds to a start with many modules, under Wine: interleaved runs with and without it.

  bench/startup.py [--modules 200] [--rounds 15] [--build build/windows-x64-release]

Prints, for our DLLs before and after the modules, the medians of the time that loading ours and loading the modules
took inside the process, three times: with copies of our two DLLs that have no entry point, so that nothing of them runs
("empty": what the loader needs for two DLLs of that size, with these imports), with MIMALLOC_DISABLE_REDIRECT=1 ("off":
only mimalloc.dll is loaded), and redirected ("on"). Then the differences of "on" to both. Exit code 2 = not built.
"""
import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def without_entry(source, target):
    """A copy of a DLL whose code the loader never calls."""
    data = bytearray(source.read_bytes())
    optional = int.from_bytes(data[0x3C:0x40], "little") + 24
    data[optional + 16:optional + 20] = bytes(4)  # AddressOfEntryPoint
    directories = optional + (112 if data[optional:optional + 2] == b"\x0b\x02" else 96)
    data[directories + 9 * 8:directories + 10 * 8] = bytes(8)  # TLS: its callbacks are entry points as well
    target.write_bytes(data)


def environment(kind):
    """Redirection is on when nobody says a word, and then no variable is there to be read."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("MI_WINE") or not name.startswith(("MIMALLOC_", "MI_"))}
    return dict(kept, MIMALLOC_DISABLE_REDIRECT="1") if kind == "off" else kept


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "windows-x64-release")
    args = parser.parse_args()
    bench = args.build / "bench"
    program, module = bench / "startup.exe", bench / "startup-module.dll"
    redirect = "mimalloc-redirect32.dll" if "x86" in args.build.name else "mimalloc-redirect.dll"
    for need in (program, module, args.build / "mimalloc.dll", args.build / redirect):
        if not need.exists():
            print(f"{need} is missing: build the preset first", file=sys.stderr)
            return 2
    times = {}
    kinds = ("empty", "off", "on")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for i in range(args.modules):
            shutil.copy(module, folder / f"module{i:03}.dll")
        for kind in ("empty", "full"):
            (folder / kind).mkdir()
            shutil.copy(program, folder / kind)
            for dll in ("mimalloc.dll", redirect):
                if kind == "full":
                    shutil.copy(args.build / dll, folder / kind)
                else:
                    without_entry(args.build / dll, folder / kind / dll)
        for _ in range(args.rounds):
            for order in ("early", "late"):
                for kind in kinds:
                    run = subprocess.run([ROOT / "scripts" / "wine-run", program.name, "..", str(args.modules), order,
                                          "mimalloc.dll", *([redirect] if kind == "empty" else [])],
                                         cwd=folder / ("empty" if kind == "empty" else "full"), capture_output=True,
                                         text=True, env=environment(kind))
                    if run.returncode != 0:
                        print(f"startup {order}: exit code {run.returncode}: {run.stderr[-300:]}", file=sys.stderr)
                        return 1
                    _, ours, modules = run.stdout.split()
                    times.setdefault((order, kind), []).append((float(ours), float(modules)))
    print(f"{args.modules} modules, medians of {args.rounds}, milliseconds")
    print(f"  {'':27s}    empty      off       on   on-off on-empty")
    for order in ("early", "late"):
        for index, what in enumerate(("loading ours", "loading the modules")):
            of = {k: [t[index] for t in times[(order, k)]] for k in kinds}
            empty, off, on = (statistics.median(of[k]) for k in kinds)
            spread = max(max(values) - min(values) for values in of.values())
            print(f"  {order:6s} {what:20s} {empty:8.2f} {off:8.2f} {on:8.2f} {on - off:+8.2f} {on - empty:+8.2f}"
                  f"   (least {min(of['empty']):.2f} {min(of['off']):.2f} {min(of['on']):.2f}, widest spread {spread:.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
