#!/usr/bin/env python3
"""minject check on made programs: the verdict, the finding behind it, and JSON that is JSON.

  test_check.py --minject build/linux-release/minject
  test_check.py --minject build/windows-x64-release/minject.exe --runner scripts/wine-run
"""
import argparse
import json
import os
import pathlib
import pty
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "redirect"))
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import json_schema
from make_image import Image
import make_pe
import tally
from tally import check
import wine_dlls

parser = argparse.ArgumentParser()
parser.add_argument("--minject", required=True)
parser.add_argument("--runner", help="starts minject.exe")
args = parser.parse_args()
TOOL = [*([args.runner] if args.runner else []), str(pathlib.Path(args.minject).resolve())]
SCHEMA = json.loads((pathlib.Path(__file__).resolve().parents[2] / "docs" / "minject-check.schema.json").read_text())
CRT = (("msvcrt.dll", ("malloc", "free", "printf")),)
OURS = (("mimalloc-redirect.dll", ("mi_allocator_init",)), ("mimalloc.dll", ("mi_version",)))
OURS_X86 = (("mimalloc-redirect32.dll", ("mi_allocator_init",)), ("mimalloc.dll", ("mi_version",)))
STATIC = (("KERNEL32.dll", ("HeapAlloc", "HeapFree", "HeapReAlloc", "HeapSize", "GetProcessHeap", "FlsAlloc", "LCMapStringW",
                            "GetStringTypeW", "GetStartupInfoW", "GetCPInfo", "WriteConsoleW")),)
REDIRECT = make_pe.make(dll=True, imports=make_pe.KERNEL, exports=("mi_allocator_init",))
ALLOCATOR = make_pe.make(dll=True, imports=make_pe.KERNEL, exports=("mi_version", "_mi_redirect_entry"))
BOTH = {"mimalloc-redirect.dll": REDIRECT, "mimalloc.dll": ALLOCATOR}


def answer_of(folder, *words, **env):
    r = subprocess.run([*TOOL, "check", "--json", *words], cwd=folder, capture_output=True, text=True, env={**os.environ, **env})
    return json.loads(r.stdout)


def codes_of(answer):
    return [f["code"] for f in answer["findings"]]


def module(answer, name):
    return next((m for m in answer["modules"] if m["name"].lower() == name), None)


def verdict(name, program, files, code, findings, absent=(), late=None):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="minject-check-"))
    try:
        (folder / "p.exe").write_bytes(program)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        text = subprocess.run([*TOOL, "check", "p.exe"], cwd=folder, capture_output=True, text=True)
        r = subprocess.run([*TOOL, "check", "--json", "p.exe"], cwd=folder, capture_output=True, text=True)
        check(text.returncode == r.returncode == code, f"{name}: exit code {r.returncode}, not {code}\n{text.stdout}{text.stderr}")
        try:
            answer = json.loads(r.stdout)
        except json.JSONDecodeError as e:
            check(False, f"{name}: JSON: {e}")
            return
        check(json_schema.faults(answer, SCHEMA) == [], f"{name}: fits the schema: {json_schema.faults(answer, SCHEMA)[:3]}")
        check(answer["schema"] == 1 and answer["verdict"] == {0: "redirected", 30: "partly", 31: "not"}[code], f"{name}: verdict")
        codes = [f["code"] for f in answer["findings"]]
        for want in findings:
            check(want in codes, f"{name}: finding {want} is in {codes}")
        for unwanted in absent:
            check(unwanted not in codes, f"{name}: finding {unwanted} is not in {codes}")
        for f in answer["findings"]:
            check(f["text"] and f["text"] in text.stdout, f"{name}: the text says the same")
            check(f["level"] not in ("warning", "bad") or f["cure"] or f["code"] == "no-use", f"{name}: {f['code']} has a cure")
        check([m["order"] for m in answer["modules"]] == list(range(1, len(answer["modules"]) + 1)), f"{name}: order")
        check(late is None or answer["late"] == late, f"{name}: late is {answer['late']}")
    finally:
        shutil.rmtree(folder)


def in_folder(test):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="minject-check-"))
    try:
        for file, data in BOTH.items():
            (folder / file).write_bytes(data)
        test(folder)
    finally:
        shutil.rmtree(folder)


