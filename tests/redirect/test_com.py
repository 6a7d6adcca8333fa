"""COM's task memory, off and on, in runs of com.exe under Wine. What becomes of the reason codes 60 to 65, too.

usage: test_com.py --build folder --runner wine-run --bits "" | 32 --allocator mimalloc.dll [--rounds n] [--brief]
"""
import json
import os
import re
import shutil
import sys
import tempfile

from harness import FAILED, arguments, check, run, wine_kept_up
import reasons

ON = {"MIMALLOC_REDIRECT_COTASKMEM": "1"}
PROVOKED = set()


class Com:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.redirect = f"mimalloc-redirect{args.bits}.dll"
        self.faults = f"mimalloc-redirect-faults{args.bits}.dll"
        self.allocator = args.allocator
        self.both = f"load {self.redirect} load {self.allocator} "
        self.faulty = f"load {self.faults} load {self.allocator} "

    def run(self, words, env=None, exe="com.exe", code=0):
        rc, out, err = run(self.args.runner, [exe, *words.split()], self.folder, env)
        check(rc == code, f"{exe} {words} {env}: exit code {rc}, wanted {code}\n{out}{err}")
        return out, err

    def state(self, words, env, exe="com.exe"):
        """What the JSON at the end of a run says of COM's memory, with the run's whole output."""
        out, err = self.run(words + " json", env, exe)
        lines = [line for line in out.splitlines() if line.startswith("{")]
        check(bool(lines), f"no JSON after {words}:\n{out}")
        nothing = {"state": "", "file": "", "reason": {"code": -1}, "note": {"code": -1}, "functions": 0, "proven": 0,
                   "foreign_calls": 0, "late": False}
        state = json.loads(lines[-1])["com_memory"] if lines else nothing
        PROVOKED.update({state["reason"]["code"], state["note"]["code"]})
        return state, out, err

    def expect(self, words, env, state, reason, whose=None, exe="com.exe"):
        got, out, _ = self.state(words, env, exe)
        check(got.get("state") == state and got["reason"]["code"] == reason, f"{words} {env}: {got}, wanted {state}, {reason}")
        if whose:
            check(f"task memory: {whose}\n" in out, f"{words} {env}: not {whose}:\n{out}")
        if state == "redirected" and reason == 0:
            check(got["functions"] == got["proven"] > 3, f"{words}: {got}")
        return got, out


def off(m):
    """Unless it is asked for, nothing of ole32 or combase is touched, and nothing is looked for."""
    words = "load ole32.dll use ole32.dll keep " + m.both + "load ucrtbase.dll code whose"
    for env in (None, {"MI_REDIRECT_COTASKMEM": "off"}):
        _, out = m.expect(words, env, "off", 60, "theirs")
        check("code: 0 bytes of entries changed, 0 others" in out, f"off, but code has changed, {env}:\n{out}")
    m.expect(m.both + "load ole32.dll use ole32.dll whose", None, "off", 60, "theirs")
    m.expect("load ole32.dll use ole32.dll " + m.both + "whose", ON | {"MIMALLOC_DISABLE_REDIRECT": "1"}, "waiting", 20,
             "theirs")


ALL = "whose owned heap texts strings shell owned "


def on(m):
    """Everything is ours, in each order; only the entries have changed."""
    late, out = m.expect("load ole32.dll use ole32.dll keep " + m.both + "code whose owned heap", ON, "redirected", 0, "ours")
    check(re.search(r"code: [1-9]\d* bytes of entries changed, 0 others", out), f"other code has changed:\n{out}")
    check(late["late"] and late["file"] == "combase.dll" and late["functions"] == 6, f"late: {late}")
    early, _ = m.expect(m.both + "load ole32.dll use ole32.dll " + ALL, {"MI_REDIRECT_COTASKMEM": "yes"}, "redirected", 0,
                        "ours")
    check(not early["late"], f"early: {early}")
    m.expect(m.both + "load shell32.dll load ole32.dll use ole32.dll whose", None, "redirected", 0, "ours", "com_exports.exe")
    m.expect(m.both + "load ole32.dll use ole32.dll whose", {"MIMALLOC_REDIRECT_COTASKMEM": "0"}, "off", 60, "theirs",
             "com_exports.exe")
    m.expect(m.both, ON, "waiting", 61)
    # Beside a CRT, with blocks of before, and with those that others make.
    got, _ = m.expect("load ucrtbase.dll load ole32.dll use ole32.dll take " + m.both + "whose foreign owned heap", ON,
                      "redirected", 0, "ours")
    check(got["foreign_calls"] > 60, f"blocks of before: {got}")
    m.expect("load ole32.dll use ole32.dll take load mimalloc-redirect%s.dll load standin-original%s.dll whose foreign "
             % (m.args.bits, m.args.bits), ON, "redirected", 0, "ours")


def observed(m):
    """The same program sees the same, off and on, early and late."""
    early = m.both + "load ole32.dll use ole32.dll observe"
    late = "load ole32.dll use ole32.dll " + m.both + "observe"
    seen = [m.run(words, env)[0].splitlines() for words in (early, late) for env in (None, ON)]
    text = [[line for line in lines if not line.startswith("load ")] for lines in seen]
    check(len(text[0]) > 15, f"nothing was observed: {text[0]}")
    for lines in text[1:]:
        check(lines == text[0], "what is seen differs:\n" + "\n".join(
            f"  {a}   |   {b}" for a, b in zip(text[0], lines) if a != b))


