#!/usr/bin/env python3
"""The main job on real input: unchanged third-party programs, with our allocator and without, side by side.

Windows, under Wine: 7za.exe (msvcrt) packs and unpacks a source tree of some 60 MB; pdftotext.exe and
pdftocairo.exe (MSVC C++ on UCRT, about 30 DLLs of their own) turn a PDF of 120 pages into text and pictures.
Linux: python3, sqlite3 and xz under LD_PRELOAD.

Each job runs twice, without and with, on the same input; the results are compared byte for byte. Every figure
in the table is measured: modules by Wine's loader trace, the rest by the allocator's and the redirection's own
reports.

Exit codes: 0 everything is as promised, 1 it is not (the table and the lines below it say what), 2 wrong use,
4 the programs could not be fetched.
"""
import filecmp
import os
import re
import resource
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NPM = os.path.join(ROOT, ".cache", "npm")
DEMO = os.path.join(ROOT, "build", "demo")
LINUX = os.path.join(ROOT, "build", "linux-release")
WINDOWS = os.path.join(ROOT, "build", "windows-x64-release")
WINE_RUN = os.path.join(ROOT, "scripts", "wine-run")
PACKAGES = {"7zip-bin": "5.2.0", "node-poppler": "6.2.7"}
SEVENZIP = "node_modules/7zip-bin/win/x64"
POPPLER = "node_modules/node-poppler/src/lib/win32/poppler-23.07.0"
SOURCE_TREE = "/usr/share/mingw-w64/include"
PAGES = 120
CRT_NAMES = re.compile(r"^(ucrtbased?|msvcrt|msvcr\d+d?|crtdll)\.dll$", re.IGNORECASE)


class Row:
    """One line of the table."""

    def __init__(self, program, job):
        self.program, self.job = program, job
        self.modules = self.functions = self.allocations = None
        self.crts = []
        self.identical = None
        self.time_without = self.time_with = None
        self.problems = []


# ---- fetching -------------------------------------------------------------------------------------------

def package_version(name):
    path = os.path.join(NPM, "node_modules", name, "package.json")
    try:
        with open(path, encoding="utf-8") as f:
            return re.search(r'"version"\s*:\s*"([^"]*)"', f.read()).group(1)
    except (OSError, AttributeError):
        return None


def fetch():
    """The real programs, by npm's own client, once; nothing of theirs is run at install time."""
    if all(package_version(name) == version for name, version in PACKAGES.items()):
        return
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    print("fetching from npm:", " ".join(wanted), flush=True)
    os.makedirs(NPM, exist_ok=True)
    with open(os.path.join(NPM, "package.json"), "w", encoding="utf-8") as f:
        f.write('{"private": true}\n')
    done = subprocess.run(["npm", "install", "--prefix", NPM, "--ignore-scripts", "--no-audit", "--no-fund",
                           "--save-exact", *wanted], capture_output=True, text=True, check=False)
    if done.returncode != 0 or any(package_version(n) != v for n, v in PACKAGES.items()):
        print(done.stderr[-2000:], file=sys.stderr)
        print("demo.py: npm could not fetch the programs; is there a network?", file=sys.stderr)
        sys.exit(4)


# ---- running --------------------------------------------------------------------------------------------

def wine_path(path):
    return "Z:" + path.replace("/", "\\")


class Time:
    """Seconds on the clock, and seconds that the processors worked for the program: other work on the machine
    disturbs the first more than the second."""

    def __init__(self, clock, cpu):
        self.clock, self.cpu = clock, cpu

    def __str__(self):
        return f"{self.clock:.1f} s ({self.cpu:.1f} cpu)"


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(command, env=None, cwd=None):
    """(Time, CompletedProcess). A program that hangs is a failure, not a hang of the demo."""
    full = dict(os.environ, **(env or {}))
    start, cpu = time.monotonic(), cpu_seconds()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=full, cwd=cwd,
                              timeout=900, check=False)
    except subprocess.TimeoutExpired as e:
        done = subprocess.CompletedProcess(command, -1, e.stdout or b"", b"the program hangs")
    return Time(time.monotonic() - start, cpu_seconds() - cpu), done