def check_changed_installer(folder):
    """One that was injected in spite of the warning will refuse to start."""
    (folder / "p.exe").write_bytes(make_pe.make(imports=CRT, overlay=make_pe.nsis_header(0)))
    subprocess.run([*TOOL, "inject", "--force", "-i", "p.exe"], cwd=folder, capture_output=True, check=True)
    answer = answer_of(folder, "p.exe")
    found = next((f for f in answer["findings"] if f["code"] == "installer"), {"level": "none"})
    check(answer["verdict"] == "not" and found["level"] == "bad", f"a changed installer: {answer['verdict']}, {found}")


def crt_of(rung):
    """A C runtime that can be redirected at its entries, by tables, not at all."""
    image = Image("x64")
    if rung == "tables":
        image.add("free", b"\xc3", room=16)  # too short for a jump
    image.add_core()
    if rung == "none":
        image.exports["_msize"] = image.exports["malloc"]
    return image.bytes()


def check_rungs(folder):
    """How a C runtime can be redirected: of the whole program, of one file, and what the exit codes say."""
    rows = {"entry": (0, "crt", "ok", 0, r"\d+ functions would be patched"),
            "tables": (0, "crt-tables", "info", 0, r"(\d+) functions would be redirected by tables, not at their entries, reason 8:"),
            "none": (31, "crt-refused", "warning", 31, r"refused, reason 12:")}
    for rung, (code, finding, level, plan_code, text) in rows.items():
        (folder / "odd99.dll").write_bytes(crt_of(rung))
        (folder / "p.exe").write_bytes(make_pe.make(imports=OURS + (("odd99.dll", ("malloc", "free")),)))
        r = subprocess.run([*TOOL, "check", "p.exe"], cwd=folder, capture_output=True, text=True)
        answer = answer_of(folder, "p.exe")
        crt = module(answer, "odd99.dll")
        found = next((f for f in answer["findings"] if f["code"] == finding), {"level": "none"})
        check(r.returncode == code and found["level"] == level, f"rung {rung}: {r.returncode}, {answer['findings']}")
        check(crt and crt["role"] == "crt" and crt["crt_rung"] == rung, f"rung {rung}: {crt}")
        mark = {"entry": "", "tables": ", by tables", "none": ", refused"}[rung]
        check(re.search(rf"C runtime{mark}$", r.stdout, re.M), f"rung {rung}:\n{r.stdout}")
        check(module(answer, "p.exe")["malloc_of"] == "odd99.dll", f"rung {rung}: whose malloc")
        plan = subprocess.run([*TOOL, "check", "--plan", "odd99.dll"], cwd=folder, capture_output=True, text=True)
        check(plan.returncode == plan_code and re.search(text, plan.stdout) and f"  rung: {rung}\n" in plan.stdout,
              f"rung {rung}: {plan.returncode}\n{plan.stdout}")
    check("crt-all-refused" in codes_of(answer), f"the last one: {codes_of(answer)}")
    # One that is refused, where the program has another one that is not.
    (folder / "good99.dll").write_bytes(crt_of("entry"))
    (folder / "p.exe").write_bytes(make_pe.make(imports=OURS + (("good99.dll", ("malloc", "free")), ("odd99.dll", ("free",)))))
    answer = answer_of(folder, "p.exe")
    check(answer["verdict"] == "partly" and {"crt", "crt-refused"} == {c for c in codes_of(answer) if c[:3] == "crt"}, f"two runtimes: {answer['findings']}")


VC = ("Microsoft.VC99.CRT", "9.0.21022.8", "amd64", "1fc8b3b9a1e18e3b")
SXS_CRT = (("msvcr99.dll", ("malloc", "free")),)
CRT_DLL = make_pe.seeds()["crt-x64"]


def prefix_with(folder, registry="", schema=None):
    """A made Wine prefix: a system folder, WinSxS, a registry file. Its path."""
    windows = folder / "prefix" / "drive_c" / "windows"
    (windows / "system32").mkdir(parents=True)
    (windows / "winsxs").mkdir()
    (folder / "prefix" / "system.reg").write_text("WINE REGISTRY Version 2\n\n" + registry)
    if schema:
        (windows / "system32" / "apisetschema.dll").write_bytes(schema)
    return windows


