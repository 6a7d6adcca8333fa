#!/usr/bin/env python3
"""minject on every synthetic image and every bad input. The results are judged by a PE reader of this file's own, not
by minject's; golden.txt holds the SHA-256 of each result, so that every build of the tool gives the same bytes.

  test_minject.py --minject build/linux-release/minject [--runner scripts/wine-run] [--run scripts/wine-run] [--update]

--runner starts minject itself through a program (minject.exe under Wine); --run also starts the injected programs.
"""
import argparse
import hashlib
import os
import pathlib
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile

import make_pe
import tally
from tally import check

HERE = pathlib.Path(__file__).resolve().parent
parser = argparse.ArgumentParser()
parser.add_argument("--minject", required=True)
parser.add_argument("--runner")
parser.add_argument("--run")
parser.add_argument("--update", action="store_true")
args = parser.parse_args()
TOOL = ([args.runner] if args.runner else []) + [str(pathlib.Path(args.minject).resolve())]
retries, codes_seen = [], set()
# What a message of each exit code tells to do. test_codes holds the tables against each other.
CURES = {
    1: ["close other programs"], 2: ["did you mean", "'minject help' shows", "as in --", "--output goes with", "cannot be injected",
                                     "there is bash and powershell"],
    3: ["check the spelling"], 4: ["check that it is a file"], 5: ["choose another place", "is the disk full"],
    6: ["make it writable"], 7: ["name a program or DLL in it"], 8: ["copy or download it again"], 9: ["name a Windows .exe or .dll"],
    10: ["name a Windows .exe or .dll"], 11: ["copy or download it again"],
    12: ["name a Windows .exe or .dll", "as its maker built it", "use 'minject run'"], 13: ["name a Windows .exe or .dll"],
    14: ["use --force to drop the signature"], 15: ["let a native DLL that it calls"], 16: ["build it for one machine"],
    17: ["leave it as it is"], 18: ["use 'minject run'"], 19: ["use --force"], 20: ["from your backup"], 21: ["use your backup"],
    22: ["name the program that loads it", "may tell more"], 23: ["use 'minject run', or --force"],
    24: ["use --inplace, which keeps a backup", "leave --output away"], 25: ["end that program first"],
}


def minject_once(words, cwd, more):
    # Files, not pipes: Wine's background processes would keep a pipe open for seconds.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        r = subprocess.run(TOOL + [str(w) for w in words], cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                           timeout=300, **more)
        out.seek(0), err.seek(0)
        r.stdout, r.stderr = out.read().decode("utf-8"), err.read().decode("utf-8")
    return r


def minject(*words, cwd, **more):
    """Wine 8 ends about one program in a thousand with exit code 1 before the program has begun. minject never ends
    with 1 and without a word, so that is told apart; it is tried again, at most twice in a run, and said."""
    r = minject_once(words, cwd, more)
    if args.runner and r.returncode == 1 and not r.stdout and not r.stderr and len(retries) < 2:
        retries.append(words)
        print(f"tried again, Wine did not start it: {words}")
        r = minject_once(words, cwd, more)
    codes_seen.add(r.returncode)
    return r


class Pe:
    """Just enough of a PE reader to judge a result."""

    def __init__(self, data):
        self.data = data
        u = struct.unpack_from
        self.nt, = u("<I", data, 0x3C)
        assert data[self.nt:self.nt + 4] == b"PE\0\0"
        self.machine, count, _, self.symbol_at, self.symbol_count, optional, _ = u("<HHIIIHH", data, self.nt + 4)
        self.opt = self.nt + 24
        self.wide = u("<H", data, self.opt)[0] == 0x20B
        self.section_align, self.file_align = u("<II", data, self.opt + 32)
        self.image_size, self.header_size, self.checksum = u("<III", data, self.opt + 56)
        dirs = self.opt + (112 if self.wide else 96)
        self.dirs = [u("<II", data, dirs + i * 8) for i in range(16)]
        at = self.opt + optional
        self.sections = [u("<8s6IHHI", data, at + i * 40) for i in range(count)]
        self.table_end = at + count * 40

    def offset(self, rva):
        for name, virtual, start, size, raw, *_ in self.sections:
            if start <= rva < start + size:
                return raw + rva - start
        return rva

    def text(self, rva):
        at = self.offset(rva)
        return self.data[at:self.data.index(b"\0", at)].decode()

    def imports(self):
        """[(dll, [symbols], time stamp, IAT RVA)]"""
        out, at = [], self.dirs[1][0]
        while at:
            lookup, stamp, _, name, iat = struct.unpack_from("<5I", self.data, self.offset(at))
            if name == 0:
                break
            cell, fmt = (8, "<Q") if self.wide else (4, "<I")
            symbols, t = [], self.offset(lookup or iat)
            while True:
                v, = struct.unpack_from(fmt, self.data, t)
                if v == 0:
                    break
                symbols.append(v & 0xFFFF if v >> (cell * 8 - 1) else self.text(v + 2))
                t += cell
            out.append((self.text(name), symbols, stamp, iat))
            at += 20
        return out

    def flags_at(self, rva):
        for name, virtual, start, *_, flags in self.sections:
            if start <= rva < start + virtual:
                return flags
        return 0


def judge(name, before, after):
    """Everything that must hold for an injected file."""
    old, new = Pe(before), Pe(after)
    found, was = new.imports(), old.imports()
    redirect = {0x14C: "mimalloc-redirect32.dll", 0x8664: "mimalloc-redirect.dll", 0xAA64: "mimalloc-redirect-arm64.dll"}
    check(found[0][0] == redirect[old.machine], f"{name}: first import is {found[0][0]}")
    check(found[1][0] in ("mimalloc.dll", "mimalloc-debug.dll"), f"{name}: second import is {found[1][0]}")
    if not any(d.startswith("mimalloc") for d, *_ in was):
        check(found[0][1] == ["mi_allocator_init"] and found[1][1] == ["mi_version"], f"{name}: imported by name")
    others = [(d, s, i) for d, s, _, i in found if not d.startswith("mimalloc")]
    check(others == [(d, s, i) for d, s, _, i in was if not d.startswith("mimalloc")], f"{name}: the other imports are kept")
    check(all(stamp == 0 for _, _, stamp, _ in found), f"{name}: no descriptor is bound")
    check(new.dirs[make_pe.BOUND] == (0, 0) and new.dirs[make_pe.SECURITY] == (0, 0), f"{name}: bound, security cleared")
    for i, d in enumerate(old.dirs):
        if i not in (make_pe.IMPORT, make_pe.BOUND, make_pe.SECURITY):
            check(new.dirs[i] == d, f"{name}: directory {i} is kept")
    olds = [i for _, _, _, i in was]
    check(all(new.flags_at(i) & make_pe.WRITE for _, _, _, i in found if i not in olds), f"{name}: our address tables are writable")
    if old.dirs[make_pe.IAT] == (0, 0):
        check(all(new.flags_at(i) & make_pe.WRITE for _, _, _, i in found), f"{name}: address tables are writable")
    judge_layout(name, before, after, old, new)


