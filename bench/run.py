#!/usr/bin/env python3
"""Measures this allocator beside its peers, interleaved in one run, and says how noisy the run was.

  bench/run.py micro      the patterns of bench/micro.c: ns per operation and peak RSS
  bench/run.py sweep      those of bench/sweep.c, a grid of sizes and counts (not part of all)
  bench/run.py suite      the small programs of bench/suite: user+system CPU time and peak RSS
  bench/run.py mixes      the same of programs drawn at random, each from a seed (--seeds 1-40)
  bench/run.py programs   whole programs under LD_PRELOAD: user+system CPU time, wall time and peak RSS
  bench/run.py wide       the same of programs that nothing was tuned on (bench/wide.py; not part of all)
  bench/run.py count      instructions per malloc/free pair, by callgrind (repeatable to the instruction)
  bench/run.py all        micro, suite, programs and count (the default)

Options: --cpu, --count, --rounds N (default 5: every allocator runs each thing N times, in the order A B C A B C ...;
programs A B C B C A ...),
--only WORD (patterns or programs whose name contains it), --json FILE, --svg FILE, --ms N (per micro trial).
With --count, wide counts instructions by callgrind, once; it takes a minute for each second, so use --only.
Every figure is the median of its rounds. The noise floor is the median over all cells of (max-min)/median; ratios
closer to 1 than that are shown with '~' and are ties. With --cpu the micro patterns are measured in user+system time, and
the figure is the least of all trials: for a machine that does other things, too. Exit code 2 = something that is needed is missing.
"""
import argparse
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import programs
import wide

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "linux-release"
LIBDIR = pathlib.Path("/usr/lib") / (os.uname().machine + "-linux-gnu")
PEERS = {
    "ours": BUILD / "libmimalloc.so",
    "glibc": None,
    "mimalloc2": LIBDIR / "libmimalloc.so.2",
    "jemalloc": LIBDIR / "libjemalloc.so.2",
    "tcmalloc": LIBDIR / "libtcmalloc_minimal.so.4",
}
BESIDE = {  # our other builds, measured when they are asked for by name
    "release": PEERS["ours"],
    "secure": ROOT / "build" / "linux-secure" / "libmimalloc-secure.so",
    "debug": ROOT / "build" / "linux-debug" / "libmimalloc-debug.so",
}
PACKAGES = {"mimalloc2": "libmimalloc2.0", "jemalloc": "libjemalloc2", "tcmalloc": "libtcmalloc-minimal4"}