def test_assemblies(folder):
    """Side by side: shared in WinSxS (the newest of the version's family), private beside the program, in a manifest
    that lies beside the program, missing."""
    make = make_pe.make
    windows = prefix_with(folder)
    env = {"WINEPREFIX": str(folder / "prefix")}
    for version, data in (("9.0.21022.8", b"MZ old"), ("9.0.30729.1", CRT_DLL), ("9.1.1.1", b"MZ another")):
        place = windows / "winsxs" / f"amd64_microsoft.vc99.crt_1fc8b3b9a1e18e3b_{version}_none_deadbeef"
        place.mkdir()
        (place / "MSVCR99.dll").write_bytes(data)
    (folder / "p.exe").write_bytes(make(imports=OURS + SXS_CRT, resources={(24, 1): make_pe.manifest(VC)}))
    answer = answer_of(folder, "p.exe", **env)
    m = module(answer, "msvcr99.dll")
    check(m["origin"] == "assembly" and "9.0.30729.1" in m["path"] and m["role"] == "crt", f"WinSxS: {m}")
    check("assembly" in codes_of(answer) and "assembly-missing" not in codes_of(answer), f"WinSxS: {codes_of(answer)}")
    check(json_schema.faults(answer, SCHEMA) == [], f"WinSxS: schema {json_schema.faults(answer, SCHEMA)}")
    (folder / "p.exe").write_bytes(make(imports=OURS + SXS_CRT))
    check(module(answer_of(folder, "p.exe", **env), "msvcr99.dll")["origin"] == "missing", "without a manifest it is not found")
    (folder / "p.exe.manifest").write_bytes(b"\xef\xbb\xbf" + make_pe.manifest(VC))
    check(module(answer_of(folder, "p.exe", **env), "msvcr99.dll")["origin"] == "assembly", "a manifest beside the program")
    (folder / "p.exe.manifest").unlink()
    # A DLL's own manifest serves its own imports.
    (folder / "p.exe").write_bytes(make(imports=OURS + (("helper.dll", ("f",)),)))
    (folder / "helper.dll").write_bytes(make(dll=True, imports=SXS_CRT, exports=("f",), resources={(24, 2): make_pe.manifest(VC)}))
    check(module(answer_of(folder, "p.exe", **env), "msvcr99.dll")["origin"] == "assembly", "the manifest of a DLL")
    private = ("Mine", "1.0.0.0", "*", "")
    (folder / "p.exe").write_bytes(make(imports=OURS + SXS_CRT, resources={(24, 1): make_pe.manifest(private, VC)}))
    (folder / "Mine").mkdir()
    (folder / "Mine" / "mine.manifest").write_text("<assembly/>")
    (folder / "Mine" / "msvcr99.dll").write_bytes(CRT_DLL)
    m = module(answer_of(folder, "p.exe", **env), "msvcr99.dll")
    check(m["origin"] == "assembly" and "Mine" in m["path"], f"a private assembly: {m}")
    (folder / "p.exe").write_bytes(make(imports=OURS + SXS_CRT, resources={(24, 1): make_pe.manifest(("Nobody", "1.0.0.0", "*", ""))}))
    check("assembly-missing" in codes_of(answer_of(folder, "p.exe", **env)), "a missing assembly")