def judge_layout(name, before, after, old, new):
    end = 0
    for s in new.sections:
        check(s[2] >= end and s[2] % new.section_align == 0, f"{name}: section {s[0]} address")
        end = s[2] + s[1]
        check(0 in (s[3], s[4]) or s[4] + s[3] <= len(after), f"{name}: section {s[0]} is in the file")
        check(s[3] == 0 or s[4] % 512 == 0, f"{name}: section {s[0]} is aligned in the file")
    check(new.image_size == make_pe.align(end, new.section_align), f"{name}: SizeOfImage")
    check(len(new.sections) <= 96 and new.table_end <= new.header_size, f"{name}: section table")
    check(new.header_size == old.header_size, f"{name}: header size is kept")
    if old.checksum:
        check(new.checksum == make_pe.checksum(after, new.opt + 64), f"{name}: checksum is right")
    else:
        check(new.checksum == 0, f"{name}: no checksum before, none after")
    extended = len(old.sections) == len(new.sections)
    needs_write = old.dirs[make_pe.IAT] == (0, 0)
    for a, b in zip(old.sections[:-1] if extended else old.sections, new.sections):
        check(a[:9] == b[:9] and (a[9] == b[9] or needs_write and a[9] | make_pe.WRITE == b[9]), f"{name}: the header of {a[0]} is kept")
    for a, b in zip(old.sections, new.sections):
        if a[4]:
            at = next(s[4] for s in new.sections if s[2] == a[2])
            kept = before[a[4]:a[4] + min(a[1], a[3])]
            same = after[at:at + len(kept)] == kept
            check(same or "debug" in name, f"{name}: contents of {a[0]} are kept")
    check(new.symbol_at == old.symbol_at and after[new.symbol_at:new.symbol_at + 18 * new.symbol_count] ==
          before[old.symbol_at:old.symbol_at + 18 * old.symbol_count], f"{name}: symbols are kept")
    options = corpus_options.get(name, {})
    if options.get("overlay"):
        tail = len(options["overlay"]) + (7 if "signed" in name else 0)  # a certificate is aligned to 8
        check(options["overlay"] in after[-tail:], f"{name}: the overlay is at the end")
    at, size = old.dirs[make_pe.DEBUG]
    for i in range(size // 28 if at else 0):
        row = lambda pe, data: struct.unpack_from("<III", data, pe.offset(at) + i * 28 + 16)
        (size_before, _, raw_before), (size_after, _, raw) = row(old, before), row(new, after)
        check(size_after == size_before and after[raw:raw + size_after] == before[raw_before:raw_before + size_before],
              f"{name}: debug data {i} is found")


corpus_options = {"overlay": dict(overlay=make_pe.ZIP_TAIL), "overlay-odd": dict(overlay=b"x" * 1001),
                  "everything": dict(overlay=make_pe.ZIP_TAIL), "signed-overlay": dict(overlay=make_pe.ZIP_TAIL),
                  "symbols-overlay": dict(overlay=make_pe.ZIP_TAIL), "no-room-overlay": dict(overlay=make_pe.ZIP_TAIL)}


def golden_path():
    return HERE / "golden.txt"


def test_properties(folder):
    """remove(inject(x)) = x, inject(inject(x)) = inject(x), and every result is sound."""
    corpus = make_pe.corpus()
    for name, data in corpus.items():
        (folder / f"{name}.exe").write_bytes(data)
    plain = [n for n in corpus if not n.startswith("signed")]
    forced = [n for n in corpus if n.startswith("signed")]
    check(minject("inject", *[f"{n}.exe" for n in plain], cwd=folder).returncode == 0, "inject all")
    check(minject("inject", "--force", *[f"{n}.exe" for n in forced], cwd=folder).returncode == 0, "inject the signed")
    results, sums = {}, {}
    for name, data in corpus.items():
        check((folder / f"{name}.exe").read_bytes() == data, f"{name}: the input is untouched")
        path = folder / f"{name}-mi.exe"
        if check(path.exists(), f"{name}: there is a result"):
            results[name] = path.read_bytes()
            sums[name] = hashlib.sha256(results[name]).hexdigest()
            judge(name, data, results[name])
    if args.update:
        golden_path().write_text("".join(f"{h}  {n}\n" for n, h in sorted(sums.items())))
    golden = dict(reversed(line.split()) for line in golden_path().read_text().splitlines())
    for name in corpus:
        check(golden.get(name) == sums.get(name), f"{name}: the same bytes as in golden.txt")
    again = minject("inject", *[f"{n}-mi.exe" for n in results], cwd=folder)
    check(again.returncode == 0 and again.stdout.count("nothing to do") == len(results), "second inject does nothing")
    again = minject("inject", "--inplace", *[f"{n}-mi.exe" for n in results], cwd=folder)
    for name, data in results.items():
        check((folder / f"{name}-mi.exe").read_bytes() == data, f"{name}: inject twice = once")
        check(not (folder / f"{name}-mi-mi.exe").exists(), f"{name}: nothing written")
    if args.run:
        run_samples(folder, results)
    check(minject("remove", *[f"{n}-mi.exe" for n in results], cwd=folder).returncode == 0, "remove all")
    for name in results:
        check((folder / f"{name}-mi.exe").read_bytes() == corpus[name], f"{name}: remove gives the original")
    check(not [p for p in folder.iterdir() if "minject-" in p.name and not p.name.startswith("original")],
          "no temporary files are left")


def run_samples(folder, results):
    """The injected x64 programs run, with DLLs of the right names beside them."""
    for dll, names in (("mimalloc-redirect.dll", ["mi_allocator_init"]), ("mimalloc.dll", ["mi_version"]),
                       ("mimalloc-debug.dll", ["mi_version"])):
        (folder / dll).write_bytes(make_pe.make(dll=True, exports=names, imports=()))
    for name in results:
        if "x86" in name or "arm64" in name or "norun" in name or name.startswith("dll"):
            continue
        r = subprocess.run([args.run, f"{name}-mi.exe"], cwd=folder, timeout=60, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        check(r.returncode == 42, f"{name}: the injected program runs (exit code {r.returncode})")
    for dll in ("mimalloc-redirect.dll", "mimalloc.dll", "mimalloc-debug.dll"):
        (folder / dll).unlink()


def refusal(words, code, needles, folder, what, **more):
    before = {p.name: (p.read_bytes() if p.is_file() else None) for p in folder.iterdir()}
    r = minject(*words, cwd=folder, **more)
    check(r.returncode == code, f"{what}: exit code {r.returncode}, not {code}: {r.stderr}")
    for needle in needles:
        check(needle in r.stderr, f"{what}: says '{needle}': {r.stderr}")
    check(any(c in r.stderr for c in CURES[code]), f"{what}: says what to do: {r.stderr}")
    check(r.stdout == "", f"{what}: no result: {r.stdout}")
    after = {p.name: (p.read_bytes() if p.is_file() else None) for p in folder.iterdir()}
    check(before == after, f"{what}: nothing was written")


def test_bad_inputs(folder):
    for name, (data, code) in make_pe.refused().items():
        (folder / f"{name}.exe").write_bytes(data)
        refusal(["inject", f"{name}.exe"], code, ["minject: ", f"{name}.exe", "Nothing was written"], folder, name)
    refusal(["inject", "absent.exe"], 3, ["there is no such file"], folder, "missing file")
    (folder / "sub.exe").mkdir()
    refusal(["inject", "sub.exe"], 7, ["is a folder"], folder, "folder")
    (folder / "good.exe").write_bytes(make_pe.make())
    refusal(["remove", "good.exe"], 20, ["was not injected"], folder, "remove from a clean file")
    refusal(["inject", "good.exe", "--output=no/such/folder.exe"], 5, ["cannot be written"], folder, "no output folder")
    (folder / "good-mi.exe").write_bytes(b"something else")
    refusal(["inject", "good.exe"], 19, ["--force"], folder, "output exists")
    (folder / "already.exe").write_bytes(make_pe.first_already())
    r = minject("inject", "already.exe", cwd=folder)
    check(r.returncode == 0 and "nothing to do" in r.stdout and not (folder / "already-mi.exe").exists(),
          "injected by the original tool")
    if not (folder / "already-mi.exe").exists():
        refusal(["remove", "already.exe"], 20, ["was not injected"], folder, "remove what the original tool injected")
    os.chmod(folder / "good.exe", 0o444)
    refusal(["inject", "--inplace", "good.exe"], 6, ["is read-only"], folder, "read-only, in place")
    os.chmod(folder / "good.exe", 0o644)


def test_output(folder):
    """The output may not be the input itself, under any of its names: there would be no backup."""
    (folder / "one.exe").write_bytes(make_pe.make())
    names = ["one.exe", "./one.exe", str(folder / "one.exe")] if not args.runner else ["one.exe", ".\\ONE.exe"]
    if not args.runner:
        os.symlink("one.exe", folder / "link.exe")
        names.append("link.exe")
    for name in names:
        for force in ([], ["--force"]):
            refusal(["inject", *force, "one.exe", f"--output={name}"], 24, ["is the input itself"], folder, f"output {name} {force}")
    check(minject("inject", "one.exe", "--output=two.exe", cwd=folder).returncode == 0, "another output")
    refusal(["remove", "--force", "two.exe", "--output=two.exe"], 24, ["is the input itself"], folder, "remove onto itself")
    refusal(["inject", "*.exe"], 3, ["patterns are the shell's"], folder, "a pattern")
    refusal(["inject", "d" * 300 + ".exe"], 3, ["there is no such file"], folder, "a name longer than any")
    (folder / ("n" * 250 + ".exe")).write_bytes(make_pe.make())
    refusal(["inject", "n" * 250 + ".exe"], 5, ["cannot be written"], folder, "no room for -mi in the name")
    check(minject("inject", "n" * 250 + ".exe", "--output=short.exe", cwd=folder).returncode == 0, "a long name, a short output")


def test_in_use(folder):
    """A program that has the file open: nothing is changed, no backup of an unchanged file stays. cmd holds it for us, as
    minject's standard input."""
    if not args.runner:
        return
    (folder / "used.exe").write_bytes(make_pe.make())
    tool = TOOL[-1].replace("/", "\\")
    program = pathlib.Path(TOOL[-1]).read_bytes()
    is_32_bit = program[int.from_bytes(program[0x3C:0x40], "little") + 4:][:2] == b"\x4C\x01"
    # The 64-bit Wine's cmd cannot start a 32-bit program.
    runner = [str(pathlib.Path(args.runner).parent / "wine32-root"), "run"] if is_32_bit else [args.runner]
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for words in ("-i", "-i --no-backup"):
        r = subprocess.run(runner + ["cmd", "/c", f"Z:{tool} {words} used.exe < used.exe"], cwd=folder, capture_output=True,
                           text=True, timeout=300, check=False)
        check(r.returncode == 25 and "end that program first" in r.stderr and r.stdout == "", f"in use, {words}: {r}")
        codes_seen.add(r.returncode)
        check(before == {p.name: p.read_bytes() for p in folder.iterdir()}, f"in use, {words}: nothing was written")


def test_installers(folder):
    """An installer that checks itself is changed with --force only, and that is said; remove gives it back."""
    for name, words in (("nsis", ["verifies a checksum", "option /NCRC"]), ("inno", ["Inno Setup", "refuse to start"]),
                        ("burn", ["WiX bundle", "refuse to start"])):
        data, _ = make_pe.refused()[name]
        (folder / f"{name}.exe").write_bytes(data)
        refusal(["inject", f"{name}.exe"], 23, words[:1], folder, name)
        r = minject("inject", "--force", f"{name}.exe", cwd=folder)
        check(r.returncode == 0 and all(w in r.stderr for w in words), f"{name} with --force: {r.stderr}")
        check(minject("remove", f"{name}-mi.exe", cwd=folder).returncode == 0 and (folder / f"{name}-mi.exe").read_bytes() == data,
              f"{name}: remove gives the original")
    for name in ("nsis-free", "nsis-later"):
        (folder / f"{name}.exe").write_bytes(make_pe.corpus()[name])
        r = minject("inject", f"{name}.exe", cwd=folder)
        check(r.returncode == 0 and "moves by" in r.stderr and "refuse to start" not in r.stderr, f"{name}: {r.stderr}")
    for name, kind in (("arm64x", "an ARM64X image"), ("arm64x-relocs", "an ARM64X image"), ("arm64ec", "an ARM64EC image"),
                       ("chpe", "a CHPE image")):
        (folder / f"{name}.exe").write_bytes(make_pe.refused()[name][0])
        refusal(["inject", f"{name}.exe", "--force"], 16, [kind], folder, f"{name} with --force")


def limit_memory():
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (48 << 20, 48 << 20))


def test_codes(folder):
    """The rest of the exit codes; then each has been seen, with a sentence that tells what to do."""
    (folder / "p.dll").write_bytes(make_pe.make(dll=True, exports=("f",)))
    refusal(["run", "p.dll"], 22, ["is a DLL"], folder, "run of a DLL")
    # The address sanitizer cannot start with so little address space.
    is_asan = not args.runner and b"__asan_init" in pathlib.Path(TOOL[0]).read_bytes()
    if not args.runner:
        refusal(["/dev/null"], 4, ["/dev/null: cannot be read"], folder, "no file")
        if not is_asan:
            with open(folder / "big.exe", "wb") as f:
                f.truncate(64 << 20)
            refusal(["big.exe"], 1, ["big.exe: cannot be read"], folder, "no memory", preexec_fn=limit_memory)
        with open("/dev/full", "w") as full:
            r = subprocess.run(TOOL + ["help"], stdout=full, stderr=subprocess.PIPE, text=True)
        check(r.returncode == 5 and "is the disk full" in r.stderr, f"no room for the result: {r.returncode} {r.stderr}")
    table = {int(line.split()[0]) for line in minject("help", "codes", cwd=folder).stdout.splitlines()[1:]}
    check(set(CURES) | {0, 30, 31, 32} == table, f"each code has its cures here: {table ^ set(CURES)}")
    # 30 to 32 belong to check: test_check.py, test_live.py.
    missing = table - codes_seen - {30, 31, 32} - ({1, 4} if args.runner else {1, 25} if is_asan else {25})
    check(not missing, f"each exit code was seen: not {missing}")


def test_usage(folder):
    for words, needle in ((["injct", "x"], "did you mean 'inject'"), (["--inplcae", "x.exe"], "did you mean '--inplace'"),
                          (["inject"], "no file given"), (["--postfix"], "needs a value"), (["--postfix=../x", "a.exe"], "variant"),
                          (["--arm64ec", "a.exe"], "ARM64EC"), (["-i", "-o", "b.exe", "a.exe"], "--output"),
                          (["help", "injects"], "did you mean 'inject'"), (["completion", "fish"], "bash and powershell")):
        refusal(words, 2, [needle], folder, " ".join(words))
    for words, needle in ((["--help"], "usage:"), (["help", "inject"], "--postfix"), (["inject", "--help"], "--postfix"), (["help", "codes"], "21"),
                          (["-v"], "minject "), (["completion", "bash"], "complete "), (["help", "man"], ".TH MINJECT")):
        r = minject(*words, cwd=folder)
        check(r.returncode == 0 and needle in r.stdout and r.stderr == "", f"{' '.join(words)}: {r.stdout[:80]!r}")


def test_manual(folder):
    """Requests stand alone on their lines, and every command has its section."""
    lines = minject("help", "man", cwd=folder).stdout.splitlines()
    check(not [line for line in lines if line[1:].find(".PP") >= 0], "the manual's requests begin lines")
    for command in ("inject", "remove", "list", "check", "run", "completion"):
        check(f".SS {command}" in lines, f"the manual has {command}")
    # And says everything that the help texts say, line by line.
    plain = {line.replace("\\&", "").replace("\\-", "-").replace("\\e", "\\").removeprefix(".SS ") for line in lines}
    for words in (["--help"], *(["help", c] for c in ("inject", "remove", "list", "check", "run", "completion", "codes"))):
        text = minject(*words, cwd=folder).stdout.splitlines()
        heads = ("usage:", "options for all commands:", "minject: makes a Windows program use mimalloc, and says why when it does not")
        missing = [line for line in text if line not in plain and line.strip() not in plain and line not in heads]
        check(len(text) > 4 and not missing, f"{words}: not in the manual: {missing}")


def test_completion(folder):
    """Both scripts offer what the help tells about, and nothing else; the bash script, in bash."""
    helps = "".join(minject("help", *w, cwd=folder).stdout for w in ([], ["inject"], ["remove"], ["list"], ["check"], ["run"], ["completion"]))
    told = set(re.findall(r"--[a-z][a-z-]+", helps)) - {"--windowed"}  # that one is an example program's
    commands = set(re.findall(r"^  minject ([a-z]+) ", helps, re.M)) | {"help", "version"}
    for shell, quote in (("bash", "[ ']"), ("powershell", "'")):
        script = minject("completion", shell, cwd=folder).stdout
        check(set(re.findall(quote + r"(--[a-z][a-z-]+)", script)) == told, f"{shell}: options: {told}")
        check(commands <= set(re.findall(quote + r"([a-z]+)(?=[ '])", script)), f"{shell}: commands {commands}")
    manual = minject("help", "man", cwd=folder).stdout.replace("\\-", "-")
    check(all(o in manual for o in told), f"the manual tells of each option: {[o for o in told if o not in manual]}")
    if args.runner or not shutil.which("bash"):
        return
    (folder / "minject.bash").write_text(minject("completion", "bash", cwd=folder).stdout)
    for words, want in ((["inj"], "inject"), (["inject", "--postfix=d"], "--postfix=debug"), (["check", "--liv"], "--live")):
        script = f"source minject.bash; COMP_WORDS=(minject {' '.join(words)}); COMP_CWORD={len(words)}; _minject; echo ${{COMPREPLY[@]}}"
        r = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True)
        check(r.stdout.split() == [want], f"completing {words}: {r.stdout!r} {r.stderr}")


