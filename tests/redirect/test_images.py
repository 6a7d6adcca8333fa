"""The planner on made-up images: every reason that a file can give, hybrid images of all kinds, ARM64 entries.

usage: test_images.py plan_dump
"""
import os
import re
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import FAILED, check  # noqa: E402  (the path is set above)
import reasons  # noqa: E402  (the path is set above)
from make_image import BODY, CORE, MACHINES, Image  # noqa: E402

SEEN = set()


class Planner:
    def __init__(self, dump, folder):
        self.dump, self.folder = dump, folder

    def plan(self, data):
        path = os.path.join(self.folder, "made.dll")
        with open(path, "wb") as f:
            f.write(data)
        out = subprocess.run([self.dump, "--moved", path], capture_output=True, text=True, check=True).stdout
        head = re.match(r"file \S+ (\S+) (\S+) (\S+) reason=(\S+) patches=(\d+)\n", out)
        sites = {m[1]: m.groups()[1:] for m in re.finditer(r"^site (\S+) (\w+) (\S+) (\S+) (\d+) (\S+)(?: (\w+))?$", out, re.M)}
        check(head, f"no plan:\n{out}")
        if head:
            SEEN.update([head[4], *(s[2] for s in sites.values())])
            unjudged = head[4] in ("not-a-crt", "core-missing", "malformed", "hybrid")
            check(not unjudged or all(s[1] != "patch" for s in sites.values()), f"refused, and would be patched:\n{out}")
        return head.groups() if head else None, sites

    def wants(self, what, image, reason, name=None, verdict=None, site_reason=None):
        head, sites = self.plan(image if isinstance(image, bytes) else image.bytes())
        check(head and head[3] == reason and (head[1] == "good") == (reason == "none"), f"{what}: {head}, wanted {reason}")
        if name:
            site = sites.get(name, (None,) * 6)
            check(site[1:3] == (verdict, site_reason or reason), f"{what}: {name} is {site}")
        return head, sites


def refusals(p):
    for machine in MACHINES:
        p.wants(f"a plain {machine} CRT", Image(machine).add_core(), "none", "free", "patch")
        p.wants(f"no CRT, {machine}", Image(machine).add_core(["_errno"]), "not-a-crt")
        image = Image(machine).add_core(["free"])
        image.forwarders["free"] = "NTDLL.RtlFreeHeap"
        p.wants(f"forwarded free, {machine}", image, "core-missing", "free", "forwarded", "forwarded")
        image = Image(machine).add_core()
        image.text_flags = 0x40000040  # initialised data, readable
        p.wants(f"functions in data, {machine}", image, "not-code", "malloc", "refused")
        image = Image(machine).add_core()
        image.exports["_msize"] = image.exports["malloc"]
        p.wants(f"_msize is malloc, {machine}", image, "alias-conflict", "_msize", "refused")
        image = Image(machine).add_core()
        image.is_export_broken = True
        p.wants(f"an export table without functions, {machine}", image, "malformed")