def test_policies(folder):
    """Which of several versions serves: the newest of the family, unless a policy names one; the program's own policy
    comes before the publisher's; what a policy does not cover it does not change. UTF-16 is read like UTF-8."""
    make = make_pe.make
    windows = prefix_with(folder)
    (windows / "winsxs" / "manifests").mkdir()
    env = {"WINEPREFIX": str(folder / "prefix")}
    for version in ("9.0.21022.8", "9.0.9999.5", "9.0.30729.1", "9.0.30729.17", "9.0.30729.9"):
        place = windows / "winsxs" / f"amd64_microsoft.vc99.crt_1fc8b3b9a1e18e3b_{version}_none_deadbeef"
        place.mkdir()
        (place / "msvcr99.dll").write_bytes(CRT_DLL)

    def found(what, want):
        m = module(answer_of(folder, "p.exe", **env), "msvcr99.dll")
        check(m["origin"] == ("assembly" if want else "missing") and (not want or f"_{want}_" in m["path"]), f"{what}: {m['path']}")

    def program(data):
        (folder / "p.exe").write_bytes(make(imports=OURS + SXS_CRT, resources={(24, 1): data}))

    text = make_pe.manifest(VC)
    program(text)
    found("the newest, by its numbers", "9.0.30729.17")
    for what, data in (("UTF-16", b"\xff\xfe" + text.decode().encode("utf-16le")), ("UTF-16, big end first", b"\xfe\xff" + text.decode().encode("utf-16be")),
                       ("UTF-16 without a mark", text.decode().encode("utf-16le"))):
        program(data)
        found(what, "9.0.30729.17")
    program(text)
    name = "amd64_policy.9.0.microsoft.vc99.crt_1fc8b3b9a1e18e3b_{}_none_c0ffee.manifest"
    policies = windows / "winsxs" / "manifests"
    (policies / name.format("9.0.9999.1")).write_bytes(make_pe.policy(["9.0.0.0-9.0.99999.0"], "9.0.21022.8"))
    (policies / name.format("9.0.30729.1")).write_bytes(make_pe.policy(["8.0.0.0-8.9.0.0", "9.0.20718.0-9.0.21022.8"], "9.0.30729.1"))
    found("the publisher's newest policy", "9.0.30729.1")
    (policies / name.format("9.0.30729.1")).write_bytes(b"\xff\xfe" + make_pe.policy(["9.0.21022.8"], "9.0.30729.9").decode().encode("utf-16le"))
    found("a policy for one version, UTF-16", "9.0.30729.9")
    for what, data in (("another version", make_pe.policy(["9.0.20718.0-9.0.21022.7"], "9.0.30729.1")), ("another assembly", make_pe.policy(["9.0.21022.8"], "9.0.30729.1", "Else")),
                       ("no version", make_pe.policy(["9.0.21022.8"], "9.0.30729")), ("a version too large", make_pe.policy(["9.0.21022.8"], "9.0.30729.65536")),
                       ("a range that ends nowhere", make_pe.policy(["9.0.21022.0-9.0.21022.65536"], "9.0.30729.1")),
                       ("not XML", b"DCM\x01" + bytes(range(256)))):
        (policies / name.format("9.0.30729.1")).write_bytes(data)
        found(f"a policy for {what} changes nothing", "9.0.30729.17")
    (policies / name.format("9.0.30729.1")).write_bytes(make_pe.policy(["9.0.9999.5"], "9.0.30729.9"))
    (folder / "p.exe.config").write_bytes(make_pe.policy(["9.0.21022.8"], "9.0.9999.5"))
    found("the program's policy, then the publisher's", "9.0.30729.9")
    (policies / name.format("9.0.30729.1")).unlink()
    (policies / name.format("9.0.9999.1")).unlink()
    found("the program's policy", "9.0.9999.5")
    told = next(f["text"] for f in answer_of(folder, "p.exe", **env)["findings"] if f["code"] == "assembly")
    check("Microsoft.VC99.CRT 9.0.9999.5 from" in told, f"the version is told: {told}")


def test_known_dlls(folder):
    """The system's list decides whether a DLL beside the program counts; without one, the usual list does."""
    make = make_pe.make
    key = "[System\\\\CurrentControlSet\\\\Control\\\\Session Manager\\\\KnownDLLs] 1700000000\n"
    windows = prefix_with(folder, key + '"other"="Other.dll"\n"DllDirectory"=str(2):"%SystemRoot%"\n\n[Else]\n"x"="helper.dll"\n')
    env = {"WINEPREFIX": str(folder / "prefix")}
    for name in ("other.dll", "helper.dll", "shell32.dll"):
        for place in (folder, windows / "system32"):
            (place / name).write_bytes(make(dll=True, imports=(), exports=("f",)))
    (folder / "p.exe").write_bytes(make(imports=OURS + tuple((n, ("f",)) for n in ("other.dll", "helper.dll", "shell32.dll"))))
    answer = answer_of(folder, "p.exe", **env)
    origins = {n: module(answer, n)["origin"] for n in ("other.dll", "helper.dll", "shell32.dll")}
    check(origins == {"other.dll": "system", "helper.dll": "program", "shell32.dll": "program"}, f"the system's list: {origins}")
    (folder / "prefix" / "system.reg").write_text("WINE REGISTRY Version 2\n")
    answer = answer_of(folder, "p.exe", **env)
    origins = {n: module(answer, n)["origin"] for n in ("other.dll", "helper.dll", "shell32.dll")}
    check(origins == {"other.dll": "program", "helper.dll": "program", "shell32.dll": "system"}, f"the usual list: {origins}")


def test_local(folder):
    """program.exe.local turns the order round, unless the program has a manifest."""
    make = make_pe.make
    windows = prefix_with(folder)
    env = {"WINEPREFIX": str(folder / "prefix")}
    for place in (folder, windows / "system32"):
        (place / "shell32.dll").write_bytes(make(dll=True, imports=(), exports=("f",)))
    program = dict(imports=OURS + (("shell32.dll", ("f",)),))
    (folder / "p.exe").write_bytes(make(**program))
    (folder / "p.exe.local").write_text("")
    answer = answer_of(folder, "p.exe", **env)
    check(module(answer, "shell32.dll")["origin"] == "program" and "local" in codes_of(answer), "a .local file")
    (folder / "p.exe").write_bytes(make(resources={(24, 1): make_pe.manifest()}, **program))
    answer = answer_of(folder, "p.exe", **env)
    check(module(answer, "shell32.dll")["origin"] == "system" and "local" not in codes_of(answer), "a manifest overrides .local")


