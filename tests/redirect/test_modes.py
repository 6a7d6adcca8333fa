"""Every switch, policy, report and reason code, each provoked in a run of probe.exe under Wine.

usage: test_modes.py --build folder --runner wine-run --bits "" | 32
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import FAILED, arguments, check, clean_environment, run, wine_kept_up  # noqa: E402  (the path is set above)
import reasons  # noqa: E402  (the path is set above)

PROVOKED = set()


class Modes:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.redirect = f"mimalloc-redirect{args.bits}.dll"
        self.faults = f"mimalloc-redirect-faults{args.bits}.dll"
        self.standin = f"standin{args.bits}.dll"

    def run(self, words, env=None, exe="probe.exe", code=0):
        rc, out, err = run(self.args.runner, [exe, *words.split()], self.folder, env)
        check(rc == code, f"{exe} {words} {env}: exit code {rc}, wanted {code}\n{out}{err}")
        return out, err

    def reason(self, number, words, env=None, exe="probe.exe", malloc=None):
        """The run's JSON must name the reason, for the whole or for a CRT."""
        out, _ = self.run(words + " json", env, exe)
        status = parse(out)
        codes = [status["reason"]["code"]] + [c["reason"]["code"] for c in status["crts"]]
        codes += [m["reason"] for m in status["modules"]] + [c["note"]["code"] for c in status["crts"]]
        codes += [c[rung] for c in status["crts"] for rung in ("entry_reason", "tables_reason")]
        check(number in codes, f"reason {number} is not among {codes} after {words}")
        PROVOKED.add(number)
        if malloc:
            check(f": {malloc}\n" in out, f"malloc is not {malloc} after {words}:\n{out}")


def parse(out):
    lines = [line for line in out.splitlines() if line.startswith("{")]
    check(bool(lines), "no JSON in\n" + out)
    try:
        return json.loads(lines[-1])
    except (ValueError, IndexError) as e:
        check(False, f"bad JSON: {e}\n{out}")
        return {"reason": {"code": -1}, "crts": [], "modules": []}


def switches(m):
    both = f"load {m.redirect} load {m.standin}"
    crt = "load ucrtbase.dll "
    for env in ({"MIMALLOC_DISABLE_REDIRECT": "1"}, {"MI_DISABLE_REDIRECT": "yes"}, {"MIMALLOC_DISABLE_OVERRIDE": "TRUE"},
                {"MIMALLOC_ENABLE_REDIRECT": "0"}):
        m.reason(20, crt + both + " malloc ucrtbase.dll", env, malloc="theirs")
    m.reason(21, crt + both + " malloc ucrtbase.dll", {"MIMALLOC_REDIRECT": "off"}, malloc="theirs")
    m.reason(21, crt + both + " malloc ucrtbase.dll", {"MI_REDIRECT": "No"}, malloc="theirs")
    m.reason(0, crt + both + " malloc ucrtbase.dll", {"MIMALLOC_DISABLE_REDIRECT": "0"}, malloc="ours")
    # Words that nobody knows are said, once; those that are known are not.
    said = "which is not understood: it is taken for"
    for env, wanted in (({"MIMALLOC_REDIRECT": "requierd"}, f'the policy is "requierd", {said} "preferred"'),
                        ({"MI_REDIRECT_RUNG": "tabels"}, f'MIMALLOC_REDIRECT_RUNG is "tabels", {said} "all of them'),
                        ({"MIMALLOC_REDIRECT": "Preferred", "MIMALLOC_REDIRECT_RUNG": "Entry"}, None)):
        out, err = m.run(crt + both + " malloc ucrtbase.dll", env)
        check(": ours" in out and err.count(said) == (wanted is not None) and (wanted or "") in err, f"{env}: {out}{err}")
    m.reason(22, crt + f"load {m.redirect}")
    m.reason(23, crt + f"load {m.redirect} load standin-version{m.args.bits}.dll enable")
    m.reason(24, crt + f"load {m.redirect} load standin-holes{m.args.bits}.dll enable")
    # Of one that cannot be bound nothing is kept: it is not told of what comes, in the place of the one that is bound.
    holes = f"load {m.redirect} load standin-original-holes{m.args.bits}.dll "
    m.reason(24, crt + holes + "enable")
    out, _ = m.run(crt + holes + f"load {m.standin} malloc ucrtbase.dll json")
    check(": ours" in out and parse(out).get("original_interface") is False, f"two allocators, one with a hole:\n{out}")
    m.reason(25, both)
    # That is no longer so when one comes.
    out, _ = m.run(both + " load ucrtbase.dll malloc ucrtbase.dll json status")
    check(": ours" in out and parse(out)["reason"]["code"] == 0 and "reason 25" not in out, f"a CRT that comes later:\n{out}")
    m.reason(27, crt + both + " load another.dll")
    m.reason(26, "load synth_debug.dll " + both + " malloc synth_debug.dll", {"MIMALLOC_REDIRECT_DEBUG_CRT": "0"},
             malloc="theirs")
    m.reason(45, "load synth_debug.dll " + both + " malloc synth_debug.dll", malloc="ours")