def entries(p):
    """Faults of one entry; what follows is the core of an ordinary CRT."""
    rows = {"x86": [("too-short", "c3"), ("too-short", "33c0c3"), ("unknown-instruction", "0f04"),
                    ("call-in-range", "ffd0 90909090c3"), ("branch-into", "83f8007402 90 ebfb c3"),
                    ("branch-into", "9090909090 e8f8ffffff c3")],
            "x64": [("too-short", "c3"), ("too-short", "33c0c3"), ("unknown-instruction", "06"), ("unknown-instruction", "0f04"),
                    ("call-in-range", "ffd0 90909090c3"), ("branch-into", "4885c9 7402 90 ebf9 c3"),
                    ("branch-into", "9090909090 e8f8ffffff c3")]}
    for machine, faults in rows.items():
        for reason, code in faults:
            image = Image(machine)
            image.add("free", bytes.fromhex(code.replace(" ", "")))
            p.wants(f"{machine} free {code}", image.add_core(), reason, "free", "refused")
        image = Image(machine)
        image.add("free", b"\x90" * 4, room=4)
        image.add("next_function", b"\x90" * 8 + b"\xc3", align=1)
        p.wants(f"{machine}: another function at +4", image.add_core(), "overlap", "free", "refused")
    image = Image("x64")
    free = image.add("free", b"\x90" * 16 + b"\xc3")
    image.unwind = [(free, free + 4), (free + 4, free + 17)]
    p.wants("x64: the unwind table begins a function at +4", image.add_core(), "overlap", "free", "refused")
    # The same where the table is not in order, so that a search by halves misses it.
    image = Image("x64")
    free = image.add("free", b"\x90" * 16 + b"\xc3")
    image.unwind = [(free + 0x100 + 16 * k, free + 0x110 + 16 * k) for k in range(8)] + [(free + 4, free + 17)]
    p.wants("x64: an unwind table out of order", image.add_core(), "overlap", "free", "refused")
    # A CRT among twenty thousand exports; and one name of the family among them, which is none.
    for names, reason in ((CORE, "none"), (("malloc",), "not-a-crt")):
        image = Image("x64")
        image.add([f"function_{k:05}" for k in range(20000)], BODY["x64"])
        for name in names:
            image.add(name, BODY["x64"])
        p.wants(f"20000 exports, {len(names)} of the family", image, reason)
    image = Image("x64")
    image.add("_heapmin", bytes.fromhex("e306 90 9090 9090 90 c3"))  # jrcxz cannot be made longer
    p.wants("an original that cannot be moved", image.add_core(), "none", "_heapmin", "left", "not-relocatable")
    for is_folded in (False, True):
        image = Image("x64")
        image.add(["_heapmin", "something_else"], BODY["x64"])
        image.is_folded = is_folded
        p.wants(f"a stub of two names, folded: {is_folded}", image.add_core(), "none", "_heapmin", "left", "alias-conflict")
    # More functions than a plan holds: each name a jump of its own to a function of its own.
    image = Image("x64")
    names = re.findall(r'^    \{"((?:[^"\\]|\\.)*)", MI_CRT', open(os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "../../src/pe/crt_table.c"), encoding="ascii").read(), re.M)
    for name in names:
        image.add(name.replace("?\\?", "??"), bytes.fromhex("e903000000 cccccc 4883ec2833c04883c428c3"))
    p.wants("all names, each a jump", image.add_core(), "too-many")


NOP = {"x86": b"\x90", "x64": b"\x90", "arm64": bytes.fromhex("1f2003d5")}
RETURN = {"x86": b"\xc3", "x64": b"\xc3", "arm64": bytes.fromhex("c0035fd6")}
INSNS_MAX, BRANCHES_MAX, PATHS_MAX = 4096, 128, 256


def jump(machine, distance):
    """5 or 4 bytes; the distance counts from its first one."""
    if machine == "arm64":
        return struct.pack("<I", 0x14000000 | (distance >> 2 & 0x3FFFFFF))
    return b"\xe9" + struct.pack("<i", distance - 5)


def branches(machine, count, is_one_target):
    """That many conditional branches, then a return, then what they lead to: a return for each, or one for all."""
    size = 4 if machine == "arm64" else 6
    end = len(RETURN[machine])
    code = b""
    for k in range(count):
        distance = (count - k) * size + end + (0 if is_one_target else k * end)
        code += (struct.pack("<I", 0xB4000000 | (distance >> 2) << 5) if machine == "arm64" else
                 b"\x0f\x84" + struct.pack("<i", distance - size))
    return code + RETURN[machine] * (2 if is_one_target else 1 + count)