def test_inplace(folder):
    path, data = folder / "app.exe", make_pe.make(overlay=b"tail")
    path.write_bytes(data)
    os.chmod(path, 0o751)
    os.utime(path, (1_500_000_000, 1_500_000_000))
    r = minject("-i", "app.exe", cwd=folder)
    check(r.returncode == 0 and path.read_bytes() != data, f"in place: {r.stderr}")
    check((folder / "app.exe.bak").read_bytes() == data, "the backup is the original")
    check(int(path.stat().st_mtime) == 1_500_000_000, "the time is kept")
    if not args.runner:
        check(stat.S_IMODE(path.stat().st_mode) == 0o751, "the permissions are kept")
    check("moves by" in r.stderr, "the overlay is warned about")
    r = minject("remove", "app.exe", cwd=folder)
    check(r.returncode == 0 and path.read_bytes() == data, f"remove in place: {r.stderr}")
    check(minject("-i", "app.exe", cwd=folder).returncode == 0 and not (folder / "app.exe.bak2").exists(), "one backup is enough")
    path.write_bytes(make_pe.make(tls=True))
    check(minject("-i", "app.exe", cwd=folder).returncode == 0 and (folder / "app.exe.bak2").exists(), "another original, another backup")
    changed = bytearray(path.read_bytes())
    changed[0x420] ^= 1
    path.write_bytes(changed)
    refusal(["remove", "app.exe"], 21, ["was changed after"], folder, "remove from a changed file")