def same_tree(a, b):
    """Whether two folders hold the same files with the same bytes; and the first difference."""
    names_a, names_b = tree_names(a), tree_names(b)
    if names_a != names_b:
        return False, f"different files: {sorted(names_a ^ names_b)[:3]}"
    if not names_a:
        return False, "no output at all"
    for name in sorted(names_a):
        if not filecmp.cmp(os.path.join(a, name), os.path.join(b, name), shallow=False):
            return False, f"{name} differs"
    return True, ""


def tree_names(top):
    return {os.path.relpath(os.path.join(folder, name), top)
            for folder, _, names in os.walk(top) for name in names}


def fresh_folder(*parts):
    path = os.path.join(DEMO, *parts)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def join_tree(top, path):
    """All files of a folder in one, in the order of their names."""
    with open(path, "wb") as out:
        for name in sorted(tree_names(top)):
            with open(os.path.join(top, name), "rb") as f:
                shutil.copyfileobj(f, out)


def tail(data):
    text = data.decode("utf-8", "replace").strip().splitlines()
    return " | ".join(text[-3:])


def modules_of(trace, exe):
    """File names of the modules that Wine's loader trace shows in the process that runs exe."""
    names, mine = [], False
    for line in trace.decode("utf-8", "replace").splitlines():
        hit = re.search(r'Loaded L"([^"]*)"', line)
        if not hit:
            continue
        name = hit.group(1).split("\\")[-1].lower()
        mine = mine or name == exe.lower()
        if mine and name not in names:
            names.append(name)
    return names


# ---- Windows programs -----------------------------------------------------------------------------------

def windows_jobs(tree, pdf, archive):
    """(program, job, folder, exe, arguments for an output folder). The archive of the first job's plain run
    is the second job's input."""
    seven, poppler = os.path.join(DEMO, "7zip"), os.path.join(DEMO, "poppler", "Library", "bin")
    return [
        ("7za.exe", "pack 60 MB", seven, "7za.exe",
         lambda out: ["a", "-mx=3", "-mmt=2", "-bd", wine_path(out + "/tree.7z"), wine_path(tree)]),
        ("7za.exe", "unpack it", seven, "7za.exe",
         lambda out: ["x", "-y", "-bd", "-o" + wine_path(out), wine_path(archive)]),
        ("pdftotext.exe", "120 pages to text", poppler, "pdftotext.exe",
         lambda out: ["-layout", wine_path(pdf), wine_path(out + "/text.txt")]),
        ("pdftocairo.exe", "120 pages to PNG", poppler, "pdftocairo.exe",
         lambda out: ["-png", "-r", "60", wine_path(pdf), wine_path(out + "/page")]),
    ]


def install_programs():
    """Copies of the fetched programs, each injected beside the original by our minject."""
    shutil.rmtree(os.path.join(DEMO, "7zip"), ignore_errors=True)
    shutil.rmtree(os.path.join(DEMO, "poppler"), ignore_errors=True)
    shutil.copytree(os.path.join(NPM, SEVENZIP), os.path.join(DEMO, "7zip"))
    shutil.copytree(os.path.join(NPM, POPPLER), os.path.join(DEMO, "poppler"))


def inject(folder, exe):
    """The injected program's file name, or None and why."""
    out = exe[:-4] + "-mi.exe"
    if os.path.exists(os.path.join(folder, out)):
        return out, ""
    for dll in ("mimalloc.dll", "mimalloc-redirect.dll"):
        try:
            shutil.copy2(os.path.join(WINDOWS, dll), folder)
        except OSError as e:
            return None, f"{dll} is not built: {e.strerror}"
    try:
        _, done = run([os.path.join(LINUX, "minject"), "inject", os.path.join(folder, exe)])
    except OSError as e:
        return None, f"minject is not built: {e.strerror}"
    if done.returncode != 0 or not os.path.exists(os.path.join(folder, out)):
        return None, "minject: " + tail(done.stderr or done.stdout)
    return out, ""