def edges(p):
    """The last byte that counts, and the first one that does not: of the patch, of a function, of another one's beginning."""
    for machine in ("x86", "x64"):
        for at in range(6):
            image = Image(machine)
            image.add("free", NOP[machine] * 16 + jump(machine, at - 16))
            is_into = 0 < at < 5
            p.wants(f"{machine}, a jump to +{at}", image.add_core(), "branch-into" if is_into else "none", "free",
                    "refused" if is_into else "patch")
        for bytes_ in range(1, 7):
            image = Image(machine)
            image.add("free", NOP[machine] * (bytes_ - 1) + RETURN[machine])
            p.wants(f"{machine}, {bytes_} bytes and no more", image.add_core(), "too-short" if bytes_ < 5 else "none", "free",
                    "refused" if bytes_ < 5 else "patch")
        for what in ("exported", "known"):  # by its export, or as a function of the family
            for at, address in ((at, address) for at in range(1, 6) for address in (0, 5)):
                image = Image(machine)
                image.add("before", NOP[machine] * address, align=16)
                image.add("free", NOP[machine] * at, align=1)
                image.add("next_function" if what == "exported" else "_expand", NOP[machine] * 8 + RETURN[machine], align=1)
                p.wants(f"{machine}, another function, {what}, at +{at} of {address}", image.add_core(), "overlap" if at < 5 else "none",
                        "free", "refused" if at < 5 else "patch")
        # The same behind more names of that place than the planner notes.
        for at in (4, 5):
            image = Image(machine)
            free = image.add("free", NOP[machine] * 8 + RETURN[machine], align=16)
            image.exports.update({f"alias{k:03}": free for k in range(200)}, behind=free + at)
            p.wants(f"{machine}, 200 names and another function at +{at}", image.add_core(), "overlap" if at < 5 else "none", "free",
                    "refused" if at < 5 else "patch")
        # No room, and a short jump: to another name of the same function it does no harm, to another function it does.
        for target, whole, verdict in (("free", "none", "covered"), ("_msize", "too-short", "refused")):
            image = Image(machine)
            image.add(target, BODY[machine], room=16)
            image.add("_free_base", bytes.fromhex("eb ee cccccccccccc"))
            p.wants(f"{machine}, a short jump to {target}", image.add_core(), whole, "_free_base", verdict, whole)
        # A function that only another one's jump tells of, inside the patch.
        for at in (4, 5):
            image = Image(machine)
            image.add("free", NOP[machine] * 12 + RETURN[machine], room=16)
            image.add("_msize", jump(machine, at - 16))
            p.wants(f"{machine}, _msize goes on at +{at} of free", image.add_core(), "overlap" if at < 5 else "none", "free",
                    "refused" if at < 5 else "patch")
    for at in (3, 4, 5):
        for ends, begins in ((1, 0), (1, 1), (0, 1)):  # a function that calls none need not be in the table
            image = Image("x64")
            free = image.add("free", NOP["x64"] * 16 + RETURN["x64"])
            image.unwind = [(free, free + at)] * ends + [(free + at, free + 17)] * begins
            p.wants(f"x64: by the unwind table the function ends at +{at}, {ends}{begins}", image.add_core(), "overlap" if at < 5 else "none", "free",
                    "refused" if at < 5 else "patch")
    # An operand that counts from the end of its instruction, with a constant of 0, 1 or 4 bytes behind it.
    for code, tail in (("8b05", ""), ("803d", "07"), ("813d", "07000000")):
        image = Image("x64")
        free = image.add("free", bytes.fromhex(code + "10000000" + tail + "c3"))
        _, sites = p.wants(f"{code} {tail}", image.add_core(), "none", "free", "patch")
        moved = code + struct.pack("<i", free + 0x10 - 0x400000).hex() + tail
        check(sites["free"][5].startswith(moved), f"{code} {tail}: moved to {sites['free'][5]}, wanted {moved}")
    # A jump to the start of a function leads to a second site, one into the middle of a function does not.
    for at in (0, 4):
        image = Image("x64")
        inside = image.add("inside", BODY["x64"], room=16)
        del image.exports["inside"]
        image.unwind = [(inside, inside + len(BODY["x64"]))]
        image.add("_msize", jump("x64", at - 16))
        _, sites = p.wants(f"_msize jumps to +{at}", image.add_core(), "none", "_msize", "patch")
        check(("_msize!" in sites) == (at == 0), f"_msize jumps to +{at} of a function: {sites}")