def test_api_sets(folder):
    """The schema of the system decides; without one the table of the tool; the runtime's sets always lead to ucrtbase."""
    make = make_pe.make
    names = ("api-ms-win-core-file-l1-1-9.dll", "API-MS-WIN-core-com-l1-1-1.dll", "api-ms-win-crt-heap-l1-1-0.dll",
             "api-ms-win-nothing-known-l1-1-0.dll", "ext-ms-win-ntuser-window-l1-1-1.dll")
    (folder / "p.exe").write_bytes(make(imports=OURS + tuple((n, ("f",)) for n in names)))
    windows = prefix_with(folder)
    env = {"WINEPREFIX": str(folder / "prefix")}

    def hosts():
        found = [m["name"].lower() for m in answer_of(folder, "p.exe", **env)["modules"]]
        check(not [n for n in found if n.startswith(("api-", "ext-"))], f"no API set is a module: {found}")
        return set(found)

    check({"kernelbase.dll", "combase.dll", "ucrtbase.dll", "user32.dll"} <= hosts(), f"the tool's table: {hosts()}")
    schema = make_pe.api_set_schema({"api-ms-win-core-file-l1-1": "mine.dll", "api-ms-win-core-com-l1-1": "yours.dll"})
    (windows / "system32" / "apisetschema.dll").write_bytes(schema)
    check({"mine.dll", "yours.dll", "ucrtbase.dll"} <= hosts() and "combase.dll" not in hosts(), f"the system's schema: {hosts()}")


def test_table(folder):
    """The tool's table says what the schema of the Wine at hand says, set by set."""
    path = next((p for f in wine_dlls.folders("x86_64") if (p := pathlib.Path(f, "apisetschema.dll")).exists()), None)
    if path is None:
        return
    source = pathlib.Path(__file__).resolve().parents[2]
    text = subprocess.run([sys.executable, source / "scripts" / "make_api_sets.py", path], capture_output=True, text=True).stdout
    rows = lambda t: re.findall(r'\{"([^"]+)",\s*"([^"]+)"\}', t)
    check(rows(text) == rows((source / "tools" / "minject" / "api_sets.c").read_text()) and len(rows(text)) > 300,
          "the table is the one that the script makes")


def test_evidence(folder):
    """A static runtime: each kind of evidence counts by itself, and the more there is the surer the doctor is."""
    make = make_pe.make
    some = (("KERNEL32.dll", ("HeapAlloc", "HeapFree", "GetProcessHeap", "TlsAlloc", "GetCPInfo", "GetStartupInfoW")),)
    rich = ((0x105, 30000, 90), (0x104, 30000, 30), (0x103, 30000, 9), (1, 0, 90))
    kinds = (("imports", {}), ("Rich header", dict(rich=rich)), ("R6xxx", dict(strings="R6008\r\n- not enough".encode("utf-16le"))),
             (".CRT$X", dict(groups=(".CRT$XCA", ".CRT$XIC", ".CRT$XPX", ".CRT$XPXA"))), ("CorExitProcess", dict(strings=b"CorExitProcess\0")),
             ("security cookie", dict(config=True)))
    before = 0
    gathered = {"strings": b""}
    for word, more in kinds:
        gathered = {**gathered, **more, "strings": gathered["strings"] + more.get("strings", b"")}
        (folder / "p.exe").write_bytes(make(imports=OURS + some, **gathered))
        answer = answer_of(folder, "p.exe")
        m = module(answer, "p.exe")
        text = next((f["text"] for f in answer["findings"] if f["code"] == "static-crt"), "")
        check(m["static_confidence"] > before or before == 99, f"{word}: surer than before: {before}, {m['static_confidence']}")
        check(word in text or word == "imports" and "start-up functions" in text, f"{word} is named: {text}")
        check(f"{m['static_confidence']} percent" in text, f"the confidence is told: {text}")
        before = m["static_confidence"]
    check(before >= 90 and module(answer, "p.exe")["static_crt"] == "likely", f"all of it together: {before}")
    (folder / "p.exe").write_bytes(make(imports=OURS + make_pe.KERNEL, strings=b"Microsoft Visual C++ Runtime Library", rich=rich))
    check(module(answer_of(folder, "p.exe"), "p.exe")["static_crt"] == "no", "without a heap it is none")