def run_windows_job(job):
    program, what, folder, exe, arguments = job
    row = Row(program, what)
    name = re.sub(r"\W+", "-", exe[:-4] + "-" + what)
    out_without, out_with = fresh_folder("out", name, "without"), fresh_folder("out", name, "with")
    row.time_without, done = run([WINE_RUN, exe, *arguments(out_without)], cwd=folder)
    if done.returncode != 0:
        row.problems.append(f"without redirection it ends with {done.returncode}: {tail(done.stderr)}")
        return row
    injected, reason = inject(folder, exe)
    if injected is None:
        row.problems.append(reason)
        return row
    log = os.path.join(DEMO, "out", name, "report.txt")
    if os.path.exists(log):
        os.remove(log)
    row.time_with, done = run([WINE_RUN, injected, *arguments(out_with)], cwd=folder)
    if done.returncode != 0:
        row.problems.append(f"with redirection it ends with {done.returncode}: {tail(done.stderr)}")
    row.identical, reason = same_tree(out_without, out_with)
    if not row.identical:
        row.problems.append("the results differ: " + reason)
    observe(row, folder, injected, arguments, name)
    return row


def observe(row, folder, injected, arguments, name):
    """One more redirected run, with every report on: it is not the one that is timed."""
    out = fresh_folder("out", name, "observed")
    env = {"WINEDEBUG": "+loaddll", "MIMALLOC_VERBOSE": "1", "MIMALLOC_SHOW_STATS": "1"}
    _, done = run([WINE_RUN, injected, *arguments(out)], env=env, cwd=folder)
    with open(os.path.join(DEMO, "out", name, "report.txt"), "wb") as f:
        f.write(done.stderr)
    modules = modules_of(done.stderr, injected)
    row.modules = len(modules)
    row.crts = [m[:-4] for m in modules if CRT_NAMES.match(m)]
    redirected = redirected_in(done.stderr)
    row.functions = " + ".join(str(redirected.get(crt, 0)) for crt in row.crts)
    row.allocations = allocations_in(done.stderr)
    same, reason = same_tree(os.path.join(DEMO, "out", name, "without"), out)
    if done.returncode != 0 or not same:
        row.problems.append(f"with reports on it ends with {done.returncode}, {reason or tail(done.stderr)}")
    if not row.crts:
        row.problems.append("no CRT was seen in the process")
    for crt in row.crts:
        if not redirected.get(crt):
            row.problems.append(f"{crt} is not redirected")
    if not row.allocations:
        row.problems.append("the allocator reports no allocations")
    shutil.rmtree(out)


# ---- Linux programs -------------------------------------------------------------------------------------

PYTHON_WORK = """
import ast, glob, hashlib
sum = hashlib.sha256()
for path in sorted(glob.glob('/usr/lib/python3*/**/[a-d]*.py', recursive=True)):
    with open(path, encoding='utf-8') as f:
        sum.update(ast.dump(ast.parse(f.read())).encode())
print(sum.hexdigest())
"""
SQL_WORK = """
PRAGMA journal_mode=OFF;
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, value REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
    INSERT INTO t SELECT i, printf('name %x', i * 2654435761 % 4294967296), i / 7.0 FROM n;
CREATE INDEX by_name ON t(name);
SELECT count(*), sum(value), min(name), max(name) FROM t;
SELECT id, name FROM t WHERE name > 'name c' ORDER BY name LIMIT 50;
"""


def linux_jobs(text):
    return [
        ("python3", "parse its own library", ["/usr/bin/python3", "-c", PYTHON_WORK],
         {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}),
        ("sqlite3", "index a million rows", ["sqlite3", "-batch", ":memory:", SQL_WORK], {}),
        ("xz -T2", "pack 60 MB", ["xz", "-T2", "-2", "--stdout", text], {}),
    ]


def run_linux_job(job):
    program, what, command, env = job
    row = Row(program, what)
    row.crts = ["glibc"]
    row.time_without, plain = run(command, env=env)
    if plain.returncode != 0 or not plain.stdout:
        row.problems.append(f"without our allocator it ends with {plain.returncode}: {tail(plain.stderr)}")
        return row
    library = os.path.join(LINUX, "libmimalloc.so")
    if not os.path.exists(library):
        row.problems.append("libmimalloc.so is not built")
        return row
    env = dict(env, LD_PRELOAD=library)
    row.time_with, with_ours = run(command, env=env)
    if with_ours.returncode != 0:
        row.problems.append(f"with our allocator it ends with {with_ours.returncode}: {tail(with_ours.stderr)}")
    row.identical = plain.stdout == with_ours.stdout
    if not row.identical:
        row.problems.append("the results differ")
    observe_linux(row, command, env)
    return row