def test_import_table_moved(folder):
    """Another tool has moved the import table since: the record is found by its section, and everything put back."""
    path, data = folder / "moved.exe", make_pe.make()
    path.write_bytes(data)
    minject("-i", "moved.exe", cwd=folder)
    changed = bytearray(path.read_bytes())
    directory = struct.unpack_from("<I", changed, 60)[0] + 24 + 112 + 8  # of a 64-bit image
    rva, size = struct.unpack_from("<II", changed, directory)
    struct.pack_into("<II", changed, directory, rva + 20, size - 20)
    path.write_bytes(changed)
    r = minject("remove", "moved.exe", cwd=folder)
    check(r.returncode == 0 and path.read_bytes() == data, f"remove where the import table was moved: {r.stderr}")


def test_section_in_headers(folder):
    """The headers end behind the start of the first section, whose first bytes are zero: no header is put over them."""
    data = bytearray(make_pe.make(room=False, code=bytes(64)))
    nt = struct.unpack_from("<I", data, 60)[0]
    headers = struct.unpack_from("<I", data, nt + 24 + 60)[0]
    struct.pack_into("<I", data, nt + 24 + 60, headers + 0x200)
    (folder / "zeros.exe").write_bytes(data)
    r = minject("zeros.exe", cwd=folder)
    after = (folder / "zeros-mi.exe").read_bytes() if r.returncode == 0 else bytes(data)
    check(after[headers:headers + 64] == data[headers:headers + 64], "a section's header lies over the first section")