def test_pairs(folder):
    """Who may hand a block to whom: pairs that call each other, with the number of functions; then pairs that only
    share the process; debug and release told apart."""
    make = make_pe.make
    (folder / "p.exe").write_bytes(make(imports=OURS + CRT + (("a.dll", ("f", "g")), ("b.dll", ("f",)))))
    (folder / "a.dll").write_bytes(make(dll=True, imports=(("ucrtbased.dll", ("malloc",)),), exports=("f", "g")))
    (folder / "b.dll").write_bytes(make(dll=True, imports=CRT + (("a.dll", ("g",)),), exports=("f",)))
    pairs = answer_of(folder, "p.exe")["pairs"]
    found = {(p["caller"], p["callee"], p["functions"], p["debug_release"]) for p in pairs}
    check(found == {("p.exe", "a.dll", 2, True), ("b.dll", "a.dll", 1, True)}, f"pairs: {found}")
    (folder / "p.exe").write_bytes(make(imports=OURS + (("c.dll", ("f",)), ("b.dll", ("f",)))))
    (folder / "b.dll").write_bytes(make(dll=True, imports=CRT, exports=("f",)))
    (folder / "c.dll").write_bytes(make(dll=True, imports=(("ucrtbase.dll", ("malloc",)),), exports=("f",)))
    answer = answer_of(folder, "p.exe")
    check([(p["functions"], p["debug_release"]) for p in answer["pairs"]] == [(0, False)], f"siblings: {answer['pairs']}")
    check(any("share the process" in f["text"] for f in answer["findings"]), "siblings are told")


def test_halves(folder):
    """Variant, version and handshake of our DLLs, from their version resources."""
    make = make_pe.make
    half = lambda exports, words, number=(3, 4, 0, 0): make(dll=True, imports=make_pe.KERNEL, exports=exports,
                                                           resources={(16, 1): make_pe.version_resource(words, number)})
    allocator, redirect = ("mi_version", "_mi_redirect_entry"), ("mi_allocator_init",)
    good = {"MimallocVariant": "release", "MimallocHandshake": "1"}
    (folder / "p.exe").write_bytes(make(imports=OURS + CRT))

    def answer(a, r):
        (folder / "mimalloc.dll").write_bytes(a)
        (folder / "mimalloc-redirect.dll").write_bytes(r)
        out = answer_of(folder, "p.exe")
        check(out["verdict"] == "redirected", f"the halves work together: {out['findings']}")
        return codes_of(out), " ".join(f["text"] for f in out["findings"])

    codes, text = answer(half(allocator, good), half(redirect, good))
    check(not {"variant", "handshake", "version-mix"} & set(codes) and "3.4.0.0, release, handshake 1" in text, f"good: {codes} {text}")
    codes, text = answer(half(allocator, dict(good, MimallocVariant="debug")), half(redirect, good))
    check("variant" in codes and "is a debug build" in text, f"another variant than the name says: {text}")
    codes, text = answer(half(allocator, dict(good, MimallocHandshake="2")), half(redirect, good))
    check("handshake" in codes and "speaks 2" in text, f"another handshake: {text}")
    codes, text = answer(half(allocator, good, (3, 5, 0, 0)), half(redirect, good))
    check("version-mix" in codes, f"another version: {text}")
    codes, text = answer(ALLOCATOR, REDIRECT)
    check("handshake" in codes and "original's interface" in text, f"the original's halves: {text}")


def test_looks(folder):
    """A tree: plain on a pipe, with colour and lines on a terminal, without colour when NO_COLOR asks for that."""
    make = make_pe.make
    (folder / "helper.dll").write_bytes(make(dll=True, imports=CRT, exports=("f",)))
    (folder / "p.exe").write_bytes(make(imports=OURS + (("helper.dll", ("f",)), ("gone.dll", ("f",)))))
    text = subprocess.run([*TOOL, "check", "p.exe"], cwd=folder, capture_output=True, text=True).stdout
    check(text.isascii() and "\033" not in text, "plain on a pipe")
    lines = text[text.index("modules"):].splitlines()[1:]
    check(any("|-- " in line and "helper.dll  malloc of msvcrt.dll" in line for line in lines), f"a branch: {lines}")
    check(any(line.startswith("|   `-- ") and "msvcrt.dll  C runtime" in line for line in lines), f"its leaf: {lines}")
    check("`-- " in lines[-1] and "gone.dll NOT FOUND" in lines[-1], f"the last one: {lines}")

    def on_terminal(**env):
        chunks = []
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.execve(TOOL[0], [*TOOL, "check", "p.exe"], {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, **env})
        try:
            while True:
                chunks.append(os.read(fd, 65536))
        except OSError:
            pass
        os.close(fd)
        os.waitpid(pid, 0)
        return b"".join(chunks).decode()

    if args.runner:
        return  # Wine's console turns the colours into commands of its own
    shown = on_terminal()
    check("\033[1;32m" in shown and "\u251c\u2500\u2500 " in shown, f"colour on a terminal: {shown[:200]!r}")
    check("\033" not in on_terminal(NO_COLOR="1") and "\033" in on_terminal(NO_COLOR=""), "NO_COLOR")