def observe_linux(row, command, env):
    """What the dynamic linker bound to our library, and our own count; not the timed run."""
    folder = fresh_folder("out", re.sub(r"\W+", "-", row.program))
    _, done = run(command, env=dict(env, LD_DEBUG="files,bindings", LD_DEBUG_OUTPUT=folder + "/ld",
                                    MIMALLOC_SHOW_STATS="1"))
    modules, functions = set(), set()
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as f:
            for line in f:
                hit = re.search(r"calling init: (\S+)", line)
                if hit:
                    modules.add(hit.group(1))
                hit = re.search(r"binding file (\S+) \[0\] to (\S+/libmimalloc\.so\S*) \[0\]: \w+ symbol `(\w+)'", line)
                if hit and hit.group(1) != hit.group(2):
                    functions.add(hit.group(3))
    row.modules, row.functions = len(modules), len(functions)
    row.allocations = allocations_in(done.stderr)
    if row.functions == 0 or "malloc" not in functions:
        row.problems.append("the program's malloc is not bound to libmimalloc.so")
    if not row.allocations:
        row.problems.append("MIMALLOC_SHOW_STATS=1 shows no allocations")


# ---- our reports ----------------------------------------------------------------------------------------

def redirected_in(report):
    """CRT: number of its functions that are redirected and proven, from what MIMALLOC_VERBOSE=1 prints."""
    found = {}
    for line in report.decode("utf-8", "replace").splitlines():
        hit = re.match(r"mimalloc-redirect: (\S+)\.dll \S+ at \S+: redirected, (\d+) functions\b.*"
                       r"proof: (\d+) of (\d+) called", line)
        if hit:
            found[hit.group(1).lower()] = int(hit.group(2)) if int(hit.group(3)) > 0 else 0
    return found


def allocations_in(report):
    """The number of blocks allocated, from the statistics that MIMALLOC_SHOW_STATS=1 prints at the end."""
    text = report.decode("utf-8", "replace")
    counts = [int(n) for n in re.findall(r"^ *(?:allocations|large allocs) .*?(\d+)\s*$", text, re.M)]
    return sum(counts) if counts else None


# ---- the table ------------------------------------------------------------------------------------------

HEADS = ["program", "job", "modules", "CRTs", "functions redirected", "allocations served", "identical output",
         "time without", "time with"]


def cell(value):
    return "-" if value is None else str(value)


def cells(row):
    identical = None if row.identical is None else "yes" if row.identical else "NO"
    allocations = None if row.allocations is None else f"{row.allocations:,}"
    return [cell(v) for v in (row.program, row.job, row.modules, ", ".join(row.crts) or None, row.functions,
                              allocations, identical, row.time_without, row.time_with)]


def print_table(rows):
    table = [HEADS] + [cells(row) for row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEADS))]
    for number, line in enumerate(table):
        print("| " + " | ".join(text.ljust(width) for text, width in zip(line, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def main():
    if len(sys.argv) > 1:
        print("usage: demo.py", file=sys.stderr)
        return 2
    fetch()
    os.makedirs(DEMO, exist_ok=True)
    install_programs()
    pdf = os.path.join(DEMO, "input.pdf")
    subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "make_pdf.py"), str(PAGES), pdf], check=True)
    archive = os.path.join(DEMO, "out", "7za-pack-60-MB", "without", "tree.7z")
    rows = []
    # One program that waits keeps Wine up, so that its start is in no job's time.
    run([WINE_RUN, "cmd", "/c", "exit"])
    keeper = subprocess.Popen([WINE_RUN, "cmd", "/c", "set", "/p", "x="], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ["MI_WINE_KEPT"] = "1"
    for job in windows_jobs(SOURCE_TREE, pdf, archive):
        print(f"running {job[3]}: {job[1]}", flush=True)
        rows.append(run_windows_job(job))
    keeper.stdin.close()
    keeper.wait()
    text = os.path.join(DEMO, "headers.txt")
    join_tree(SOURCE_TREE, text)
    for job in linux_jobs(text):
        print(f"running {job[0]}: {job[1]}", flush=True)
        rows.append(run_linux_job(job))
    print_table(rows)
    problems = [f"{row.program}, {row.job}: {text}" for row in rows for text in row.problems]
    for text in problems:
        print("NOT AS PROMISED:", text)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