ENTRY_ONLY = {"MIMALLOC_REDIRECT_RUNG": "entry"}


def refusals(m):
    both = f" load {m.redirect} load {m.standin} "
    if not m.args.bits:
        for n, reason in ((1, 10), (2, 8), (3, 7), (4, 11), (5, 9)):
            m.reason(reason, f"load synth_hazard{n}.dll" + both, ENTRY_ONLY)
        m.reason(12, "load synth_hazard6.dll" + both + "malloc synth_hazard6.dll", malloc="theirs")
        m.reason(15, f"load synth_fixed.dll load {m.redirect} load {m.standin} malloc synth_fixed.dll", ENTRY_ONLY,
                 malloc="theirs")
    for form in ("jump", "slot", "constant"):
        m.reason(14, f"load ucrtbase.dll hook {form} ucrtbase.dll" + both + "malloc ucrtbase.dll", ENTRY_ONLY, malloc="theirs")
    for env in (None, ENTRY_ONLY, {"MIMALLOC_REDIRECT_RUNG": "tables"}):
        m.reason(36, f"load ucrtbase.dll load {m.redirect} load standin-weak{m.args.bits}.dll malloc ucrtbase.dll", env,
                 malloc="theirs")
    faulty = f" load {m.faults} load {m.standin} malloc ucrtbase.dll"
    for point, reason in (("island-open", 30), ("protect", 31), ("island-seal", 32), ("threads", 33),
                          ("thread-in-range", 34), ("write", 35)):
        m.reason(reason, f"load ucrtbase.dll fault {point}" + faulty, ENTRY_ONLY, malloc="theirs")
    m.reason(37, f"load ucrtbase.dll fault write,rollback load {m.faults} load {m.standin}", ENTRY_ONLY)
    m.reason(38, "load ucrtbase.dll" + both + "disable malloc ucrtbase.dll", malloc="theirs")
    m.reason(0, "load ucrtbase.dll" + both + "disable enable malloc ucrtbase.dll", malloc="ours")
    # Switched off is off, also for what comes meanwhile: a CRT, or the allocator itself.
    for rung in ("entry", "tables"):
        for before, crt in ((both + "disable load msvcr120.dll ", "msvcr120.dll"),
                            (f" load {m.redirect} disable load {m.standin} ", "ucrtbase.dll")):
            out, _ = m.run(f"load ucrtbase.dll{before}malloc {crt} json enable malloc {crt} json", {"MIMALLOC_REDIRECT_RUNG": rung})
            states = [c["reason"]["code"] for line in out.splitlines() if line.startswith("{") for c in json.loads(line)["crts"]]
            check(re.findall(": (ours|theirs)\n", out) == ["theirs", "ours"] and set(states[:len(states) // 2]) == {38}
                  and set(states[len(states) // 2:]) == {0}, f"came while switched off, {rung}, {crt}: {states}\n{out}")
    m.reason(39, "load msvcr120.dll" + both + "unload msvcr120.dll")


def ladder(m):
    """What bars the entries leads to the tables; what bars both leaves the CRT alone."""
    both = f" load {m.redirect} load {m.standin} "
    faulty = f" load {m.faults} load {m.standin} "

    def rung(wanted, words, crt, env=None, malloc="ours", exports=True):
        out, _ = m.run(words + f"malloc {crt} status json", env)
        state = next((c for c in parse(out)["crts"] if c["file"] == crt), {})
        check(state.get("rung") == wanted, f"{words} {env}: rung {state.get('rung')}, wanted {wanted}:\n{out}")
        check(f": {malloc}\n" in out, f"{words} {env}: malloc is not {malloc}:\n{out}")
        if wanted == "tables":
            check((state["table_exports"] > 0) == exports and state["proven"] == state["functions"] > 5,
                  f"{words}: {state}")
            check("by tables" in out, f"the text does not name the rung:\n{out}")
        return state

    rung("entry", "load ucrtbase.dll" + both, "ucrtbase.dll")
    rung("tables", "load ucrtbase.dll" + both, "ucrtbase.dll", {"MIMALLOC_REDIRECT_RUNG": "tables"})
    rung("none", "load ucrtbase.dll" + both, "ucrtbase.dll", {"MIMALLOC_REDIRECT_RUNG": "none"}, "theirs")
    m.reason(28, "load ucrtbase.dll" + both, {"MI_REDIRECT_RUNG": "none"})
    for point, reason in (("island-open", 30), ("protect", 31), ("island-seal", 32), ("threads", 33),
                          ("thread-in-range", 34), ("write", 35)):
        state = rung("tables", f"load ucrtbase.dll fault {point}" + faulty, "ucrtbase.dll")
        check(state.get("entry_reason") == reason, f"{point}: {state}")
    state = rung("tables", "load ucrtbase.dll hook jump ucrtbase.dll" + both, "ucrtbase.dll")
    check(state.get("entry_reason") == 14 and state["reason"]["code"] == 0, f"hooked: {state}")
    if not m.args.bits:
        # lld lays the export cells of some of these files askew.
        for n, reason in ((1, 10), (2, 8), (3, 7), (4, 11), (5, 9)):
            out, _ = m.run(f"load synth_hazard{n}.dll" + both + "json")
            state = parse(out)["crts"][0]
            check(state["rung"] == "tables" and state["entry_reason"] == reason and state["table_exports"] >= 4,
                  f"hazard {n}: {state}")
    # Too far for an export cell: over an island. The process forbids new code: imports only.
    forced = {"MIMALLOC_REDIRECT_RUNG": "tables"}
    rung("tables", "load ucrtbase.dll fault table-far" + faulty, "ucrtbase.dll", forced)
    # On x86 every address is within reach of an export cell.
    rung("tables", "load ucrtbase.dll fault table-acg" + faulty, "ucrtbase.dll", forced, "ours" if m.args.bits else "theirs",
         exports=m.args.bits != "")
    m.reason(50, "load ucrtbase.dll fault table-thunks" + faulty + "malloc ucrtbase.dll", forced, malloc="theirs")
    for point in ("table-protect", "table-unprotect", "table-write", "table-switch"):
        m.reason(51, f"load ucrtbase.dll fault {point}" + faulty + "malloc ucrtbase.dll", forced, malloc="theirs")
    # A program on a CRT that only the tables reach counts as redirected, also under the policy "required".
    for env in ({}, {"MIMALLOC_REDIRECT": "required"}):
        out, _ = m.run("hook jump msvcrt.dll" + both + "active", env, "probe_msvcrt.exe")
        check("active: yes" in out, f"a program on the rung tables is not active, {env}:\n{out}")


def modules(m):
    both = f" load {m.redirect} load {m.standin} "
    m.reason(40, "load ucrtbase.dll" + both)
    out, _ = m.run(both + "active", exe="probe_msvcrt.exe")
    check("active: yes" in out, "a program on msvcrt is not active:\n" + out)
    out, _ = m.run("load ucrtbase.dll" + both + "active")
    check("active: no" in out, "a program without a CRT claims to be redirected:\n" + out)
    # The false positive of the original: ucrtbase is redirected, the program's own msvcrt is not.
    m.reason(41, "load ucrtbase.dll hook jump msvcrt.dll" + both + "malloc ucrtbase.dll active", ENTRY_ONLY,
             "probe_msvcrt.exe", malloc="ours")
    out, _ = m.run("load ucrtbase.dll hook jump msvcrt.dll" + both + "active", ENTRY_ONLY, "probe_msvcrt.exe")
    check("active: no" in out, "a program whose CRT is left alone claims to be redirected:\n" + out)
    out, err = m.run("load ucrtbase.dll" + both + "free-stack ucrtbase.dll")
    check("survived" in out and err.count("reason 43") == 1, "unknown pointers are not reported once:\n" + out + err)
    PROVOKED.add(43)


def policy(m):
    both = f" load {m.redirect} load {m.standin} "
    for exe, env in (("probe_msvcrt.exe", {"MIMALLOC_REDIRECT": "required"}), ("probe_policy.exe", {})):
        out, _ = m.run(both + "active", env, exe)
        check("active: yes" in out, f"{exe}: required and possible, but not active\n" + out)
        _, err = m.run("hook jump msvcrt.dll" + both + "active", env | ENTRY_ONLY, exe, code=120)
        check("reason 14" in err and "required" in err, f"{exe}: the reason is not said:\n" + err)
    out, _ = m.run("hook jump msvcrt.dll" + both + "active", {"MIMALLOC_REDIRECT": "preferred"} | ENTRY_ONLY,
                   "probe_policy.exe")
    check("active: no" in out, "the environment does not win over the program's variable")
    _, err = m.run(both, {"MIMALLOC_REDIRECT": "required"}, code=120)
    check("reason 25" in err, "required without a CRT: " + err)


def reports(m):
    both = f" load {m.redirect} load {m.standin} "
    for name in ("MIMALLOC_VERBOSE", "MI_VERBOSE"):
        _, err = m.run("load ucrtbase.dll load msvcrt.dll" + both, {name: "1"})
        line = re.search(r"ucrtbase\.dll (\d+\.\d+\.\d+\.\d+) at 0x[0-9a-f]+: redirected, (\d+) functions by entry patch, "
                         r"late, proof: (\d+) of (\d+) called", err)
        check(line and int(line[2]) > 15 and line[2] == line[3] == line[4], f"{name}: no report of ucrtbase:\n{err}")
        check("msvcrt.dll" in err and "version 3." in err, f"{name}: no report of msvcrt or version:\n{err}")
    _, err = m.run("load ucrtbase.dll" + both)
    check(err == "", "not silent: " + err)
    log = os.path.join(m.folder, "log file.txt")
    m.run("load ucrtbase.dll" + both, {"MIMALLOC_LOG": "log file.txt"})
    m.run("load ucrtbase.dll" + both, {"MIMALLOC_LOG": "log file.txt"})
    text = open(log, encoding="utf-8").read() if os.path.exists(log) else ""
    check(text.count("ucrtbase.dll") == 2 and text.count("\n") >= 4, "the log does not hold both runs:\n" + text)
    out, _ = m.run("probe.exe load ucrtbase.dll" + both, {"MIMALLOC_VERBOSE": "1"}, exe="listen.exe")
    said = [line for line in out.splitlines() if line.startswith("debug: mimalloc-redirect: ")]
    check(any("ucrtbase.dll" in line and ": redirected, " in line for line in said), "a debugger hears nothing:\n" + out)
    out, _ = m.run("probe.exe load ucrtbase.dll" + both, exe="listen.exe")
    check("debug: mimalloc-redirect" not in out, "a debugger hears what was not asked for:\n" + out)
    out, _ = m.run("load ucrtbase.dll" + both + "status")
    check("blocks of before" in out and "heap guard: entry" in out, "no status text:\n" + out)


def privileged(m):
    """No variable counts in a process that may do more than whoever wrote them; what the program itself exports does."""
    both = f" load {m.faults} load {m.standin} malloc ucrtbase.dll "
    log = os.path.join(m.folder, "raised.txt")
    switches_of_all = {"MIMALLOC_LOG": "raised.txt", "MI_LOG": "raised.txt", "MIMALLOC_VERBOSE": "1",
                       "MIMALLOC_DISABLE_REDIRECT": "1", "MIMALLOC_REDIRECT": "off", "MIMALLOC_REDIRECT_RUNG": "none",
                       "MIMALLOC_REDIRECT_HEAP_GUARD": "0"}
    out, err = m.run("load ucrtbase.dll fault privileged" + both + "status", switches_of_all)
    check(": ours" in out and "heap guard: entry" in out and "by entry patch" in out, "a variable counts:\n" + out)
    check(err == "" and not os.path.exists(log), "a variable speaks, or writes a file: " + err)
    out, err = m.run("load ucrtbase.dll" + both, switches_of_all)
    check(": theirs" in out, "the same variables do nothing in a plain process:\n" + out)
    m.run("load ucrtbase.dll" + both, {"MIMALLOC_LOG": "raised.txt"})
    check(os.path.exists(log), "no log in a plain process")
    m.run(f"fault privileged,threads,table-write load {m.faults} load {m.standin}", {"MIMALLOC_REDIRECT": "preferred"},
          "probe_policy.exe", code=120)


def behaviour(m):
    both = f" load {m.redirect} load {m.standin} "
    for crt, allocator in (("ucrtbase.dll", m.standin), ("msvcrt.dll", m.standin), ("ucrtbase.dll", "mimalloc.dll")):
        if not os.path.exists(os.path.join(m.folder, allocator)):
            continue
        out, _ = m.run(f"load {crt} load {m.redirect} load {allocator} guard {crt}")
        check(" 0 failed" in out, f"heap guard with {crt}, {allocator}:\n{out}")
        print(out.splitlines()[-2] + f" (guard on, {crt}, {allocator})")
    rounds = f"standin-original-rounds{m.args.bits}.dll"
    out, _ = m.run(f"load ucrtbase.dll load {m.redirect} load {rounds} guard-zeroes ucrtbase.dll")
    check(" 0 failed" in out, f"heap guard with {rounds}:\n{out}")
    for name, value, is_on in (("MIMALLOC", "0", False), ("MI", "off", False), ("MIMALLOC", "False", False), ("MI", "NO", False),
                               ("MIMALLOC", "1", True), ("MI", "yes", True)):
        out, _ = m.run("load ucrtbase.dll" + both + f"guard{'' if is_on else '-off'} ucrtbase.dll status json",
                       {f"{name}_REDIRECT_HEAP_GUARD": value})
        state = parse(out)
        check(state["heap_guard"] == ("entry" if is_on else "off") and state["guard_reason"] == (0 if is_on else 44),
              f"{name}={value}: {state['heap_guard']}, {state['guard_reason']}")
        check(("reason 44 (guard-off)" in out) != is_on and " 0 failed" in out, f"{name}={value}:\n{out}")
        PROVOKED.update([] if is_on else [state["guard_reason"]])
    for point, reason in (("guard-island", 30), ("guard-patch", 31), ("guard-proof", 36)):
        out, _ = m.run(f"ntdll load ucrtbase.dll fault {point} load {m.faults} load {m.standin} guard-off ucrtbase.dll ntdll json")
        state = parse(out)
        check(state.get("heap_guard") == "off" and state["guard_reason"] == reason, f"{point}: {state}")
        check("ntdll: 0 bytes of the guard changed, 0 others" in out and " 0 failed" in out, f"{point}: not undone:\n{out}")
    # What could not be put back goes on to work.
    out, _ = m.run(f"ntdll load ucrtbase.dll fault guard-rollback load {m.faults} load {m.standin} guard ucrtbase.dll json")
    check(parse(out).get("guard_reason") == 37 and " 0 failed" in out, f"guard-rollback:\n{out}")
    for env, wanted in ((None, r"ntdll: (1\d|20) bytes of the guard changed, 0 others"),
                        ({"MIMALLOC_REDIRECT_HEAP_GUARD": "0"}, "ntdll: 0 bytes of the guard changed, 0 others")):
        out, _ = m.run("ntdll load ucrtbase.dll" + both + "load msvcr120.dll ntdll", env)
        check(re.search(wanted, out), f"other code of ntdll is changed, {env}:\n{out}")
    crt = "synth_ucrt.dll" if m.args.bits else "synth_ucrt_mid.dll"
    out, _ = m.run(f"load {crt}" + both + f"handler {crt}")
    check(" 0 failed" in out, f"new-handler:\n{out}")
    for allocator in (m.standin, "mimalloc.dll"):
        if not os.path.exists(os.path.join(m.folder, allocator)):
            continue
        out, _ = m.run(f"load ucrtbase.dll load {m.redirect} load {allocator} fuzz {allocator} pair ucrtbase.dll")
        check(" 0 failed" in out, f"ownership of any value, {allocator}:\n{out}")
        print("\n".join(line for line in out.splitlines() if " ps" in line))
    if os.path.exists(os.path.join(m.folder, "mimalloc.dll")):
        out, _ = m.run("active malloc msvcrt.dll status", exe="probe_ordinal.exe")
        check("active: yes" in out and ": ours" in out and "early" in out, "imported by ordinal 1:\n" + out)
    # Taken back while blocks are held: whatever is done with them then.
    for rung in ("entry", "tables"):
        for name in ("ucrtbase.dll", "msvcrt.dll", "msvcr120.dll"):
            out, _ = m.run(f"load {name}" + both + f"outstanding {name}", {"MIMALLOC_REDIRECT_RUNG": rung})
            check(" 0 failed" in out, f"blocks outstanding, {rung}, {name}:\n{out}")
    # What is patched stays, whoever lets go of it.
    for order in (f"unload {m.redirect} unload {m.standin} ", f"unload {m.standin} unload {m.redirect} "):
        out, _ = m.run("load ucrtbase.dll" + both + order * 2 + "malloc ucrtbase.dll load msvcrt.dll malloc msvcrt.dll")
        check(out.count(": ours") == 2, f"{order}: gone with its library:\n{out}")
    # Any file name.
    out, _ = m.run("load ucrtbase.dll load another.dll load renamed.dll enable malloc ucrtbase.dll")
    check(": ours" in out, "renamed DLLs do not find each other:\n" + out)


def deep_folder(m):
    """A folder whose path has more than 700 characters."""
    folder = os.path.join(m.folder, *(["d" * 120] * 6))
    os.makedirs(folder)
    return folder


def odd_processes(m):
    """What a process may hold that nobody expects, and what is true all the same."""
    both = f" load {m.redirect} load {m.standin} "
    # Hundreds of heaps: a block of any of them comes home.
    out, err = m.run("load ucrtbase.dll" + both + "heaps ucrtbase.dll")
    check("heaps done" in out and " 0 failed" in out and err.count("reason 43") == 1, f"700 heaps:\n{out}{err}")
    # Import cells askew, one of them across two cache lines, while threads call through them: found, and changed whole.
    for env, rung in (({"MIMALLOC_REDIRECT_RUNG": "tables"}, "tables"), ({}, "entry")):
        out, _ = m.run(f"load ucrtbase.dll skew ucrtbase.dll load {m.faults} load {m.standin} active skewed json", env | {
            "MIMALLOC_REDIRECT": "required"})
        check("active: yes" in out and "skewed: ours" in out and parse(out)["crts"][0]["rung"] == rung, f"cells askew, {rung}:\n{out}")
    out, _ = m.run(f"load ucrtbase.dll skew ucrtbase.dll fault threads load {m.faults} load {m.standin} skewed json",
                   {"MIMALLOC_REDIRECT_RUNG": "tables"})
    check("skewed: theirs" in out and parse(out)["crts"][0]["tables_reason"] == 33, f"cells askew, threads run:\n{out}")
    # Modules that hide their headers, before us and after.
    for words in ("load veiled.dll load wiped.dll load ucrtbase.dll" + both, "load ucrtbase.dll" + both + "load veiled.dll load wiped.dll "):
        out, _ = m.run(words + "load msvcr120.dll malloc ucrtbase.dll malloc msvcr120.dll status json")
        check(out.count(": ours") == 2 and "failed" not in out.replace(" 0 failed", ""), f"{words}:\n{out}")
        check(any(x["file"] == "veiled.dll" for x in parse(out)["modules"]), f"{words}: no veiled.dll:\n{out}")
    out, _ = m.run("load veiled.dll" + both + "active", {"MIMALLOC_REDIRECT_RUNG": "tables"}, "probe_msvcrt.exe")
    check("active: yes" in out, f"veiled, tables:\n{out}")
    # More modules than fit into a text of 64 KiB.
    out, _ = m.run("load ucrtbase.dll" + both + "load-many 600 veiled.dll json")
    modules = parse(out)["modules"]
    check("loaded 600" in out and len(out) > 70000 and len(modules) > 600, f"600 modules: {len(modules)} in {len(out)}")
    # Many modules there before us: such as do not concern us, and more than are noted of those that may.
    for dll in ("veiled.dll", f"standin-version{m.args.bits}.dll"):
        out, _ = m.run(f"load-many 150 {dll} load ucrtbase.dll" + both + "malloc ucrtbase.dll json")
        check("loaded 150" in out and ": ours" in out and parse(out)["reason"]["code"] == 0, f"150 of {dll} before us:\n{out}")
    # An image that goes without a notification, and comes back in the same place.
    out, _ = m.run("load ucrtbase.dll map synth_table.dll" + both + "malloc ucrtbase.dll unload synth_table.dll json status "
                   "disable enable load synth_table.dll malloc synth_table.dll malloc ucrtbase.dll")
    check(out.count(": ours") == 3 and " 0 failed" in out, f"gone without a word:\n{out}")
    state = {c["file"]: c["reason"]["code"] for c in parse(out)["crts"]}
    check(state == {"ucrtbase.dll": 0, "synth_table.dll": 39}, f"gone without a word: {state}")
    # The same, and nobody asks in between: what is there now has not been redirected.
    out, _ = m.run("load ucrtbase.dll map synth_table.dll" + both + "unload synth_table.dll load synth_table.dll malloc synth_table.dll json")
    state = {c["file"]: c["reason"]["code"] for c in parse(out)["crts"]}
    check(out.count(": ours") == 1 and state == {"ucrtbase.dll": 0, "synth_table.dll": 0}, f"back without a word: {state}\n{out}")
    # Another file of the same size in its place, known by the time in its headers.
    data = bytearray(open(os.path.join(m.folder, "synth_table.dll"), "rb").read())
    at = int.from_bytes(data[60:64], "little") + 8
    data[at:at + 4] = (int.from_bytes(data[at:at + 4], "little") ^ 0x55).to_bytes(4, "little")
    with open(os.path.join(m.folder, "synth_other.dll"), "wb") as f:
        f.write(data)
    out, _ = m.run("load ucrtbase.dll map synth_table.dll" + both + "unload synth_table.dll map synth_other.dll json")
    state = {c["file"]: c["reason"]["code"] for c in parse(out)["crts"]}
    check(state == {"ucrtbase.dll": 0, "synth_table.dll": 39}, f"another in its place: {state}")


def odd_hooks(m):
    """Other hooks than ours, and other allocators."""
    both = f" load {m.redirect} load {m.standin} "
    # A patch over ours is not written over when we go, nor one that came while we were gone.
    for words in ("hook jump ucrtbase.dll disable", "disable hook jump ucrtbase.dll enable"):
        out, _ = m.run("load ucrtbase.dll" + both + words + " hooked ucrtbase.dll json")
        crt = parse(out)["crts"][0]
        check("hook of ucrtbase.dll: there" in out, f"{words}: written over:\n{out}")
        check(crt["note"]["code"] == 14 and crt["reason"]["code"] == (38 if words[0] == "d" else 0), f"{words}: {crt}")
    out, _ = m.run("load ucrtbase.dll" + both + "disable enable disable malloc ucrtbase.dll enable malloc ucrtbase.dll json")
    check(": theirs" in out and ": ours" in out and parse(out)["crts"][0]["note"]["code"] == 0, f"on and off:\n{out}")
    # The program's own import of malloc leads to a function of its own: what that does is what counts.
    for words, wanted in (("wrap", "yes"), ("wrap-stolen", "no")):
        out, _ = m.run(both + words + " active json", exe="probe_msvcrt.exe")
        check(f"active: {wanted}" in out, f"{words}: {out}")
    m.reason(47, both + "wrap-stolen", exe="probe_msvcrt.exe")
    if not os.path.exists(os.path.join(m.folder, "mimalloc.dll")):
        return
    # Nor is a malloc called to find out whose it is, before its DLL has begun: exit code 121.
    m.run("", exe="other.exe")
    _, err = m.run("", {"MIMALLOC_REDIRECT": "required"}, exe="other.exe", code=120)
    check("the program ends with exit code 120" in err, f"a DLL that has not begun: {err}")
    # Two allocators: the redirection serves the first.
    shutil.copy(os.path.join(m.folder, "mimalloc.dll"), os.path.join(m.folder, "second.dll"))
    out, err = m.run(f"load {m.redirect} load mimalloc.dll load second.dll redirected mimalloc.dll redirected second.dll",
                     {"MIMALLOC_VERBOSE": "1"}, "probe_msvcrt.exe")
    check("mimalloc.dll redirects: yes" in out and "second.dll redirects: no" in out, f"two allocators:\n{out}")
    check("stays with mimalloc.dll" in err, f"two allocators:\n{err}")


def odd_places(m):
    """A log that the program walks away from; long paths; the allocator without its partner."""
    both = f" load {m.redirect} load {m.standin} "
    os.mkdir(os.path.join(m.folder, "elsewhere"))
    m.run("load ucrtbase.dll" + both + "cd elsewhere load msvcrt.dll", {"MIMALLOC_LOG": "walk.txt"})
    log = os.path.join(m.folder, "walk.txt")
    text = open(log, encoding="utf-8").read() if os.path.exists(log) else ""
    check("ucrtbase.dll" in text and "msvcrt.dll" in text, "the log does not hold what came after cd:\n" + text)
    check(not os.listdir(os.path.join(m.folder, "elsewhere")), "the log walks along")
    if not os.path.exists(os.path.join(m.folder, "mimalloc.dll")):
        return
    deep = deep_folder(m)
    for name in ("mimalloc.dll", m.redirect, "probe_msvcrt.exe", "probe_policy.exe"):
        shutil.copy(os.path.join(m.folder, name), deep)
    there = os.path.relpath(os.path.join(deep, "probe_msvcrt.exe"), m.folder)
    out, err = m.run("load mimalloc.dll active", exe=there)
    check("active: yes" in out, f"a path of {len(deep)} characters:\n{out}{err}")
    os.remove(os.path.join(deep, m.redirect))
    _, err = m.run("load mimalloc.dll", exe=there)
    check("not there" in err and "put it beside" in err, f"a long path hides why:\n{err}")
    alone = os.path.join("alone", "probe_policy.exe")
    os.mkdir(os.path.join(m.folder, "alone"))
    for name in ("mimalloc.dll", "probe_msvcrt.exe", "probe_policy.exe"):
        shutil.copy(os.path.join(m.folder, name), os.path.join(m.folder, "alone"))
    for exe, env, code in ((alone, {}, 120), (alone, {"MIMALLOC_REDIRECT": "preferred"}, 0), (alone, {"MI_REDIRECT": "off"}, 0),
                           (alone, {"MIMALLOC_DISABLE_REDIRECT": "1"}, 120)):
        out, err = m.run("load mimalloc.dll", env, exe, code=code)
        check(("required" in err) == (code == 120), f"{exe} {env}: {err}")
    plain = os.path.join("alone", "probe_msvcrt.exe")
    for name in ("MIMALLOC_REDIRECT", "MI_REDIRECT"):
        m.run("load mimalloc.dll", {name: "required"}, plain, code=120)
    for env in ({"MI_REDIRECT": "off"}, {"MIMALLOC_REDIRECT": "0"}, {"MI_DISABLE_REDIRECT": "yes"}, {"MI_DISABLE_OVERRIDE": "1"},
                {"MI_ENABLE_REDIRECT": "no"}):
        _, err = m.run("load mimalloc.dll", env, plain)
        check(err == "", f"{env}: a partner that nobody wants is missed: {err}")
    _, err = m.run("load mimalloc.dll", {"MI_ENABLE_REDIRECT": "1"}, plain)
    check("not there" in err, f"the missing partner is not said: {err}")


def bound(m):
    """The allocator has functions bound to four CRTs. A fifth goes over islands, and so does one that is too far away; all
    are redirected, and a block may come from any and go to any."""
    if not os.path.exists(os.path.join(m.folder, "mimalloc.dll")):
        return
    # On x86 everything is near. On x64 it depends on where the loader puts them: up to four jump straight.
    crts = ["synth_ucrt.dll", "synth_msvcr.dll", "synth_seh.dll"] if m.args.bits else \
        ["synth_ucrt_old.dll", "synth_ucrt_mid.dll", "synth_ucrt_hash.dll", "synth_msvcrt.dll"]
    crts += ["synth_table.dll", "msvcr120.dll", "ucrtbase.dll"][:6 - len(crts)]
    words = "".join(f"load {c} " for c in crts)
    entries = "".join(f"entry {c} " for c in crts)
    for order in ("late", "early"):
        both = f"load {m.faults} load mimalloc.dll "
        before = words + both if order == "late" else both + words
        for fault, counts in (("", {4} if m.args.bits else set(range(5))), ("fault bound-far ", {0})):
            out, _ = m.run(fault + before + "pairs " + entries + "status json")
            state = {c["file"]: c for c in parse(out)["crts"]}
            straight = [c for c in crts if state[c]["straight"] > 0]
            check(all(state[c]["state"] == "redirected" and state[c]["rung"] == "entry" for c in crts), f"{order}: {state}")
            check(len(straight) in counts, f"{order} {fault}: {straight} jump straight, wanted {counts}\n{out}")
            check("pairs of 6 CRTs" in out and out.count(": ours") == 0, f"{order}: no pairs:\n{out}")
            for c in crts:
                leads = re.search(rf"entry of {c}: (.*)", out)[1]
                wanted = leads.endswith("mimalloc.dll") if c in straight else leads == "no file"
                check(wanted, f"{order} {fault}: malloc of {c} leads to {leads}")


def wild_pointers(m):
    """Nobody's pointers to every function of every CRT: none faults, each is counted, each CRT reports once."""
    crts = ["ucrtbase.dll", "msvcrt.dll", "crtdll.dll"] + [f"msvcr{n}.dll" for n in (70, 71, 80, 90, 100, 110, 120)]
    crts += ["synth_ucrt.dll", "synth_msvcr.dll"] if m.args.bits else ["synth_ucrt_mid.dll", "synth_debug.dll"]
    for allocator in (m.standin, "mimalloc.dll"):
        if not os.path.exists(os.path.join(m.folder, allocator)):
            continue
        out, err = m.run(" ".join([m.redirect, allocator] + crts), exe="foreign.exe")
        check(" 0 failed" in out, f"wild pointers, {allocator}:\n{out}")
        check(f"reports: {err.count('reason 43')}\n" in out and f"reports: {len(crts)}\n" in out,
              f"unknown pointers of {len(crts)} CRTs are reported {err.count('reason 43')} times:\n{err}")


def leaving(m):
    if not os.path.exists(os.path.join(m.folder, "mimalloc.dll")):
        return
    slowest = 0
    for _ in range(25):
        start = time.monotonic()
        out, _ = m.run(f"load ucrtbase.dll load msvcrt.dll load {m.redirect} load mimalloc.dll kill ucrtbase.dll")
        slowest = max(slowest, time.monotonic() - start)
        check("leaving" in out, "killed threads:\n" + out)
    print(f"25 processes left with killed threads, the slowest took {slowest:.1f} s from its start")


def stage(args, folder):
    for name in (f"mimalloc-redirect{args.bits}.dll",):
        shutil.copy(os.path.join(args.build, name), folder)
        shutil.copy(os.path.join(args.build, name), os.path.join(folder, "another.dll"))
    if os.path.exists(os.path.join(args.build, "mimalloc.dll")):
        shutil.copy(os.path.join(args.build, "mimalloc.dll"), folder)
    tests = os.path.join(args.build, "tests")
    for name in os.listdir(tests):
        if re.match(r"(standin|synth|veiled|wiped|mimalloc-redirect-faults|other_malloc).*\.dll$|"
                    r"(probe.*|listen|foreign|other)\.exe$", name):
            shutil.copy(os.path.join(tests, name), folder)
    shutil.copy(os.path.join(tests, f"standin{args.bits}.dll"), os.path.join(folder, "renamed.dll"))


def unheard(m):
    """A program whose messages reach nobody does not end as one that has said what is wrong: 95, wtest.h."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([m.args.runner, "probe.exe", "load", "no-such.dll"], cwd=m.folder, env=clean_environment(),
                          stdout=writer, stdin=subprocess.DEVNULL, timeout=100, check=False)
    check(done.returncode == 95, f"without a reader: exit code {done.returncode}")
    os.close(writer)


def main():
    args = arguments().parse_args()
    groups = (switches, refusals, ladder, modules, policy, reports, privileged, behaviour, odd_processes, odd_hooks,
              odd_places, bound, wild_pointers, leaving, unheard)
    # Inside the build folder, since the root of 32-bit Wine sees the project only.
    with tempfile.TemporaryDirectory(dir=args.build) as folder:
        stage(args, folder)
        modes = Modes(args, folder)
        with wine_kept_up(args.runner, "probe.exe", folder):
            for group in groups:
                group(modes)
    missing = reasons.PROCESS - PROVOKED - (reasons.X64_ONLY if args.bits else set())
    check(not missing, f"reason codes that no run provoked: {sorted(missing)}")
    print(f"{len(PROVOKED)} reason codes provoked, {len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