def environment(library, extra=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MIMALLOC_", "MI_", "LD_PRELOAD"))}
    env.update(LC_ALL="C", **(extra or {}))
    if library:
        env["LD_PRELOAD"] = str(library)
    return env


def timed(command, library, extra=None, cwd=None, stdin=None, stdout=os.devnull, codes=(0,)):
    """One run: (wall seconds, user+system CPU seconds, peak RSS KiB of the largest process), by GNU time.

    Not by wait4 here: a forked child's peak would include the peak of this Python process before its exec."""
    with open(stdin or os.devnull, "rb") as source, open(stdout, "wb") as sink, tempfile.NamedTemporaryFile("r") as figures:
        run = subprocess.run(["/usr/bin/time", "-f", "%e %U %S %M", "-o", figures.name, *map(str, command)],
                             env=environment(library, extra), cwd=cwd, stdin=source, stdout=sink,
                             stderr=subprocess.PIPE)
        if run.returncode not in codes:
            raise SystemExit(f"{' '.join(map(str, command))}: exit code {run.returncode}: "
                             f"{run.stderr.decode(errors='replace').strip()[-300:]}")
        wall, user, system, rss = figures.read().split()[-4:]
    return float(wall), float(user) + float(system), float(rss)


# ---------------------------------------------------------------- workloads
def micro_cells(args, allocators):
    program = BUILD / "bench" / ("sweep" if args.what == "sweep" else "micro")
    clock = ["cpu"] if args.cpu else []
    if not program.exists():
        raise SystemExit(f"{program} is missing: run make build first")
    names = subprocess.run([program, "list"], capture_output=True, text=True, check=True).stdout.split()
    names = [n for n in names if not args.only or args.only in n]
    cells = {}
    for round_number in range(args.rounds):
        for name in names:
            for allocator, library in allocators.items():
                run = subprocess.run([program, name, str(args.ms), *clock], env=environment(library),
                                     capture_output=True, text=True)
                if run.returncode != 0:
                    raise SystemExit(f"{program.name} {name} under {allocator}: exit code {run.returncode}: {run.stderr}")
                _, ns, rss, _ = run.stdout.split()
                cell = cells.setdefault((name, allocator), {"time": [], "rss": []})
                cell["time"].append(float(ns))
                cell["rss"].append(float(rss))
        print(f"  round {round_number + 1} of {args.rounds} done", file=sys.stderr)
    for cell in cells.values() if args.cpu else ():
        cell["time"] = [min(cell["time"])]
    return names, cells


REDIS_REQUESTS = ["-P", "16", "-c", "8", "-n", "300000", "-r", "100000", "-d", "200", "-t", "set,lpush,sadd"]


def redis_once(library, folder):
    """redis-server under the allocator, its clients without it: (wall seconds of the clients, CPU and peak of the server)."""
    path = pathlib.Path(folder) / "redis.sock"
    path.unlink(missing_ok=True)
    server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder],
                              env=environment(library), stdout=subprocess.PIPE, text=True)
    try:
        for line in server.stdout:  # ends when the server does
            if "ready to accept connections" in line.lower():
                break
        else:
            raise SystemExit(f"redis-server did not start: exit code {server.wait()}")
        begin = time.monotonic()
        clients = subprocess.run(["redis-benchmark", "-s", str(path), "-q", *REDIS_REQUESTS], env=environment(None),
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        wall = time.monotonic() - begin
        if clients.returncode != 0:
            raise SystemExit(f"redis-benchmark: exit code {clients.returncode}: {clients.stderr[-300:]}")
        ticks = pathlib.Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()
        peak = re.search(r"VmHWM:\s*(\d+) kB", pathlib.Path(f"/proc/{server.pid}/status").read_text())
        return wall, (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK"), float(peak.group(1))
    finally:
        server.kill()
        server.communicate()


def once(job, library):
    """One run of a job: (wall, CPU, peak RSS, digest of what it printed and made)."""
    if job.command is None:
        return *redis_once(library, str(job.folder)), None
    job.reset()
    with tempfile.NamedTemporaryFile() as output:
        figures = timed(job.command, library, job.extra, job.folder, job.stdin, output.name, job.codes)
        made = output.read() + ((job.folder / job.product).read_bytes() if job.product else b"")
        return *figures, hashlib.sha256(made).hexdigest() if job.is_stable else None


def program_jobs(args, folder):
    jobs, absent = (wide if args.what == "wide" else programs).jobs(pathlib.Path(folder), args.only)
    for name, needed in absent.items():
        print(f"  {name}: left out, {needed} is not installed", file=sys.stderr)
    if not jobs:
        raise SystemExit("no program is left to measure")
    return jobs


def program_cells(args, allocators, folder):
    jobs = program_jobs(args, folder)
    if not os.access("/usr/bin/time", os.X_OK):
        raise SystemExit("GNU time is not installed: apt-get install time")
    cells = {}
    right = {job.name: once(job, None)[3] for job in jobs}  # not counted: files get into the cache
    for round_number in range(args.rounds):
        first = round_number % len(allocators)  # another one each time: who comes first follows another program
        order = [*allocators.items()][first:] + [*allocators.items()][:first]
        for job in jobs:
            for allocator, library in order:
                wall, cpu, rss, made = once(job, library)
                if made != right[job.name]:
                    raise SystemExit(f"{job.name} under {allocator}: its output is not what it is without")
                cell = cells.setdefault((job.name, allocator), {"time": [], "rss": [], "wall": []})
                cell["time"].append(cpu)
                cell["rss"].append(rss)
                cell["wall"].append(wall)
        print(f"  round {round_number + 1} of {args.rounds} done", file=sys.stderr)
    return [job.name for job in jobs], cells


def suite_measure(program, name, scale, library, extra=None):
    """One program of the suite in a process of its own: wall and CPU seconds, peak RSS in KiB, page faults."""
    run = subprocess.run([program, "measure", str(library or ""), name, str(scale)], env=environment(None, extra),
                         capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"suite {name} under {library or 'glibc'}: exit code {run.returncode}: {run.stderr}")
    return map(float, run.stdout.split()[-4:])


def suite_floor(args, allocators, names, cells):
    """The RSS that an allocator needs which wastes nothing: the process that allocates nothing, with the C library
    alone, and the largest sum of live bytes (bench/live.c). Never more than the leanest allocator measured: blocks
    may be untouched."""
    program = BUILD / "bench" / "suite"
    floor = {}
    with tempfile.TemporaryDirectory() as folder:
        nothing = statistics.median(list(suite_measure(program, "nothing", 100, None))[2] for _ in range(5))
        for name in names:
            file = pathlib.Path(folder) / name
            list(suite_measure(program, name, args.scale, BUILD / "bench" / "liblive.so", {"LIVE_FILE": str(file)}))
            least = min(statistics.median(cells[(name, a)]["rss"]) for a in allocators)
            floor[name] = min(least, nothing + int.from_bytes(file.read_bytes(), sys.byteorder) / 1024)
    return floor


def print_floor(floor, rss):
    base = {name: rss["median"][name][rss["base"]] for name in floor}
    print(f"\nSuite, the least peak RSS that can be had (KiB; in brackets relative to {rss['base']})")
    for name, value in floor.items():
        print(f"{name:20s}" + f"{value:11.0f} ({value / base[name]:.2f})".rjust(20))
    mean = geomean([value / base[name] for name, value in floor.items()])
    print(f"{'geometric mean':20s}{mean:>20.3f}")
    return {"KiB": floor, "geomean": mean}


def suite_cells(args, allocators):
    program = BUILD / "bench" / "suite"
    if not program.exists():
        raise SystemExit(f"{program} is missing: run make build first")
    if args.what == "mixes":
        first, _, last = args.seeds.partition("-")
        names = [f"mix-{seed}" for seed in range(int(first), int(last or first) + 1)]
    else:
        names = subprocess.run([program, "list"], capture_output=True, text=True, check=True).stdout.split()
    names = [n for n in names if not args.only or args.only in n]
    cells = {}
    for round_number in range(args.rounds):
        for name in names:
            for allocator, library in allocators.items():
                wall, cpu, rss, faults = suite_measure(program, name, args.scale, library)
                cell = cells.setdefault((name, allocator), {"time": [], "rss": [], "wall": [], "faults": []})
                for figure, value in (("time", cpu), ("rss", rss), ("wall", wall), ("faults", faults)):
                    cell[figure].append(value)
        print(f"  round {round_number + 1} of {args.rounds} done", file=sys.stderr)
    return names, cells


def huge_pages():
    """Whether the kernel uses huge pages at will: always, madvise or never. Decides how much memory small programs need."""
    try:
        return re.search(r"\[(\w+)\]", pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()).group(1)
    except (OSError, AttributeError):
        return "unknown"


def spin_seconds(cpu, rounds=5):
    """The least time that a fixed loop takes on one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            for _ in range(300_000):
                pass
            times.append(time.perf_counter() - start)
        return min(times)
    finally:
        os.sched_setaffinity(0, before)


def processors():
    """Says when the processors are not equally fast: of a virtual machine one may share its core with a neighbour."""
    seconds = {cpu: spin_seconds(cpu) for cpu in sorted(os.sched_getaffinity(0))}
    best, slowest = min(seconds, key=seconds.get), max(seconds, key=seconds.get)
    ratio = seconds[slowest] / seconds[best]
    if ratio < 1.15:
        return ""
    return (f"processor {slowest} takes {ratio:.2f} times as long as processor {best}: what a program takes depends on where it "
            f"runs, and so does the gain of a second thread; for programs of one thread use taskset -c {best} bench/run.py ...")


def instructions(command, library, extra=None, cwd=None, stdin=None, codes=(0,)):
    """How many instructions a command and its children take in user space, by callgrind."""
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed: apt-get install valgrind")
    with open(stdin or os.devnull, "rb") as source:
        run = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=yes",
                              *map(str, command)],
                             env=environment(library, extra), cwd=cwd, stdin=source, capture_output=True)
    found = re.findall(rb"Collected : (\d+)", run.stderr)
    if run.returncode not in codes or not found:
        raise SystemExit(f"callgrind of {command} under {library or 'glibc'} failed: {run.stderr[-300:]}")
    return sum(map(int, found))


def count_cells(args, allocators):
    """Instructions of a pair, as the difference of two run lengths, so that start-up cancels out."""
    program, cells, names = BUILD / "bench" / "micro", {}, []
    for name in ("pair-16", "pair-256", "pair-1k", "pair-live-16", "batch-fifo-64", "batch-random-64"):
        if args.only and args.only not in name:
            continue
        names.append(name)
        for allocator, library in allocators.items():
            totals = [instructions([program, "count", name, n], library) for n in (20000, 120000)]
            cells[(name, allocator)] = {"time": [(totals[1] - totals[0]) / 100000], "rss": [1]}
    return names, cells


def wide_count_cells(args, allocators, folder):
    """Instructions of whole programs."""
    jobs = program_jobs(args, folder)
    cells = {}
    for job in jobs:
        for allocator, library in allocators.items():
            job.reset()
            taken = instructions(job.command, library, job.extra, job.folder, job.stdin, job.codes)
            cells[(job.name, allocator)] = {"time": [taken / 1e6], "rss": [1]}
    return [job.name for job in jobs], cells


# ---------------------------------------------------------------- results
def geomean(values):
    values = [v for v in values if v > 0]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def noise_floor(cells, figure):
    spreads = [(max(c[figure]) - min(c[figure])) / statistics.median(c[figure])
               for c in cells.values() if len(c[figure]) > 1 and statistics.median(c[figure]) > 0]
    return statistics.median(spreads) if spreads else 0.0


def table(title, names, cells, allocators, figure, unit, base="mimalloc2"):
    base = base if base in allocators else next(iter(allocators))
    noise = noise_floor(cells, figure)
    print(f"\n{title} ({unit}; in brackets relative to {base}; noise floor {noise * 100:.1f} %)")
    print(f"{'':20s}" + "".join(f"{a:>20s}" for a in allocators))
    ratios = {a: [] for a in allocators}
    for name in names:
        row = f"{name:20s}"
        reference = statistics.median(cells[(name, base)][figure])
        for allocator in allocators:
            value = statistics.median(cells[(name, allocator)][figure])
            ratio = value / reference if reference else float("nan")
            ratios[allocator].append(ratio)
            tie = "~" if allocator != base and abs(ratio - 1) <= noise else ""
            row += f"{value:11.{4 if value < 10 else 2 if value < 1000 else 0}f} ({tie}{ratio:.2f})".rjust(20)
        print(row)
    print(f"{'geometric mean':20s}" + "".join(f"{geomean(ratios[a]):>20.3f}" for a in allocators))
    others = [a for a in allocators if a != "ours"]
    if "ours" in allocators and others:
        worst = max(names, key=lambda n: statistics.median(cells[(n, "ours")][figure])
                    / min(statistics.median(cells[(n, a)][figure]) for a in others))
        best = min(statistics.median(cells[(worst, a)][figure]) for a in others)
        print(f"ours against the best peer of each row: worst in {worst}, "
              f"{statistics.median(cells[(worst, 'ours')][figure]) / best:.2f}")
    return {"unit": unit, "base": base, "noise": noise, "geomean": {a: geomean(ratios[a]) for a in allocators},
            "median": {n: {a: statistics.median(cells[(n, a)][figure]) for a in allocators} for n in names},
            "all": {n: {a: cells[(n, a)][figure] for a in allocators} for n in names}}


def print_beyond(result, allocators, bound=1.5):
    """How many rows of each allocator are beyond the bound of their best peer, without glibc, and ours, the worst first."""
    peers = [a for a in allocators if a not in ("ours", "glibc")]
    for allocator in allocators:
        worse = {name: row[allocator] / min(row[a] for a in peers if a != allocator) for name, row in result["median"].items()}
        beyond = sorted((name for name in worse if worse[name] > bound), key=worse.get, reverse=True)
        print(f"{allocator}: {len(beyond)} of {len(worse)} rows beyond {bound} of the best peer")
        for name in beyond if allocator == "ours" else ():
            print(f"  {name} {worse[name]:.2f}")


def draw(results, target):
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("the chart needs python3-matplotlib: apt-get install python3-matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
    matplotlib.rcParams["svg.hashsalt"] = "chart"  # the same figures give the same file
    import matplotlib.pyplot as plot
    keys = [k for k in results if k not in ("machine", "suite faults", "micro RSS", "program wall time", "suite least RSS")]
    columns = min(3, len(keys))
    figure, axes = plot.subplots(-(-len(keys) // columns), columns, squeeze=False,
                                 figsize=(3.2 * columns, 2.6 * -(-len(keys) // columns)))
    for axis in axes.flat[len(keys):]:
        axis.set_visible(False)
    for axis, key in zip(axes.flat, keys):
        means = results[key]["geomean"]
        bars = axis.bar(list(means), list(means.values()), color=["#c0392b" if a == "ours" else "#7f8c8d" for a in means])
        axis.bar_label(bars, fmt="%.2f", fontsize=7)
        axis.set_title(key, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.margins(y=0.15)
        axis.axhline(1, color="black", linewidth=0.5)
    figure.suptitle("geometric means relative to mimalloc 2.0; lower is better", fontsize=9)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})
    print(f"chart written to {target}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["micro", "sweep", "suite", "mixes", "programs", "wide", "count", "all"], nargs="?",
                        default="all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ms", type=int, default=120)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--count", action="store_true", help="of wide: instructions, by callgrind, instead of times")
    parser.add_argument("--scale", type=int, default=100, help="length of the suite's programs, in percent")
    parser.add_argument("--seeds", default="1-40", help="of the programs drawn at random: the first and the last")
    parser.add_argument("--only", default="")
    parser.add_argument("--allocators", default=",".join(PEERS), help="which of: " + ", ".join([*PEERS, *BESIDE]))
    parser.add_argument("--library", help="measure this .so as ours")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--svg", type=pathlib.Path)
    args = parser.parse_args()
    if args.library:
        PEERS["ours"] = pathlib.Path(args.library)
    allocators = {}
    for name in args.allocators.split(","):
        if name not in PEERS and name not in BESIDE:
            raise SystemExit(f"{name} is not one of {', '.join([*PEERS, *BESIDE])}")
        library = PEERS[name] if name in PEERS else BESIDE[name]
        if library is not None and not library.exists():
            cure = f"apt-get install {PACKAGES[name]}" if name in PACKAGES else "make build"
            print(f"{name}: {library} is missing ({cure}): left out", file=sys.stderr)
            continue
        allocators[name] = library
    start = time.monotonic()
    results = {"machine": {"cpu_count": os.cpu_count(), "system": " ".join(os.uname()[i] for i in (0, 2, 4)),
                           "huge_pages": huge_pages(), "rounds": args.rounds}}
    if args.what in ("micro", "all"):
        names, cells = micro_cells(args, allocators)
        results["micro time"] = table("Micro patterns", names, cells, allocators, "time",
                                      "ns of processor time" if args.cpu else "ns per operation")
        results["micro RSS"] = table("Micro patterns, peak RSS", names, cells, allocators, "rss", "KiB")
    if args.what == "sweep":
        args.cpu = True
        names, cells = micro_cells(args, allocators)
        results["sweep time"] = table("Patterns over a grid", names, cells, allocators, "time", "ns of processor time")
        results["sweep RSS"] = table("Patterns over a grid, peak RSS", names, cells, allocators, "rss", "KiB")
        print_beyond(results["sweep time"], allocators)
    if args.what in ("suite", "all"):
        names, cells = suite_cells(args, allocators)
        results["suite CPU time"] = table("Suite, CPU time", names, cells, allocators, "time", "seconds")
        results["suite RSS"] = table("Suite, peak RSS", names, cells, allocators, "rss", "KiB")
        results["suite least RSS"] = print_floor(suite_floor(args, allocators, names, cells), results["suite RSS"])
        results["suite faults"] = table("Suite, page faults", names, cells, allocators, "faults", "faults")
    if args.what == "mixes":
        if not re.fullmatch(r"[0-9]+(-[0-9]+)?", args.seeds):
            raise SystemExit(f"--seeds {args.seeds}: two numbers are wanted, like 1-40")
        names, cells = suite_cells(args, allocators)
        results["mixes CPU time"] = table("Programs drawn at random, CPU time", names, cells, allocators, "time", "seconds")
        results["mixes RSS"] = table("Programs drawn at random, peak RSS", names, cells, allocators, "rss", "KiB")
    if args.what == "wide" and args.count:
        with tempfile.TemporaryDirectory() as folder:
            names, cells = wide_count_cells(args, allocators, folder)
        results["instructions"] = table("Programs, instructions", names, cells, allocators, "time", "millions")
    elif args.what in ("programs", "wide", "all"):
        with tempfile.TemporaryDirectory() as folder:
            names, cells = program_cells(args, allocators, folder)
        results["program CPU time"] = table("Programs, CPU time", names, cells, allocators, "time", "seconds")
        results["program wall time"] = table("Programs, wall time", names, cells, allocators, "wall", "seconds")
        results["program RSS"] = table("Programs, peak RSS", names, cells, allocators, "rss", "KiB")
    if args.what in ("count", "all"):
        names, cells = count_cells(args, allocators)
        results["instructions"] = table("Instructions per pair", names, cells, allocators, "time", "instructions")
    if args.json is None and args.what == "all":
        args.json = BUILD / "bench" / "results.json"
        args.svg = args.svg or BUILD / "bench" / "chart.svg"
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
        print(f"figures written to {args.json}")
    if args.svg:
        draw(results, args.svg)
    print(f"{args.rounds} rounds of {args.what} in {(time.monotonic() - start) / 60:.1f} minutes; "
          f"huge pages (transparent_hugepage/enabled): {huge_pages()}")
    uneven = processors()
    if uneven:
        print(uneven)


if __name__ == "__main__":
    try:
        main()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            sys.exit(2)
        raise