def refused(m):
    late = "load ole32.dll use ole32.dll keep "
    quiet = "code: 0 bytes of entries changed, 0 others"
    for env in ({"MIMALLOC_REDIRECT_HEAP_GUARD": "0"}, {"MI_REDIRECT_HEAP_GUARD": "no"}):
        _, out = m.expect(late + m.both + "code whose status", ON | env, "left alone", 62, "theirs")
        check(quiet in out and "reason 62 (com-needs-guard)" in out, f"without the guard:\n{out}")
        m.expect(m.both + "load ole32.dll use ole32.dll whose", ON | env, "left alone", 62, "theirs")
    _, out = m.expect(late + m.both + "code whose", ON | {"MIMALLOC_REDIRECT_RUNG": "tables"}, "left alone", 28, "theirs")
    check(quiet in out, f"with the rung tables:\n{out}")
    for point, reason in (("guard-island", 62), ("guard-proof", 62), ("com-island", 30), ("com-patch", 31), ("com-proof", 36)):
        _, out = m.expect(late + f"fault {point} " + m.faulty + "code whose", ON, "left alone", reason, "theirs")
        check(quiet in out, f"{point}: not undone:\n{out}")
    m.expect("load com_partial.dll use com_partial.dll " + m.both + "whose", ON, "left alone", 63, "theirs")
    # A module that only hands on is no owner, whether it comes before the owner or after it.
    for words in ("load com_stub.dll " + m.both, m.both + "load com_stub.dll "):
        got, _ = m.expect(words + "use com_stub.dll whose", ON, "redirected", 0, "ours")
        check(got["file"] == "combase.dll", f"{words}: {got}")
    # One owner at a time: the second keeps its own.
    out, err = m.run(m.both + "load ole32.dll load com_owner.dll use com_owner.dll whose",
                     ON | {"MIMALLOC_VERBOSE": "1"})
    check("task memory: theirs" in out and "com_owner.dll: reason 64 (com-second)" in err, f"two owners:\n{out}{err}")
    PROVOKED.add(64)


def switched(m):
    late = "load ole32.dll use ole32.dll take " + m.both
    m.expect(late + "whose disable whose", ON, "redirected", 38, "theirs")
    out, _ = m.run(late + "disable whose heap", ON, code=1)
    check("task memory: theirs" in out and "is_ours" in out, f"disabled, yet ours:\n{out}")
    m.expect(late + "disable enable whose foreign owned heap", ON, "redirected", 0, "ours")
    m.expect(m.both + "disable load ole32.dll use ole32.dll whose", ON, "redirected", 38, "theirs")
    # Without, then with an IMallocSpy: it sees everything.
    got, out, _ = m.state(m.both + "load ole32.dll use ole32.dll spy whose", ON)
    check("reason 65 (com-spied)" in out and "spied\n" in out and "task memory: ours" in out, f"spy:\n{out}")
    check(got["note"]["code"] == 0, f"spied on for ever: {got}")
    PROVOKED.add(65)
    _, err = m.run(m.both + "load ole32.dll use ole32.dll spy", ON | {"MIMALLOC_VERBOSE": "1"})
    check(re.search(r"COM memory: combase\.dll .* redirected, 6 functions by entry patch, early, proof: 6 of 6", err)
          and "COM memory: reason 65" in err, f"no report:\n{err}")
    m.run(m.both + "load ole32.dll", ON | {"MIMALLOC_LOG": "com log.txt"})
    log = os.path.join(m.folder, "com log.txt")
    check(os.path.exists(log) and "COM memory: combase.dll" in open(log, encoding="utf-8").read(), "not in the log")


def lives(m):
    """Owners come and go, threads are at work meanwhile."""
    m.expect(m.both + "reload com_owner.dll", ON, "unloaded", 39)
    # Wine does not tell that such a module goes.
    mapped = "map com_owner.dll " + m.both + "unload com_owner.dll "
    m.expect(mapped, ON, "unloaded", 39)
    m.expect(mapped + "load com_owner.dll use com_owner.dll whose", ON, "redirected", 0, "ours")
    got, _ = m.expect("load com_owner.dll use com_owner.dll take " + m.both + "whose foreign owned heap", ON, "redirected", 0,
                      "ours")
    check(got["file"] == "com_owner.dll" and got["functions"] == 4, f"an owner without spies: {got}")
    out, _ = m.run(m.both + "load ole32.dll use ole32.dll threads 8", ON)
    check("strangers: none" in out, f"threads:\n{out}")
    for _ in range(m.args.rounds):
        m.expect(f"load ole32.dll use ole32.dll late 8 {m.redirect} {m.allocator} whose owned", ON, "redirected", 0, "ours")


def stage(args, folder):
    tests = os.path.join(args.build, "tests")
    for name in (f"mimalloc-redirect{args.bits}.dll", args.allocator):
        shutil.copy(os.path.join(args.build if os.path.exists(os.path.join(args.build, name)) else tests, name), folder)
    for name in os.listdir(tests):
        if re.match(r"(standin-original|com_|mimalloc-redirect-faults).*\.dll$|com.*\.exe$", name):
            shutil.copy(os.path.join(tests, name), folder)


def main():
    parser = arguments()
    parser.add_argument("--allocator", required=True)
    parser.add_argument("--rounds", type=int, default=1, help="of the halves coming while threads are at work")
    parser.add_argument("--brief", action="store_true", help="only what the allocator's variants could change")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.build) as folder:
        stage(args, folder)
        m = Com(args, folder)
        with wine_kept_up(args.runner, "com.exe", folder):
            for group in ((on, lives) if args.brief else (off, on, observed, refused, switched, lives)):
                group(m)
    missing = (set() if args.brief else reasons.COM) - PROVOKED
    check(not missing, f"reason codes that no run provoked: {sorted(missing)}")
    print(f"{len(PROVOKED)} reason codes provoked, {len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