def main():
    make = make_pe.make
    # These stand on a made-up system folder; minject.exe asks the system that it runs on.
    if not args.runner:
        for test in (test_assemblies, test_policies, test_known_dlls, test_local, test_api_sets):
            in_folder(test)
    for test in (test_table, test_evidence, test_pairs, test_halves, test_looks):
        in_folder(test)
    verdict("injected", make(imports=OURS + CRT), BOTH, 0, ["early", "dll"], ["no-use", "dll-missing"], late=False)
    verdict("not injected", make(imports=CRT), BOTH, 31, ["not-injected"])
    verdict("wrong order", make(imports=CRT + OURS), BOTH, 0, ["late"], ["early"], late=True)
    verdict("early through a DLL", make(imports=(("helper.dll", ("f",)),) + OURS + CRT),
            dict(BOTH, **{"helper.dll": make(dll=True, imports=CRT, exports=("f",))}), 0, ["late"], late=True)
    verdict("injected in a DLL", make(imports=(("helper.dll", ("f",)),) + CRT),
            dict(BOTH, **{"helper.dll": make(dll=True, imports=OURS, exports=("f",))}), 0, ["early"], late=False)
    verdict("redirect missing", make(imports=OURS + CRT), {"mimalloc.dll": ALLOCATOR}, 31, ["dll-missing"])
    verdict("allocator missing", make(imports=OURS + CRT), {"mimalloc-redirect.dll": REDIRECT}, 31, ["dll-missing"])
    verdict("wrong machine", make(imports=OURS + CRT), dict(BOTH, **{"mimalloc.dll": make(machine="x86", dll=True, exports=("mi_version",))}),
            31, ["dll-machine"])
    verdict("wrong DLL", make(imports=OURS + CRT), dict(BOTH, **{"mimalloc.dll": make(dll=True, exports=("something",))}), 31, ["dll-exports"])
    verdict("broken DLL", make(imports=OURS + CRT), dict(BOTH, **{"mimalloc.dll": b"MZ nothing"}), 31, ["dll-machine"])
    verdict("linked, redirect beside", make(imports=OURS[1:] + CRT), BOTH, 0, ["redirect-beside", "early"], late=False)
    verdict("linked, no redirect", make(imports=OURS[1:] + CRT), {"mimalloc.dll": ALLOCATOR}, 31, ["redirect-missing"])
    verdict("static runtime", make(imports=OURS + STATIC), BOTH, 30, ["static-crt"])
    verdict("static runtime in a DLL", make(imports=OURS + CRT + (("helper.dll", ("f",)),)),
            dict(BOTH, **{"helper.dll": make(dll=True, imports=STATIC, exports=("f",))}), 30, ["static-crt"])
    verdict("no runtime", make(imports=OURS + make_pe.KERNEL), BOTH, 30, ["no-use"], ["static-crt"])
    verdict("two runtimes", make(imports=OURS + CRT + (("helper.dll", ("f",)),)),
            dict(BOTH, **{"helper.dll": make(dll=True, imports=(("api-ms-win-crt-heap-l1-1-0.dll", ("malloc",)),), exports=("f",))}),
            0, ["crt-mix"])
    verdict("debug and release", make(imports=OURS + CRT + (("helper.dll", ("f",)),)),
            dict(BOTH, **{"helper.dll": make(dll=True, imports=(("ucrtbased.dll", ("malloc",)),), exports=("f",))}),
            30, ["crt-mix", "debug-release-mix"])
    com = (("ole32.dll", ("CoTaskMemFree",)),)
    verdict("COM's task memory", make(imports=OURS + CRT + com), BOTH, 0, ["com-memory"])
    verdict("COM's task memory by its API set", make(imports=OURS + CRT + (("api-ms-win-core-com-l1-1-0.dll", ("CoGetMalloc",)),)),
            BOTH, 0, ["com-memory"])
    verdict("COM's task memory in a DLL", make(imports=OURS + CRT + (("helper.dll", ("f",)),)),
            dict(BOTH, **{"helper.dll": make(dll=True, imports=com, exports=("f",))}), 0, ["com-memory"])
    verdict("COM, but not its task memory", make(imports=OURS + CRT + (("ole32.dll", ("CoInitialize",)),)), BOTH, 0, [], ["com-memory"])
    debug = (("ucrtbased.dll", ("malloc",)),)
    verdict("a debug heap lost", make(imports=OURS + debug), BOTH, 0, ["debug-heap-lost"], ["debug-heap"])
    verdict("a debug heap kept", make(imports=OURS[:1] + (("mimalloc-debug.dll", ("mi_version",)),) + debug),
            {"mimalloc-redirect.dll": REDIRECT, "mimalloc-debug.dll": ALLOCATOR}, 0, ["debug-heap"], ["debug-heap-lost"])
    # By what they export, not by their names.
    renamed = (("first.dll", ("mi_allocator_init",)), ("second.dll", ("mi_version",)))
    halves = {"first.dll": make(dll=True, imports=make_pe.KERNEL, exports=("mi_allocator_init", "mi_allocator_done")),
              "second.dll": make(dll=True, imports=make_pe.KERNEL, exports=("mi_version", "_mi_redirect_allocator"))}
    verdict("halves of other names", make(imports=renamed + CRT), halves, 0, ["early", "dll"], ["not-injected"], late=False)
    original = make(dll=True, imports=make_pe.KERNEL, exports=("mi_version", "_mi_redirect_entry", "mi_malloc", "mi_is_in_heap_region"))
    verdict("an original allocator of another name", make(imports=CRT + renamed), dict(halves, **{"second.dll": original}), 0, ["late"], late=True)
    verdict("only named like it", make(imports=renamed + CRT), dict(halves, **{"second.dll": make(dll=True, exports=("mi_version", "mi_malloc"))}), 31, ["not-injected"])
    verdict("second allocator", make(imports=OURS + CRT + (("tbbmalloc_proxy.dll", ("f",)),)), BOTH, 30, ["second-allocator", "not-found"])
    verdict("second allocator in capitals", make(imports=OURS + CRT + (("TBBMalloc_Proxy.DLL", ("f",)),)), BOTH, 30, ["second-allocator"])
    verdict("two of ours", make(imports=OURS + CRT + (("LibMimalloc-old.dll", ("mi_free",)),)),
            dict(BOTH, **{"LibMimalloc-old.dll": ALLOCATOR}), 30, ["second-allocator"])
    verdict(".NET", make(imports=OURS + CRT, clr=1), BOTH, 31, ["dotnet"])
    verdict("mixed .NET", make(imports=OURS + CRT, clr=0), BOTH, 0, ["dotnet"])
    verdict("hybrid", make(imports=OURS + CRT, chpe=True), BOTH, 31, ["hybrid"])
    verdict("signed", make(imports=OURS + CRT, cert=make_pe.CERT), BOTH, 0, ["signed"])
    verdict("overlay", make(imports=OURS + CRT, overlay=make_pe.ZIP_TAIL), BOTH, 0, ["overlay"])
    verdict("installer", make(imports=OURS + CRT, overlay=make_pe.nsis_header(0)), BOTH, 0, ["installer", "overlay"])
    in_folder(check_changed_installer)
    in_folder(check_rungs)
    verdict("installer without a checksum", make(imports=OURS + CRT, overlay=make_pe.nsis_header(4)), BOTH, 0, ["overlay"], ["installer"])
    verdict("hybrid by its relocations", make(machine="arm64", imports=CRT, config=True, dynamic=make_pe.dynamic_relocs(6)), BOTH, 31, ["hybrid"])
    verdict("delay", make(imports=OURS + CRT, delay=True), BOTH, 0, ["delay"])
    verdict("guard", make(imports=OURS + CRT, dll_flags=0xC160), BOTH, 0, ["cfg"])
    verdict("x86", make(machine="x86", imports=OURS_X86 + CRT), {
        "mimalloc-redirect32.dll": make(machine="x86", dll=True, exports=("mi_allocator_init",)),
        "mimalloc.dll": make(machine="x86", dll=True, exports=("mi_version", "_mi_redirect_entry"))}, 0, ["early"])
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
