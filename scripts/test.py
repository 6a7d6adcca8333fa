#!/usr/bin/env python3
"""Builds every preset, runs what can run on this machine, and sums up. While one is tested the next is built, in the
time that the tests leave.

The last line is "N passed, N failed". A preset that does not build, or that should have tests and has none,
or whose test run breaks down, counts as one failure each. Skipped tests count as neither and are listed.

A test of a Windows preset that fails runs again, AGAIN times, alone, and counts as passed only when it passes each
time: Wine itself ends a process wrongly once in many thousand (seen: an assertion of glibc's loader while Wine's
process was ending). Such a test is listed as "unsteady", with how it failed, so that nobody overlooks it; more than
UNSTEADY_MOST of them in a preset are failures.

    test.py [preset ...]     when none is named all, but linux-ubsan: linux-asan sees the same and more

When none is named and MI_TEST_MINUTES (22; 0: no limit) are over, no other preset is begun, and those left out are
listed: a machine may take three times as long as another, and the presets come in the order in which they matter.

Exit codes: 0 nothing failed, 1 something failed, 2 wrong use.
"""
import concurrent.futures
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build")
# Tests that give the same answer in every preset of a kind run in its release preset only; those that feed
# damaged files to the PE code run again where a sanitizer watches.
ONCE = r"^(house\.|minject\.samples|api\.option-spellings)"
ONCE_UNWATCHED = r"^(house\.|minject\.samples|api\.option-spellings|pe\.replay_)"
# Of these a sanitizer that looks at threads sees one.
ONE_THREAD = r"|^(api\.(alloc|aligned|contract|contract_made|misc|misuse)|core(-small)?\.(basic|faults)|base\.memory)$"
# Preset, and why it cannot run here (None: it can).
PRESETS = [
    ("linux-release", None),
    ("windows-x64-release", None),
    ("linux-debug", None),
    ("windows-x86-release", None),
    ("linux-asan", None),
    ("linux-secure", None),
    ("linux-tsan", None),
    ("windows-x64-debug", None),
    ("windows-x64-secure", None),
    ("windows-arm64-release", None),  # only the tests that read the built files
]
# The rest is tested when it is named: what linux-ubsan sees, linux-asan sees, too.
BY_NAME = [("linux-ubsan", None)]
RUN_ALL = ("linux-release", "windows-x64-release", "windows-x86-release")
WATCHED = ("linux-asan", "linux-ubsan")
# The presets whose tests run under Wine: the variable that says it is up, and what starts a program in it.
KEPT = {name: ("MI_WINE_KEPT", "wine-run") for name, _ in PRESETS if name.startswith("windows-x64-")}
KEPT["windows-x86-release"] = ("MI_WINE32_KEPT", "wine32-root", "run")
TEST_SECONDS = 300
AGAIN = 5
UNSTEADY_MOST = 2
JOBS = str(os.cpu_count() or 2)


class Sum:
    """What one preset gave."""

    def __init__(self, preset):
        self.preset = preset
        self.passed = self.failed = self.skipped = 0
        self.build_seconds = self.test_seconds = 0.0
        self.note = ""
        self.is_left_out = False
        self.bad_names = []
        self.skipped_names = []
        self.unsteady = []  # (name, how it failed)

    def fail(self, name):
        self.failed += 1
        self.bad_names.append(name)

    def forgive(self, name, how):
        self.failed -= 1
        self.passed += 1
        self.bad_names.remove(name)
        self.unsteady.append((name, how))


def run_logged(command, log, env=None):
    with open(log, "ab") as out:
        return subprocess.call(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=ROOT, env=env)


def tail(log, lines=30):
    with open(log, "rb") as f:
        text = f.read().decode("utf-8", "replace").splitlines()
    print("\n".join("    " + line for line in text[-lines:]), flush=True)


def build(preset, total):
    log = os.path.join(BUILD, preset + "-build.log")
    open(log, "wb").close()
    start = time.monotonic()
    good = (run_logged(["nice", "cmake", "--preset", preset], log) == 0
            and run_logged(["nice", "cmake", "--build", "build/" + preset, "-j", JOBS], log) == 0)
    total.build_seconds = time.monotonic() - start
    if not good:
        total.fail("build." + preset)
        total.note = "does not build"
        print(f"{preset}: does not build; the whole log is build/{preset}-build.log", flush=True)
        tail(log)
    return good