def limits(p):
    """What is looked through has a limit: a function within it is judged, one beyond it is refused and not guessed at."""
    for machine in MACHINES:
        nop, ret = NOP[machine], RETURN[machine]
        rows = [("as many instructions as may be", nop * (INSNS_MAX - 1) + ret, "none"),
                ("one more", nop * INSNS_MAX + ret, "too-long"),
                ("as many branches as may wait", branches(machine, BRANCHES_MAX, False), "none"),
                ("one more", branches(machine, BRANCHES_MAX + 1, False), "too-long"),
                ("as many pieces as may be", jump(machine, len(jump(machine, 0))) * (PATHS_MAX - 1) + ret, "none"),
                ("one more", jump(machine, len(jump(machine, 0))) * PATHS_MAX + ret, "too-long"),
                ("many branches to one place", branches(machine, 3 * BRANCHES_MAX, True), "none")]
        if machine != "arm64":  # where no instruction can lie inside the patch
            rows += [(f"a jump into the patch behind {count} others", nop * count + jump(machine, 1 - count), reason)
                     for count, reason in ((INSNS_MAX - 1, "branch-into"), (INSNS_MAX, "too-long"))]
        for what, code, reason in rows:
            image = Image(machine)
            image.add("free", code)
            p.wants(f"{machine}, {what}", image.add_core(), reason, "free", "patch" if reason == "none" else "refused")
        # Not the core, and only a maker: the CRT is redirected without it.
        image = Image(machine)
        image.add("_aligned_malloc", nop * INSNS_MAX + ret)
        p.wants(f"{machine}, a long maker", image.add_core(), "none", "_aligned_malloc", "left", "too-long")
        # Stubs that end in a call that never returns, hundreds of them, as in Wine: each ends there. The last one would
        # jump into the first.
        for has_unwind in (False, True):
            image = Image(machine)
            call = bytes.fromhex("00000094" if machine == "arm64" else "e800000000")
            stub = nop * 5 + call + nop
            first = image.add("free", stub, align=1)
            for k in range(900):
                image.add(f"stub{k:03}", stub, align=1)
            image.add("stub_last", jump(machine, -901 * len(stub) + len(nop)), align=1)
            if has_unwind and machine == "x64":
                image.unwind = [(first + k * len(stub), first + (k + 1) * len(stub)) for k in range(901)]
            p.wants(f"{machine}, stubs in a row", image.add_core(), "none", "free", "patch")
        # But behind a call that returns the function goes on.
        image = Image(machine)
        code = nop * 5 + call + nop
        if machine != "arm64":  # where no instruction can lie inside the patch
            image.add("free", code + jump(machine, 1 - len(code)))
            p.wants(f"{machine}, back from behind a call", image.add_core(), "branch-into", "free", "refused")