def test_debug_runtime(folder):
    """A program on a debug runtime gets the debug DLL, unless --postfix says otherwise; and it is said."""
    (folder / "dbg.exe").write_bytes(make_pe.make(imports=(("VCRUNTIME140D.dll", ("f",)), ("ucrtbased.dll", ("malloc", "free")))))
    done = minject("inject", "dbg.exe", cwd=folder)
    dlls = [d for d, *_ in Pe((folder / "dbg-mi.exe").read_bytes()).imports()]
    check(dlls[:2] == ["mimalloc-redirect.dll", "mimalloc-debug.dll"], f"the debug DLL is taken: {dlls}")
    check("debug runtime ucrtbased.dll" in done.stdout and "mimalloc-debug.dll is taken" in done.stdout, f"and said: {done.stdout}")
    check("nothing to do" in minject("inject", "-i", "dbg-mi.exe", cwd=folder).stdout, "a second time changes nothing")
    for postfix, name in (("", "mimalloc.dll"), ("secure", "mimalloc-secure.dll")):
        done = minject("inject", "dbg.exe", "--postfix=" + postfix, "-o", "other.exe", "--force", cwd=folder)
        dlls = [d for d, *_ in Pe((folder / "other.exe").read_bytes()).imports()]
        check(dlls[1] == name and "debug runtime" not in done.stdout, f"--postfix={postfix} decides: {dlls}")
    for runtime in ("ucrtbase.dll", "msvcrt.dll", "crtdll.dll", "vcruntime140d.dll", "msvcr120.dll"):
        (folder / "rel.exe").write_bytes(make_pe.make(imports=((runtime, ("malloc",)),)))
        minject("inject", "rel.exe", "--force", cwd=folder)
        dlls = [d for d, *_ in Pe((folder / "rel-mi.exe").read_bytes()).imports()]
        check(dlls[1] == "mimalloc.dll", f"{runtime} is no debug runtime: {dlls}")