def output_of(case):
    node = case.find("system-out")
    return (node.text or "") if node is not None else ""


def failure_of(case):
    """After how long, with what ctest says of it where that is more than that it failed, and the end of its output."""
    node = case.find("failure")
    text = (node.get("message") if node is not None else case.get("status")) or "failed"
    head = f"{text} after {float(case.get('time') or 0):.1f} s"
    return "\n".join("    " + line for line in [head, *output_of(case).splitlines()[-25:]])


def read_results(path, total):
    """Adds the cases of a JUnit file to total; returns how each that failed did so, None when it holds no cases."""
    bad = {}
    cases = list(xml.etree.ElementTree.parse(path).getroot().iter("testcase"))
    for case in cases:
        name, status = case.get("name"), case.get("status")
        if status == "run" and case.find("failure") is None:
            total.passed += 1
        elif status == "disabled" or (status == "notrun" and case.find("skipped") is not None
                                      and "SKIP_" in (case.find("skipped").get("message") or "")):
            total.skipped += 1
            lines = output_of(case).strip().splitlines()
            total.skipped_names.append((name, lines[-1] if lines else ""))
        else:
            total.fail(name)
            bad[name] = failure_of(case)
            print(f"{total.preset}: {name} failed\n{bad[name]}", flush=True)
    return bad if cases else None


def run_again(preset, total, bad, log, env):
    """Runs what failed again, and forgives a test that now passes AGAIN times."""
    if len(bad) > UNSTEADY_MOST:
        return
    for name, how in bad.items():
        code = run_logged(["ctest", "--test-dir", "build/" + preset, "-R", "^" + re.escape(name) + "$", "--timeout",
                           str(TEST_SECONDS), "--output-on-failure", "--no-tests=error",
                           "--repeat", f"until-fail:{AGAIN}"], log, env)
        if code == 0:
            total.forgive(name, how)


def run_tests(preset, total, env):
    report = os.path.join(BUILD, preset + "-tests.xml")
    log = os.path.join(BUILD, preset + "-tests.log")
    for old in (report, log):
        if os.path.exists(old):
            os.remove(old)
    start = time.monotonic()
    command = ["ctest", "--test-dir", "build/" + preset, "-j", JOBS, "--timeout", str(TEST_SECONDS),
               "--output-on-failure", "--no-tests=error", "--output-junit", report]
    if preset not in RUN_ALL:
        command += ["-E", (ONCE if preset in WATCHED else ONCE_UNWATCHED) + (ONE_THREAD if preset == "linux-tsan" else "")]
    code = run_logged(command, log, env)
    total.test_seconds = time.monotonic() - start
    bad = read_results(report, total) if os.path.exists(report) else None
    if bad is None:
        total.fail("ctest." + preset)
        total.note = "no tests"
        print(f"{preset}: ctest gave no results", flush=True)
        tail(log)
    elif code != 0 and not bad:
        total.fail("ctest." + preset)
        total.note = "ctest says failed, its report does not"
    elif preset.startswith("windows-"):
        run_again(preset, total, bad, log, env)


class WineKept:
    """Keeps Wine up between the tests by one program that waits: starting it for each costs more than many of
    the tests do."""

    def __init__(self, env, variable, *runner):
        runner = [os.path.join(ROOT, "scripts", runner[0]), *runner[1:]]
        null = subprocess.DEVNULL
        subprocess.call([*runner, "cmd", "/c", "exit"], env=env, stdin=null, stdout=null, stderr=null)
        self.keeper = subprocess.Popen([*runner, "cmd", "/c", "set", "/p", "x="], env=env, stdin=subprocess.PIPE,
                                       stdout=null, stderr=null)
        self.env = {**env, variable: "1"}

    def __enter__(self):
        return self.env

    def __exit__(self, *_):
        self.keeper.stdin.close()
        self.keeper.wait()


def fresh_wine_prefix():
    """One copy of the template per run; the templates's own making is wine-run's business."""
    prefix = os.path.join(BUILD, "wineprefix")
    shutil.rmtree(prefix, ignore_errors=True)
    return prefix