def adversarial(p):
    """Beginnings that other compilers, options and builds of Windows make."""
    rows = {"x64": [("endbr64", "f30f1efa 4883ec28 33c0 4883c428 c3", 8), ("xchg ax,ax first", "6690 4883ec28 33c0 4883c428 c3", 6),
                    ("jmp [rip+8] of an import", "ff2508000000 cccc", 6), ("rex.w jmp [rip+8]", "48ff2508000000 cc", 7),
                    ("a call that begins at +4", "4883ec28 e800000000 4883c428 c3", 9), ("gs:", "65488b042530000000 c3", 9),
                    ("a stack cookie", "4883ec38 488b0500000000 4833c4 c3", 11), ("vzeroupper", "c5f877 33c0 c3", 5),
                    ("jmp rel32 to the next function", "e903000000 cccccc 33c0 c3", 5), ("bnd jmp", "f2e900000000 c3", 6),
                    ("lock inc [rip]", "f0ff0500000000 c3", 7), ("a long nop", "0f1f440000 c3", 5),
                    ("0f1e with a displacement", "0f1e840000000000 c3", 8)],
            "x86": [("endbr32", "f30f1efb 55 8bec 5d c3", 5), ("hot-patch form", "8bff 55 8bec 5d c3", 5),
                    ("seh prologue", "6a0c 6800000010 e800000000 c3", 7), ("jmp [abs]", "ff2500000010 cc", 6),
                    ("fs:", "64a100000000 c3", 6), ("mov eax, imm; call", "b878563412 e800000000 c3", 5)]}
    for machine, shapes in rows.items():
        for what, code, whole in shapes:
            image = Image(machine)
            image.add("free", bytes.fromhex(code.replace(" ", "")))
            _, sites = p.wants(f"{machine} {what}", image.add_core(), "none", "free", "patch")
            check(sites["free"][3:5] == (str(whole), "movable"), f"{machine} {what}: {sites['free']}")
    # Hashes of the control flow's kind directly before and behind: no byte of them may be part of the patch.
    image = Image("x64")
    for name in ("malloc", "calloc", "realloc", "free", "_msize"):
        image.add(f"inside_{name}", BODY["x64"])
    for name in ("malloc", "calloc", "realloc", "free", "_msize"):
        image.text += bytes.fromhex("700bd59d2c68f381")
        at = 0x1000 + len(image.text)
        image.add(name, b"\xe9" + struct.pack("<i", image.exports[f"inside_{name}"] - at - 5) + b"\xcc" * 3, align=1)
    _, sites = p.wants("hashes around jumps", image.add_core(), "none", "malloc", "patch")
    check(all(sites[n][3] == "5" for n in ("malloc", "free", "_msize")), f"more than the jump would be written: {sites}")


def incremental(p):
    """A debug CRT that was linked incrementally: each export is a jump in a table without gaps, the functions lie far
    behind or before it, and call each other by the table."""
    names = ("_errno", "_free_dbg", "_malloc_dbg", "_msize", "calloc", "free", "malloc", "realloc")
    for is_before in (False, True):
        for machine in ("x86", "x64"):
            image = Image(machine)
            far = b"\xcc" * 0x8000
            start = 0x1000 + (len(names) * 32 + len(far) if is_before else 0)
            table = {name: start + 5 * k for k, name in enumerate(names)}
            bodies_at = 0x1000 if is_before else 0x1000 + 5 * len(names) + len(far)
            bodies = b""
            for name in names:
                at = bodies_at + len(bodies)
                prologue = bytes.fromhex("4883ec28" if machine == "x64" else "558bec6a01")
                body = bytes(BODY[machine])
                if name in ("free", "malloc"):
                    to = table[f"_{name}_dbg"] - (at + len(prologue) + 5)
                    body = prologue + b"\xe8" + struct.pack("<i", to) + bytes.fromhex("c9c3")
                bodies += body + b"\xcc" * (32 - len(body))
            thunks = b"".join(b"\xe9" + struct.pack("<i", bodies_at + 32 * k - (table[n] + 5)) for k, n in enumerate(names))
            image.text += bodies + far + thunks if is_before else thunks + far + bodies
            image.exports = dict(table)
            head, sites = p.wants(f"{machine} incremental, {is_before}", image, "none", "free", "patch")
            check(head and head[2] == "debug", f"{machine} incremental, bodies before: {is_before}: taken for a release CRT")
            check(all(sites[n][3] == "5" for n in ("free", "malloc", "_free_dbg")), f"{machine}: {sites}")


def words(*values):
    return b"".join(struct.pack("<I", v) for v in values)


RET = 0xD65F03C0