def test_variants(folder):
    path, data = folder / "v.exe", make_pe.make()
    path.write_bytes(data)
    check(minject("v.exe", "--postfix=debug", "-o", "d.exe", cwd=folder).returncode == 0, "postfix")
    check([d for d, *_ in Pe((folder / "d.exe").read_bytes()).imports()] ==
          ["mimalloc-redirect.dll", "mimalloc-debug.dll", "KERNEL32.dll"], "the debug variant")
    check("nothing to do" in minject("-i", "d.exe", cwd=folder).stdout, "without --postfix a variant is left alone")
    check(minject("d.exe", "--postfix=secure", "-o", "s.exe", cwd=folder).returncode == 0, "another variant")
    dlls = [d for d, *_ in Pe((folder / "s.exe").read_bytes()).imports()]
    check(dlls == ["mimalloc-redirect.dll", "mimalloc-secure.dll", "KERNEL32.dll"], f"a variant replaces another: {dlls}")
    check(minject("remove", "s.exe", cwd=folder).returncode == 0 and (folder / "s.exe").read_bytes() == data, "remove from it")
    check(minject("d.exe", "-o", "d2.exe", cwd=folder).returncode == 0, "--output copies what is injected already")
    check((folder / "d2.exe").read_bytes() == (folder / "d.exe").read_bytes(), "the copy is the same")
    (folder / "old.exe").write_bytes(make_pe.corpus()["other-variant-norun"])
    check(minject("old.exe", "--postfix=secure", cwd=folder).returncode == 0, "linked with another variant")
    found = Pe((folder / "old-mi.exe").read_bytes()).imports()
    check([d for d, *_ in found] == ["mimalloc-redirect.dll", "mimalloc-secure.dll", "KERNEL32.dll"], f"renamed: {found}")


def test_odd_names(folder):
    """A variant under an unusual name is replaced, too, and what only sounds like one is left alone; of two, none
    is left; without --postfix the DLL that is there stays, and moves first."""
    ending = ["mimalloc-redirect.dll", "mimalloc-debug.dll", "KERNEL32.dll"]
    for i, names in enumerate((["MIMALLOC-Secure.DLL"], ["mimalloc_v3.dll"], ["libmimalloc.dll"], ["Mimalloc"],
                               ["mimalloc.dll", "MIMALLOC-SECURE.dll"], ["mimalloc-special.build.dll", "MiMalloc-Redirect.DLL"])):
        data = make_pe.make(imports=make_pe.KERNEL + tuple((n, ("mi_version",)) for n in names))
        (folder / f"{i}.exe").write_bytes(data)
        check(minject(f"{i}.exe", "--postfix=debug", cwd=folder).returncode == 0, f"{names}")
        after = (folder / f"{i}-mi.exe").read_bytes()
        found = [d for d, *_ in Pe(after).imports()]
        check(list(dict.fromkeys(found)) == ending, f"{names}: replaced: {found}")
        iats = sorted(iat for _, _, _, iat in Pe(data).imports())
        check(set(iats) <= {iat for _, _, _, iat in Pe(after).imports()}, f"{names}: the old address tables are still served")
        check("nothing to do" in minject(f"{i}-mi.exe", "--postfix=debug", cwd=folder).stdout, f"{names}: done")
        check(minject("remove", f"{i}-mi.exe", cwd=folder).returncode == 0 and (folder / f"{i}-mi.exe").read_bytes() == data, f"{names}: removed")
    (folder / "kept.exe").write_bytes(make_pe.make(imports=make_pe.KERNEL + (("MIMALLOC-Secure.DLL", ("mi_version",)),)))
    minject("kept.exe", cwd=folder)
    found = [d for d, *_ in Pe((folder / "kept-mi.exe").read_bytes()).imports()]
    check(found == ["mimalloc-redirect.dll", "MIMALLOC-Secure.DLL", "KERNEL32.dll"], f"kept and moved: {found}")
    # Both are there, and one of them too late.
    late = ("mimalloc-redirect.dll", ("mi_allocator_init",)), *make_pe.KERNEL, ("mimalloc.dll", ("mi_version",))
    for n, order in enumerate((late, late[::-1], (late[2], late[0], *make_pe.KERNEL))):
        (folder / f"late{n}.exe").write_bytes(make_pe.make(imports=order))
        minject(f"late{n}.exe", cwd=folder)
        found = [d for d, *_ in Pe((folder / f"late{n}-mi.exe").read_bytes()).imports()]
        check(found == ["mimalloc-redirect.dll", "mimalloc.dll", "KERNEL32.dll"], f"put first: {found}")
    (folder / "other.exe").write_bytes(make_pe.make(imports=make_pe.KERNEL + (("mimallocator.dll", ("f",)), ("xmimalloc.dll", ("f",)))))
    minject("other.exe", "--postfix=debug", cwd=folder)
    found = [d for d, *_ in Pe((folder / "other-mi.exe").read_bytes()).imports()]
    check(found == ending + ["mimallocator.dll", "xmimalloc.dll"], f"names that only begin alike: {found}")


def test_partners(folder):
    (folder / "p.exe").write_bytes(make_pe.make(imports=(("msvcrt.dll", ("malloc",)),)))
    r = minject("p.exe", cwd=folder)
    check(r.returncode == 0 and "mimalloc-redirect.dll is not beside" in r.stderr and "mimalloc.dll is not" in r.stderr,
          f"missing partners: {r.stderr}")
    (folder / "mimalloc.dll").write_bytes(make_pe.make(machine="x86", dll=True, exports=("mi_version",)))
    (folder / "MiMalloc-Redirect.DLL").write_bytes(make_pe.make(dll=True, exports=("mi_allocator_init",)))
    r = minject("p.exe", cwd=folder)
    check("built for x86, the program for x64" in r.stderr, f"wrong machine: {r.stderr}")
    check("redirect.dll is not beside" not in r.stderr, f"found whatever its case: {r.stderr}")
    (folder / "mimalloc.dll").write_bytes(make_pe.make(dll=True, exports=("mi_version",)))
    r = minject("p.exe", cwd=folder)
    check(r.returncode == 0 and r.stderr == "", f"all well, no word: {r.stderr}")
    (folder / "nocrt.exe").write_bytes(make_pe.make())
    check("no C runtime" in minject("nocrt.exe", cwd=folder).stderr, "static runtime is warned about")
    r = minject("--list", "p-mi.exe", cwd=folder)
    lines = [line.split()[0] for line in r.stdout.splitlines()]
    check(lines[1:] == ["mimalloc-redirect.dll", "mimalloc.dll", "msvcrt.dll"], f"list: {r.stdout}")