class Wine32:
    """What runs 32-bit programs; where it is missing it is made, once (MI_TEST_WINE32=0: it is not), beside all
    that comes before its tests, since most of that is waiting for packages."""

    TOOL = os.path.join(ROOT, "scripts", "wine32-root")

    def __init__(self, is_wanted):
        self.maker = None
        if is_wanted and os.environ.get("MI_TEST_WINE32") != "0" and not self.is_there():
            self.maker = subprocess.Popen([self.TOOL, "make"], stdin=subprocess.DEVNULL)

    def is_there(self):
        if self.maker:
            self.maker.wait()
        return subprocess.call([self.TOOL, "there"]) == 0


def minutes_allowed():
    """For the presets that nobody asked for by name; None: as many as they take."""
    text = os.environ.get("MI_TEST_MINUTES", "22")
    try:
        minutes = float(text)
    except ValueError:
        print(f"test.py: MI_TEST_MINUTES is a number of minutes, not \"{text}\"", file=sys.stderr)
        sys.exit(2)
    return minutes if minutes > 0 and not sys.argv[1:] else None


def main():
    names = sys.argv[1:] or [name for name, _ in PRESETS]
    minutes = minutes_allowed()
    reasons = dict(PRESETS + BY_NAME)
    for name in names:
        if name not in reasons:
            print(f"test.py: no preset {name}; there are: {' '.join(reasons)}", file=sys.stderr)
            return 2
    # The interpreter itself, where "python3" may be a script that looks for it: that costs more than many of the tests.
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")
    os.makedirs(BUILD, exist_ok=True)
    prefix = fresh_wine_prefix()
    env = dict(os.environ, MI_WINE_RUN_PREFIX=prefix)
    start = time.monotonic()
    wine32 = Wine32("windows-x86-release" in names)
    sums = [Sum(name) for name in names]
    builder = concurrent.futures.ThreadPoolExecutor(max_workers=1)
    builds = [builder.submit(build, total.preset, total) for total in sums]
    for total, built in zip(sums, builds):
        name = total.preset
        if minutes and time.monotonic() - start > 60 * minutes:
            built.cancel()
            total.is_left_out = True
            continue
        if built.result():
            if name.startswith("windows-x86-") and not wine32.is_there():
                total.note = "built, not run: no 32-bit Wine"
            elif name in KEPT:
                with WineKept(env, *KEPT[name]) as kept:
                    run_tests(name, total, kept)
            elif reasons[name] is None:
                run_tests(name, total, env)
            else:
                total.note = "built, not run: " + reasons[name]
        print(f"{name}: {total.passed} passed, {total.failed} failed, {total.skipped} skipped"
              f" ({total.build_seconds:.0f} s + {total.test_seconds:.0f} s) {total.note}".rstrip(), flush=True)
    if os.path.isdir(prefix):
        subprocess.call(["wineserver", "-k"], env=dict(os.environ, WINEPREFIX=prefix),
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(prefix, ignore_errors=True)
    return report(sums, time.monotonic() - start)


def report(sums, seconds):
    for total in sums:
        for name, reason in total.skipped_names:
            print(f"skipped {total.preset} {name} {reason}".rstrip())
    for total in sums:
        for name, how in total.unsteady:
            print(f"unsteady {total.preset} {name}: passed {AGAIN} times after it failed with\n{how}")
    for total in sums:
        for name in total.bad_names:
            print(f"failed {total.preset} {name}")
    for total in sums:
        if total.is_left_out:
            print(f"left out {total.preset}: the time was over; by hand: scripts/test.py {total.preset}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{sum(not total.is_left_out for total in sums)} presets in {seconds / 60:.1f} minutes, {(used.ru_utime + used.ru_stime) / 60:.1f} of a processor")
    passed = sum(total.passed for total in sums)
    failed = sum(total.failed for total in sums)
    if passed + failed == 0:
        failed = 1  # a run that tested nothing has not passed
    line = f"{passed} passed, {failed} failed"
    if os.environ.get("MI_TEST_SUM"):
        with open(os.environ["MI_TEST_SUM"], "w", encoding="utf-8") as f:
            f.write(line + "\n")
    print(line, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