def arm64_entries(p):
    nop, frame = 0xD503201F, 0xA9BF7BFD
    rows = [  # first words of free, verdict, reason, may it be moved
        ("a frame", words(frame, 0x910003FD, 0xA8C17BFD, RET), "patch", "none", True),
        ("pacibsp", words(0xD503237F, frame, 0xA8C17BFD, 0xD50323FF, RET), "patch", "none", True),
        ("adrp", words(0x90000008, 0xF9400108, 0xD61F0100), "patch", "none", False),
        ("ldr literal", words(0x58000048, 0xD61F0100, 0, 0), "patch", "none", False),
        ("cbz", words(0xB4000040, nop, RET), "patch", "none", False),
        ("tbz", words(0x36000040, nop, RET), "patch", "none", False),
        ("b", words(0x14000002, nop, RET), "patch", "none", False),
        ("ret", words(RET), "patch", "none", True),
        ("a loop to its beginning", words(nop, 0xB5FFFFE0, RET), "patch", "none", True),
        ("no instruction but udf", words(0), "patch", "none", True),
    ]
    for what, code, verdict, reason, is_movable in rows:
        image = Image("arm64")
        image.add("free", code)
        _, sites = p.wants(f"arm64 {what}", image.add_core(), "none" if verdict == "patch" else reason, "free", verdict, reason)
        free = sites["free"]
        check(free[3] == "4" and (free[4] == "movable") == is_movable, f"arm64 {what}: {free}")
        if is_movable:
            # The word itself, then b to entry + 4: from 0x10400004 to 0x10000000 + rva + 4.
            back = 0x14000000 | ((0x10000000 + int(free[0], 16) - 0x10400000) >> 2 & 0x3FFFFFF)
            check(free[5] == (code[:4] + words(back)).hex(), f"arm64 {what}: moved to {free[5]}")
    # _msize that is one jump: the function behind it is patched as well.
    image = Image("arm64")
    inner = image.add("inside", BODY["arm64"])
    del image.exports["inside"]
    at = 0x1000 + len(image.text)
    image.add("_msize", words(0x14000000 | ((inner - at) >> 2 & 0x3FFFFFF)))
    _, sites = p.wants("arm64 _msize by a jump", image.add_core(), "none", "_msize!", "patch")
    check(int(sites["_msize!"][0], 16) == inner, f"the jump of _msize leads to {sites['_msize!']}")


# An ARM64EC module's export for x64 callers: a "fast-forward sequence" that only x64 code runs, 16 bytes.
FAST_FORWARD = bytes.fromhex("488bc4 48895820 55 5d e9")


def hybrid(machine, kinds=None, dynamic=None, names=CORE):
    """Exports in x64 stubs (kind 2), their bodies in ARM64EC code (kind 1)."""
    image = Image(machine)
    bodies = image.add("bodies", BODY["arm64"] * 8)
    del image.exports["bodies"]
    first = None
    for name in names:
        while len(image.text) % 16:
            image.text += b"\xcc"
        at = 0x1000 + len(image.text)
        first = first or at
        image.add(name, FAST_FORWARD + struct.pack("<i", bodies - (at + len(FAST_FORWARD) + 4)))
    end = 0x1000 + len(image.text)
    if kinds:
        image.hybrid = [(bodies, bodies + 128, kinds[0]), (first, end, kinds[1])]
    image.dynamic = dynamic
    return image


def far(p):
    """Moved as far as a displacement reaches, and one step farther: impossible then."""
    src, inside = 0x7000_0000_0000, 0x12345678
    # Before a displacement of the instruction itself; "" = only the way back behind it has one.
    for cpu, most, step, head in (("arm64", 128 << 20, 4, ""), ("x64", 2 << 30, 1, ""), ("x64", 2 << 30, 1, "488b05"),
                                  ("x64", 2 << 30, 1, "0f84"), ("x64", 2 << 30, 1, "e8")):
        for sign, beyond in ((s, b * step) for s in (1, -1) for b in (-1, 0, 1)):
            wanted = sign * most + beyond  # the displacement afterwards
            if head:
                code, dst = head + struct.pack("<i", sign * inside).hex(), src + sign * inside - wanted
                rest = struct.pack("<q", wanted)[:4] + b"\xe9" + struct.pack("<q", wanted - sign * inside - 5)[:4]
            elif cpu == "x64":
                code, dst, rest = "90" * 5, src - wanted - 5, b"\xe9" + struct.pack("<q", wanted)[:4]
            else:
                code, dst, rest = "1f2003d5", src - wanted, words(0x14000000 | (wanted >> 2 & 0x3FFFFFF))
            moved = (head or code) + rest.hex() if -most <= wanted < most else "0"
            out = subprocess.run([p.dump, "--relocate", cpu, code, f"{src:x}", f"{dst:x}"], capture_output=True, text=True,
                                 check=True).stdout.strip()
            check(out == moved, f"{cpu} {code} over {wanted:#x}: {out}, wanted {moved}")