def test_words(folder):
    """What the original does without a word is said: a signature, native .NET, a DLL, a partner without the symbol."""
    crt = (("msvcrt.dll", ("malloc",)),)
    (folder / "mimalloc.dll").write_bytes(make_pe.make(dll=True, exports=("mi_version",)))
    (folder / "mimalloc-redirect.dll").write_bytes(make_pe.make(dll=True, exports=("mi_allocator_init",)))
    for name, data, words, needle in (
            ("signed", make_pe.make(imports=crt, cert=make_pe.CERT), ["--force"], "the signature is taken out; remove brings it back"),
            ("integrity", make_pe.make(imports=crt, dll_flags=0x81E0), ["--force"], "demands a valid signature"),
            ("mixed", make_pe.make(imports=crt, clr=0), [], "only its native part is redirected"),
            ("static", make_pe.make(), [], "imports no C runtime DLL")):
        (folder / f"{name}.exe").write_bytes(data)
        if words:
            refusal([f"{name}.exe"], 14, words, folder, f"{name} without {words}")
        r = minject(f"{name}.exe", *words, cwd=folder)
        check(r.returncode == 0 and needle in r.stderr, f"{name}: {r.stderr}")
        check(minject(f"{name}.exe", "--quiet", *words, "--force", cwd=folder).stderr == "", f"{name}: --quiet")
    (folder / "plugin.dll").write_bytes(make_pe.make(imports=crt, dll=True, exports=("f",)))
    r = minject("plugin.dll", cwd=folder)
    check("from the moment it loads this DLL" in r.stdout and r.stderr == "", f"a DLL: {r.stdout} {r.stderr}")
    (folder / "mimalloc.dll").write_bytes(make_pe.make(dll=True, exports=("something",)))
    r = minject("plugin.dll", "--force", cwd=folder)
    check("does not export mi_version" in r.stderr, f"a partner without the symbol: {r.stderr}")
    refusal(["--order=msvcrt.dll;mimalloc.dll", "plugin.dll"], 2, ["--order"], folder, "no order but the right one")


# What the existing tools were seen to do wrong, and the test that ours does not. test_shortcomings looks that each
# test is there and runs.
SHORTCOMINGS = (
    ("the checksum is left stale, or set to 0", "test_properties"),
    ("the security directory dangles, the signature dies without a warning", "test_properties test_words"),
    ("signed files are changed without being asked", "test_bad_inputs"),
    ("bound imports stay although the descriptors moved", "test_properties"),
    ("the overlay moves without a word", "test_inplace"),
    ("--postfix adds a second allocator", "test_variants test_odd_names"),
    ("--order puts a C runtime before the redirection", "test_words"),
    ("the .NET header is ignored, or its IL-only flag cleared", "test_bad_inputs test_words"),
    ("there is no removal", "test_properties test_inplace"),
    ("no backup of a file changed in place", "test_inplace"),
    ("the two DLLs are not looked for, nor their machine, nor their exports", "test_partners test_words"),
    ("the DLLs are imported by ordinal 1, which another build lacks", "test_properties"),
    ("a program that was injected by ordinal is not understood", "test_bad_inputs test_properties"),
    ("declining to overwrite ends with 0", "test_bad_inputs"),
    ("a DLL is accepted without a comment", "test_words"),
    ("crashes on some inputs", "test_bad_inputs fuzz"),
    ("truncated files are accepted", "test_bad_inputs"),
    ("a last section longer than its data, or without any, is refused", "test_properties"),
    ("the last section becomes writable and stays in memory", "test_properties"),
    ("the header's room is not checked", "test_properties"),
    ("more than 16 sections are refused", "test_properties"),
    ("the COFF symbol table's pointer is wrong afterwards", "test_properties"),
    ("debug directory pointers are wrong afterwards", "test_properties"),
    ("ARM64 images get the x64 DLL's name", "test_properties"),
    ("one build of the tool per word size", "test_properties"),
    ("a static C runtime passes without a word", "test_words check.test_evidence"),
    ("programs on msvcrt are not redirected, without a word", "live.test_predictions"),
    ("no in-memory variant: the file is always touched", "live.test_run"),
    ("nothing explains why the redirection will fail", "check.main"),
    ("the dependency tools show no order, or know no API sets", "check.test_api_sets check.test_looks"),
)


def test_shortcomings(folder):
    files = {"check": "test_check.py", "live": "test_live.py"}
    for what, names in SHORTCOMINGS:
        for name in names.split():
            if name == "fuzz":
                check((HERE.parent / "pe" / "fuzz_editor.c").exists(), f"{what}: the fuzz target")
                continue
            file, _, function = name.rpartition(".")
            text = (HERE / files.get(file, "test_minject.py")).read_text()
            body = text[text.rindex("def main():"):]
            check(f"def {function}(" in text and (function == "main" or function in body), f"{what}: {name} exists and runs")


def limit_file_size():
    import resource
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def test_write_failure(folder):
    """A disk that is full in the middle of the writing leaves everything as it was, and no temporary file: for the
    result, for the backup, for the original that remove gives back."""
    if args.runner:
        return
    (folder / "full.exe").write_bytes(make_pe.make())
    refusal(["-i", "--no-backup", "full.exe"], 5, ["cannot be written"], folder, "full disk", preexec_fn=limit_file_size)
    refusal(["-i", "full.exe"], 5, ["cannot be written"], folder, "full disk, backup", preexec_fn=limit_file_size)
    refusal(["full.exe"], 5, ["cannot be written"], folder, "full disk, new file", preexec_fn=limit_file_size)
    check(minject("-i", "--no-backup", "full.exe", cwd=folder).returncode == 0, "the disk has room again")
    refusal(["remove", "full.exe"], 5, ["cannot be written"], folder, "full disk, remove", preexec_fn=limit_file_size)


def test_full_disk(folder):
    """The same with a file system that is really full, where one may be mounted."""
    if args.runner or os.geteuid() != 0:
        return
    small = folder / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "none", small], capture_output=True).returncode != 0:
        print("a small file system cannot be mounted here; left out")
        return
    try:
        (small / "full.exe").write_bytes(make_pe.make(text_bytes=18000))
        refusal(["-i", "full.exe"], 5, ["No space left"], small, "file system full")
        refusal(["full.exe"], 5, ["No space left"], small, "file system full, new file")
    finally:
        subprocess.run(["umount", small], check=True)