def hybrids(p):
    rows = [("ARM64EC: an x64 image with ARM64EC code", hybrid("x64", (1, 2))),
            ("ARM64X: an ARM64 image with metadata", hybrid("arm64", (0, 1))),
            ("ARM64X known by its dynamic relocations alone", hybrid("arm64", None, [3, 6])),
            ("CHPE: an x86 image with ARM64 code", hybrid("x86", (0, 2)))]
    for what, image in rows:
        head, sites = p.wants(what, image, "hybrid", "malloc", "left", "hybrid")
        check(head and head[4] == "0" and all(s[1] != "patch" for s in sites.values()), f"{what}: would be patched")
    # Not hybrid: other dynamic relocations, and a load configuration without either.
    p.wants("dynamic relocations of another kind", add_dynamic(Image("arm64").add_core(), [1, 2, 3]), "none")
    p.wants("no dynamic relocations", add_dynamic(Image("x64").add_core(), []), "none")
    # One with the names of a debug heap is left alone altogether; what is no CRT stays none.
    _, sites = p.wants("a hybrid debug CRT", hybrid("x64", (1, 2), None, (*CORE, "_free_dbg")), "hybrid")
    check(not sites, f"a hybrid debug CRT has sites: {sites}")
    p.wants("a hybrid that is no CRT", hybrid("x64", (1, 2), None, CORE[:-1]), "not-a-crt")


COM = ("CoTaskMemAlloc", "CoTaskMemRealloc", "CoTaskMemFree", "CoGetMalloc", "CoRegisterMallocSpy", "CoRevokeMallocSpy")


def com_image(machine, names=COM, code=None, cells=0):
    """An owner of COM's task memory, or a DLL whose functions jump to import cells. code(at, cell) makes a function."""
    image = Image(machine)
    place = image.add("cells", b"\0" * 64)
    del image.exports["cells"]
    for n, name in enumerate(names):
        while len(image.text) % 16:
            image.text += b"\0"
        at = 0x1000 + len(image.text)
        image.add(name, code(at, place + 8 * n, image.base) if code else BODY[machine])
    image.import_cells = (place, cells) if cells else None
    return image


def com_plan(p, image):
    """(state, reason, {function: (verdict, reason)}), None = no owner."""
    path = os.path.join(p.folder, "com.dll")
    with open(path, "wb") as f:
        f.write(image.bytes())
    out = subprocess.run([p.dump, path], capture_output=True, text=True, check=True).stdout
    head = re.search(r"^com \S+ (\w+) reason=(\S+) ", out, re.M)
    sites = {m[1]: m.groups()[1:] for m in re.finditer(r"^function (\S+) (\S+) (\S+)$", out, re.M)}
    return (head[1], head[2], sites) if head else None


def adrp_stub(x, at, cell):
    pages = (cell >> 12) - (at >> 12) & 0x1FFFFF
    return struct.pack("<III", 0x90000000 | x | (pages & 3) << 29 | (pages >> 2) << 5, 0xF9400000 | x << 5 | x | (cell & 0xFFF) // 8 << 10,
                       0xD61F0000 | x << 5)


# Functions that are nothing but a jump to an import, as compilers write them.
STUBS = {"x64": [lambda at, cell, base: b"\xff\x25" + struct.pack("<i", cell - at - 6),
                 lambda at, cell, base: b"\x48\xff\x25" + struct.pack("<i", cell - at - 7)],
         "x86": [lambda at, cell, base: b"\xff\x25" + struct.pack("<I", base + cell),
                 lambda at, cell, base: b"\x8b\xff\x55\x8b\xec\x5d\xff\x25" + struct.pack("<I", base + cell)],
         "arm64": [lambda at, cell, base: adrp_stub(16, at, cell), lambda at, cell, base: adrp_stub(8, at, cell)]}


def com(p):
    for machine in MACHINES:
        got = com_plan(p, com_image(machine))
        check(got and got[:2] == ("good", "none") and [got[2][n] for n in COM] == [("patch", "none")] * 6, f"{machine}: {got}")
        got = com_plan(p, com_image(machine, COM[:4]))
        check(got and got[0] == "good" and got[2][COM[4]] == ("left", "com-incomplete"), f"{machine} without spies: {got}")
        got = com_plan(p, com_image(machine, COM[:3]))
        check(got and got[:2] == ("refused", "com-incomplete"), f"{machine} without CoGetMalloc: {got}")
        check(com_plan(p, com_image(machine, COM[:2])) is None, f"{machine}: half a family is an owner")
        image = com_image(machine)
        if machine != "x86":
            image.hybrid = [(image.exports[COM[0]], 0x1000 + len(image.text), 1)]
            got = com_plan(p, image)
            check(got and got[:2] == ("refused", "hybrid") and got[2][COM[0]] == ("left", "hybrid"), f"{machine}, hybrid: {got}")
        image = com_image(machine)
        image.exports["CoTaskMemRealloc"] = image.exports["CoTaskMemAlloc"]
        got = com_plan(p, image)
        check(got and got[:2] == ("refused", "alias-conflict"), f"{machine}, two at one place: {got}")
        image = com_image(machine, [n for n in COM if n != "CoTaskMemFree"])
        image.forwarders["CoTaskMemFree"] = "combase.CoTaskMemFree"
        check(com_plan(p, image) is None, f"{machine}: one that forwards is an owner")
        if machine != "arm64":  # where every instruction is long enough
            image = com_image(machine)
            image.exports["CoRegisterMallocSpy"] = image.add("short", b"\xc3", room=16)
            got = com_plan(p, image)
            check(got and got[0] == "good" and got[2]["CoRegisterMallocSpy"] == ("left", "too-short"), f"{machine}: {got}")
            image.exports["CoTaskMemFree"] = image.add("shorter", b"\xc3", room=16)
            got = com_plan(p, image)
            check(got and got[:2] == ("refused", "too-short"), f"{machine}, no room for free: {got}")
        for k, stub in enumerate(STUBS[machine]):
            check(com_plan(p, com_image(machine, COM, stub, 64)) is None, f"{machine}, stub {k} is an owner")
            check(com_plan(p, com_image(machine, COM, stub)) is not None, f"{machine}, stub {k} without imports is no owner")


def add_dynamic(image, symbols):
    image.dynamic = symbols
    return image


def main():
    rows = reasons.table()
    with tempfile.TemporaryDirectory() as folder:
        p = Planner(sys.argv[1], folder)
        for group in (refusals, entries, edges, limits, adversarial, incremental, arm64_entries, far, hybrids, com):
            group(p)
    missing = set(reasons.PLANNER.values()) - SEEN
    check(not missing, f"reasons that no image gave: {sorted(missing)}")
    nobody = set(rows) - set(reasons.PLANNER) - reasons.PROCESS - reasons.COM
    check(not nobody, f"reason codes without a test that provokes them: {sorted(nobody)}")
    stale = (set(reasons.PLANNER) | reasons.PROCESS | reasons.COM) - set(rows)
    check(not stale, f"reason codes that the table does not have: {sorted(stale)}")
    check(all(rows.get(code) == name for code, name in reasons.PLANNER.items()), "the names of the codes differ")
    print(f"{len(SEEN)} reasons given, {len(rows)} in the table, {len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