def test_interrupted(folder):
    """Ended in the middle by a signal: the file is untouched and no temporary one is left. The tool stands still at
    a known place, since its messages go into a pipe that is full."""
    if args.runner or sys.platform != "linux":
        return
    import fcntl
    data = make_pe.make(text_bytes=8 << 20, checksum=False)
    (folder / "long.exe").write_bytes(data)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ: one page, and every line nearly fills it
    name = "./" * 1800 + "long.exe"
    child = subprocess.Popen(TOOL + ["--progress", "-i", "--no-backup", "--quiet", name], cwd=folder, stderr=writer)
    os.close(writer)
    # The file is written in the second half of the work.
    seen = b"."
    while seen and b" 70%" not in seen:
        seen = os.read(reader, 4096)
    check([p for p in folder.iterdir() if ".minject-" in p.name], "interrupted: the temporary file is there")
    child.send_signal(signal.SIGTERM)
    code = child.wait(timeout=60)
    os.close(reader)
    check(code == -signal.SIGTERM and (folder / "long.exe").read_bytes() == data, f"interrupted: {code}")
    check([p.name for p in folder.iterdir()] == ["long.exe"], f"interrupted: {list(folder.iterdir())}")


def test_links(folder):
    """A symbolic link stays one, and the file it names is changed; other hard links keep the old contents, and that
    is said."""
    if args.runner:
        return
    data = make_pe.make()
    (folder / "real").mkdir()
    (folder / "real" / "p.exe").write_bytes(data)
    (folder / "link.exe").symlink_to("real/p.exe")
    os.link(folder / "real" / "p.exe", folder / "hard.exe")
    r = minject("-i", "--no-backup", "link.exe", cwd=folder)
    check(r.returncode == 0 and (folder / "link.exe").is_symlink(), f"symbolic link: {r.stderr}")
    check((folder / "real" / "p.exe").read_bytes() != data, "symbolic link: the file it names is changed")
    check("2 names (hard links)" in r.stderr and (folder / "hard.exe").read_bytes() == data, f"hard link: {r.stderr}")
    check(minject("remove", "link.exe", cwd=folder).returncode == 0 and (folder / "link.exe").is_symlink() and
          (folder / "real" / "p.exe").read_bytes() == data, "symbolic link: removed")


def test_ownership(folder):
    """Owner, group and named attributes are kept, where the system lets them be set."""
    if args.runner or os.geteuid() != 0:
        return
    path = folder / "owned.exe"
    path.write_bytes(make_pe.make())
    os.chown(path, 12345, 23456)
    os.chmod(path, 0o4710)
    try:
        os.setxattr(path, "user.note", b"kept")
        has_attributes = True
    except OSError:
        has_attributes = False
    check(minject("-i", "--no-backup", "owned.exe", cwd=folder).returncode == 0, "owned")
    st = path.stat()
    check((st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (12345, 23456, 0o4710), f"owner and mode: {st}")
    check(not has_attributes or os.getxattr(path, "user.note") == b"kept", "named attributes")


def test_progress(folder):
    """--progress says how far it is, on standard error; a short run says nothing by itself, --quiet stays quiet."""
    (folder / "p.exe").write_bytes(make_pe.make(text_bytes=4 << 20, imports=(("msvcrt.dll", ("malloc",)),)))
    r = minject("--progress", "p.exe", cwd=folder)
    shown = [int(line.split()[-1][:-1]) for line in r.stderr.splitlines() if line.endswith("%")]
    check(r.returncode == 0 and len(shown) > 3 and shown == sorted(shown) and shown[-1] == 100, f"progress: {r.stderr}")
    check("%" not in minject("--force", "p.exe", cwd=folder).stderr, "no progress for what is short")
    r = minject("remove", "--progress", "p-mi.exe", cwd=folder)
    check("100%" in r.stderr, f"progress of remove: {r.stderr}")


def measured(words, cwd):
    """(exit code, peak memory in KiB, bytes gone through) of minject alone: a child of a fresh, small Python. A
    minute of computing is a hundred times what it needs: only work that is not linear gets there."""
    script = ("import resource, subprocess, sys\nresource.setrlimit(resource.RLIMIT_CPU, (60, 60))\n"
              "r = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
              "moved = [w.split()[-6] for w in r.stderr.splitlines() if w.endswith('bytes gone through so far')]\n"
              "print(r.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, *moved)")
    out = subprocess.run([sys.executable, "-c", script] + TOOL + ["--verbose"] + list(words), cwd=cwd, capture_output=True, text=True)
    return tuple(int(word) for word in out.stdout.split())


def test_large(folder):
    """300 MB: each byte is gone through once for the SHA-256, once for the checksum if there is one, once to be
    written; and no more memory is needed than the file (which is mapped) and a little."""
    if args.runner or os.environ.get("MI_TEST_SKIP_LARGE"):
        return
    path = folder / "large.exe"
    for mib, has_checksum in ((30, True), (30, False), (300, False)):
        data = make_pe.make(text_bytes=mib << 20, checksum=has_checksum)
        path.write_bytes(data)
        for words, passes in ((["inject", "-f", "large.exe"], 3 if has_checksum else 2), (["remove", "large-mi.exe"], 1)):
            code, kib, *moved = measured(words, folder)
            check(code == 0, f"{mib} MiB, {words}: {code}")
            check(len(moved) == 1 and abs(moved[0] - passes * len(data)) < 8192,
                  f"{mib} MiB, {words}: {moved} bytes gone through, {passes} times {len(data)}")
            check(kib < (mib + 30) << 10, f"{mib} MiB, {words}: {kib >> 10} MiB of memory")
        check((folder / "large-mi.exe").read_bytes() == data, f"{mib} MiB: remove gives the original")


def main():
    tests = [test_properties, test_bad_inputs, test_usage, test_manual, test_completion, test_inplace, test_import_table_moved, test_section_in_headers, test_debug_runtime, test_variants, test_odd_names, test_words, test_shortcomings, test_partners, test_output, test_in_use, test_installers, test_write_failure,
             test_full_disk, test_interrupted, test_links, test_ownership, test_progress, test_large, test_codes]
    for test in tests:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="minject-test-"))
        try:
            test(folder)
        finally:
            shutil.rmtree(folder)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
