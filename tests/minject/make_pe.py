"""Makes synthetic PE images, each with one awkward property, from the published format alone.

corpus() gives {name: bytes}. The x64 programs run: their entry point returns 42. Used by the tests of minject
and as seeds of the fuzzers:  make_pe.py FOLDER  writes them as files, with
--minject TOOL the injected ones beside them.
"""
import pathlib
import struct
import subprocess
import sys

MACHINES = {"x86": 0x14C, "x64": 0x8664, "arm64": 0xAA64, "arm": 0x1C4, "ia64": 0x200}
CODE = {"x86": b"\xB8\x2A\0\0\0\xC3", "x64": b"\xB8\x2A\0\0\0\xC3", "arm64": b"\x40\x05\x80\x52\xC0\x03\x5F\xD6"}
READ, WRITE, EXEC, DISCARD = 0x40000000, 0x80000000, 0x20000000, 0x02000000
CODE_FLAG, DATA_FLAG, BSS_FLAG = 0x20, 0x40, 0x80
KERNEL = (("KERNEL32.dll", ("ExitProcess", "GetLastError")),)
EXPORT, IMPORT, RESOURCE, EXCEPTION, SECURITY, RELOC, DEBUG, TLS, CONFIG, BOUND, IAT, DELAY, CLR = (
    0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14)


def align(n, a):
    return (n + a - 1) // a * a


class Blob:
    """Section contents that know their RVA."""

    def __init__(self, rva):
        self.rva, self.data = rva, bytearray()

    def put(self, data, alignment=8):
        self.data += bytes(align(len(self.data), alignment) - len(self.data))
        at = self.rva + len(self.data)
        self.data += data
        return at


def put_imports(blob, imports, wide, stamp=0, has_lookup=True, iat_blob=None):
    """Descriptors of all DLLs. Returns (table RVA, table size, IAT RVA, IAT size)."""
    cell = "<Q" if wide else "<I"
    top = 1 << (63 if wide else 31)
    rows, tables = [], []
    for dll, symbols in imports:
        name = blob.put(dll.encode() + b"\0", 2)
        cells = b""
        for s in symbols:
            value = top | s if isinstance(s, int) else blob.put(struct.pack("<H", 0) + s.encode() + b"\0", 2)
            cells += struct.pack(cell, value)
        rows.append((name, cells + struct.pack(cell, 0)))
    for name, cells in rows:
        tables.append(blob.put(cells) if has_lookup else 0)
    iats = iat_blob or blob
    first = iats.rva + align(len(iats.data), 8)
    out = b""
    for (name, cells), lookup in zip(rows, tables):
        out += struct.pack("<5I", lookup, stamp, 0xFFFFFFFF if stamp else 0, name, iats.put(cells))
    end = iats.rva + len(iats.data)
    table = blob.put(out + bytes(20))
    return table, len(out) + 20, first, end - first


def put_exports(blob, dll, names, step=0):
    text = [blob.put(n.encode() + b"\0", 1) for n in sorted(names)]
    name = blob.put(dll.encode() + b"\0", 1)
    functions = blob.put(struct.pack(f"<{len(names)}I", *[0x1000 + step * i for i in range(len(names))]), 4)
    pointers = blob.put(struct.pack(f"<{len(names)}I", *text), 4)
    ordinals = blob.put(struct.pack(f"<{len(names)}H", *range(len(names))), 4)
    head = struct.pack("<IIHHIIIIIII", 0, 0, 0, 0, name, 1, len(names), len(names), functions, pointers, ordinals)
    return blob.put(head, 4), 40


def put_delay(blob, wide):
    name = blob.put(b"USER32.dll\0", 2)
    hint = blob.put(b"\0\0MessageBoxW\0", 2)
    cell = "<QQ" if wide else "<II"
    names = blob.put(struct.pack(cell, hint, 0))
    table = blob.put(struct.pack(cell, 0x1000, 0))
    handle = blob.put(bytes(8))
    return blob.put(struct.pack("<8I", 1, name, handle, table, names, 0, 0, 0) + bytes(32)), 64


def put_tls(blob, wide, base):
    cell = "<4QII" if wide else "<4III"
    index = base + blob.put(bytes(8))
    callbacks = base + blob.put(bytes(16))
    start = base + blob.put(b"thread data....\0")
    data = struct.pack(cell, start, start + 16, index, callbacks, 0, 0)
    return blob.put(data), len(data)


def put_config(blob, wide, base, chpe=False, guard=0x10500, dynamic=b""):
    data = bytearray(0x140 if wide else 0xC0)
    struct.pack_into("<I", data, 0, len(data))
    cookie = base + blob.put(struct.pack("<Q", 0x2B992DDFA232))
    struct.pack_into("<Q" if wide else "<I", data, 88 if wide else 60, cookie)
    struct.pack_into("<I", data, 144 if wide else 88, guard)
    if chpe:
        ranges = blob.put(struct.pack("<4I", 0x1000 | 1, 0x10, 0x1010 | 2, 0x10))
        metadata = blob.put(struct.pack("<3I", 1, ranges, 2) + bytes(64))
        struct.pack_into("<Q" if wide else "<I", data, 200 if wide else 124, base + metadata)
    if dynamic:
        struct.pack_into("<IH", data, 224, blob.put(dynamic) - blob.rva, 2)  # .rdata is the second section
    return blob.put(bytes(data)), len(data)


def put_resources(blob, resources):
    """{(type, id): bytes} as a tree of three levels, in one language."""
    leaves = {key: blob.put(data, 4) for key, data in resources.items()}
    types = sorted({t for t, _ in resources})
    root = blob.rva + align(len(blob.data), 8)
    rows = {t: sorted(i for u, i in resources if u == t) for t in types}
    at = 16 + 8 * len(types)  # then the folders of each type, of each id, then the leaves
    id_at, leaf_at = {}, {}
    for t in types:
        id_at[t], at = at, at + 16 + 8 * len(rows[t])
    lang_at = {}
    for key in sorted(resources):
        lang_at[key], at = at, at + 16 + 8
    for key in sorted(resources):
        leaf_at[key], at = at, at + 16
    folder = lambda n: struct.pack("<IIHHHH", 0, 0, 0, 0, 0, n)
    out = folder(len(types)) + b"".join(struct.pack("<II", t, id_at[t] | 1 << 31) for t in types)
    for t in types:
        out += folder(len(rows[t])) + b"".join(struct.pack("<II", i, lang_at[t, i] | 1 << 31) for i in rows[t])
    for key in sorted(resources):
        out += folder(1) + struct.pack("<II", 0x409, leaf_at[key])
    for key in sorted(resources):
        out += struct.pack("<4I", leaves[key], len(resources[key]), 0, 0)
    check = blob.put(out)
    assert check == root
    return root, len(out)


def version_resource(words, number=(3, 4, 0, 0)):
    """VS_VERSION_INFO with one table of strings."""
    def node(key, value, kind, children=b""):
        head = struct.pack("<3H", 0, len(value) // (2 if kind else 1), kind) + (key + "\0").encode("utf-16le")
        head = head.ljust(align(len(head), 4), b"\0") + value
        head = head.ljust(align(len(head), 4), b"\0") + children
        return struct.pack("<H", len(head)) + head[2:]

    strings = b"".join(node(k, (v + "\0").encode("utf-16le"), 1).ljust(1) for k, v in words.items())
    fixed = struct.pack("<13I", 0xFEEF04BD, 0x10000, number[0] << 16 | number[1], number[2] << 16 | number[3],
                        number[0] << 16 | number[1], number[2] << 16 | number[3], 0x3F, 0, 0x40004, 2, 0, 0, 0)
    return node("VS_VERSION_INFO", fixed, 0, node("StringFileInfo", b"", 1, node("040904b0", b"", 1, strings)))


def manifest(*assemblies):
    """Each: (name, version, machine, token)."""
    rows = "".join(f"""<dependency><dependentAssembly><assemblyIdentity type='win32' name="{n}" version = "{v}"
        processorArchitecture='{m}' publicKeyToken="{t}"/></dependentAssembly></dependency>""" for n, v, m, t in assemblies)
    return f"""<?xml version="1.0"?><!-- <dependentAssembly><assemblyIdentity name="not.this"/></dependentAssembly> -->
<asmv1:assembly xmlns:asmv1="urn:schemas-microsoft-com:asm.v1" manifestVersion="1.0">
<assemblyIdentity name="the.program.itself" version="1.0.0.0"/>{rows}</asmv1:assembly>""".encode()


def policy(old, new, name="Microsoft.VC99.CRT"):
    """A publisher's policy: each version of `old` becomes `new`."""
    rows = "".join(f'<bindingRedirect oldVersion="{o}" newVersion="{new}"/>' for o in old)
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?><assembly xmlns="urn:schemas-microsoft-com:asm.v1"
manifestVersion="1.0"><assemblyIdentity type="win32-policy" name="policy.9.0.Microsoft.VC99.CRT" version="9.0.30729.1"/><dependency>
<dependentAssembly><assemblyIdentity type="win32" name="{name}"/><!-- <bindingRedirect oldVersion="0.0.0.0-9.9.9.9"
newVersion="1.1.1.1"/> -->{rows}</dependentAssembly></dependency></assembly>""".encode()


def put_rich(objects, key=0x6A5B4C3D):
    """Microsoft's tool counts for the DOS stub: [(tool, build, objects)]."""
    out = struct.pack("<4I", 0x536E6144 ^ key, key, key, key)
    for tool, build, count in objects:
        out += struct.pack("<II", (tool << 16 | build) ^ key, count ^ key)
    return out + struct.pack("<II", 0x68636952, key)


def put_groups(blob, names):
    out = struct.pack("<I", 0x4C544347)
    for name in names:
        text = name.encode() + b"\0"
        out += struct.pack("<II", 0x1000, 8) + text.ljust(align(len(text), 4), b"\0")
    return blob.put(out, 4), len(out)


def checksum(data, at):
    padded = bytes(data) + b"\0" * (len(data) & 1)
    total = sum(struct.unpack(f"<{len(padded) // 2}H", padded)) - sum(struct.unpack_from("<HH", padded, at))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total + len(data)


def put_symbols(count):
    strings = b"a_long_symbol_name_in_the_string_table\0"
    rows = b"".join(struct.pack("<8sIhHBB", b"sym%05d" % i, i, 1, 0, 2, 0) for i in range(count))
    return rows + struct.pack("<I", 4 + len(strings)) + strings


def parts_of(o, wide, base, rdata):
    """Fills .rdata and gives the data directories."""
    dirs = {}
    if o["imports"]:
        iat_blob = o["iat_blob"]
        table, size, iat, iat_size = put_imports(rdata, o["imports"], wide, o["stamp"], o["has_lookup"], iat_blob)
        dirs[IMPORT] = (table, size)
        if o["has_iat_dir"]:
            dirs[IAT] = (iat, iat_size)
    if o["delay"]:
        dirs[DELAY] = put_delay(rdata, wide)
    if o["tls"]:
        dirs[TLS] = put_tls(rdata, wide, base)
    if o["config"] or o["chpe"]:
        dirs[CONFIG] = put_config(rdata, wide, base, o["chpe"], dynamic=o["dynamic"])
    if o["exports"]:
        dirs[EXPORT] = put_exports(rdata, "made.dll", o["exports"], o["export_step"])
    if o["clr"] is not None:
        dirs[CLR] = (rdata.put(struct.pack("<IHH", 72, 2, 5) + struct.pack("<III", 0, 0, o["clr"]) + bytes(52)), 72)
    if o["debug"]:
        dirs[DEBUG] = (rdata.put(bytes(28 * 2)), 28 * 2)
    if o["groups"]:
        at, size = put_groups(rdata, o["groups"])
        dirs[DEBUG] = (rdata.put(struct.pack("<IIHHIIII", 0, 0, 0, 0, 13, size, at, 0)), 28)
    if o["resources"]:
        dirs[RESOURCE] = put_resources(rdata, o["resources"])
    if o["strings"]:
        rdata.put(o["strings"])
    return dirs


DEFAULTS = dict(machine="x64", imports=KERNEL, stamp=0, has_lookup=True, has_iat_dir=True, delay=False, tls=False,
                config=False, chpe=False, exports=(), clr=None, debug=False, checksum=True, cert=b"", overlay=b"",
                symbols=0, bound=False, room=True, extra_sections=0, bss=0, dll=False, subsystem=3, file_align=0x200,
                section_align=0x1000, text_bytes=0, characteristics=0, dll_flags=0x8160, junk_in_header=False,
                iat_blob=None, first_rva=0x1000, resources={}, rich=(), groups=(), strings=b"", export_step=0, code=b"", dynamic=b"", burn=False,
                bss_raw=None)


def section_list(o, rdata):
    """(name, contents, virtual size, flags) in order of address."""
    code = (o["code"] or CODE.get(o["machine"], b"\xC3")).ljust(max(o["text_bytes"], 64), b"\xCC")
    rows = [(b".text", code, len(code), CODE_FLAG | READ | EXEC),
            (b".rdata", bytes(rdata.data), len(rdata.data), DATA_FLAG | READ | (WRITE if o["tls"] or o["config"] else 0))]
    if o["burn"]:
        rows.append((b".wixburn", struct.pack("<6I", 0x00F14300, 2, 0, 0, 0, 0x600), 64, DATA_FLAG | READ))
    for i in range(o["extra_sections"]):
        rows.append((b".x%d" % i, b"extra %d " % i * 8, 64, DATA_FLAG | READ))
    if o["bss"]:
        rows.append((b".bss", b"", o["bss"], BSS_FLAG | READ | WRITE))
    else:
        reloc = struct.pack("<IIHH", 0x1000, 12, 0, 0)
        rows.append((b".reloc", reloc, len(reloc), DATA_FLAG | READ | DISCARD))
    return rows


def make(**given):
    o = dict(DEFAULTS, **given)
    wide = o["machine"] not in ("x86", "arm")
    base = 0x140000000 if wide else 0x400000
    fa, sa = o["file_align"], o["section_align"]
    text_rva = max(sa, o["first_rva"])
    rdata = Blob(text_rva + align(max(o["text_bytes"], len(o["code"]), 64), sa))
    dirs = parts_of(o, wide, base, rdata)
    rows = section_list(o, rdata)
    rich = put_rich(o["rich"]) if o["rich"] else b""
    nt, optional = 0x80 + align(len(rich), 8), 240 if wide else 224
    table_at = nt + 24 + optional
    headers = table_at + 40 * len(rows)
    bound = b""
    if o["bound"]:
        bound_at = headers + (40 if o["room"] else 0)
        bound = struct.pack("<IHH", 0x5F000000, 16, 0) + bytes(8) + b"KERNEL32.dll\0"
        bound = bound.ljust(align(len(bound), 8), b"\0")
        dirs[BOUND] = (bound_at, len(bound))
        headers = bound_at + len(bound)
    if not o["room"]:
        # No room left: DOS stub made longer until the section table ends where the headers end.
        nt += align(headers, fa) - headers
        if o["bound"]:
            dirs[BOUND] = (dirs[BOUND][0] + nt - 0x80 - align(len(rich), 8), len(bound))
        table_at, headers = nt + 24 + optional, align(headers, fa)
    else:
        headers = align(headers + 40, fa)
    out, table, rva, raw = bytearray(headers), b"", text_rva, headers
    for name, contents, virtual, flags in rows:
        size = align(len(contents), fa)
        # As GNU's linkers write a section of zeros: a size, and no place in the file; older ones without another size.
        is_raw = name == b".bss" and o["bss_raw"]
        stated = (0, virtual) if is_raw and o["bss_raw"] == "old" else (virtual, virtual if is_raw else size)
        table += struct.pack("<8s6IHHI", name, stated[0], rva, stated[1], raw if size else 0, 0, 0, 0, 0, flags)
        if name == b".rdata":
            rdata_raw = raw
        out += contents.ljust(size, b"\0")
        raw, rva = raw + size, rva + align(max(virtual, 1), sa)
    if o["debug"]:
        patch_debug(o, out, rdata, rdata_raw, dirs)
    symbol_at = 0
    if o["symbols"]:
        symbol_at = len(out)
        out += put_symbols(o["symbols"])
    out += o["overlay"]
    if o["cert"]:
        out += bytes(align(len(out), 8) - len(out))
        dirs[SECURITY] = (len(out), len(o["cert"]))
        out += o["cert"]
    write_headers(o, out, nt, wide, base, text_rva, rva, headers, len(rows), symbol_at, dirs)
    out[table_at:table_at + len(table)] = table
    out[0x80:0x80 + len(rich)] = rich
    if bound:
        out[dirs[BOUND][0]:dirs[BOUND][0] + len(bound)] = bound
    if o["junk_in_header"]:
        out[table_at + len(table):table_at + len(table) + 8] = b"watch me"
    if o["checksum"]:
        at = nt + 24 + 64
        struct.pack_into("<I", out, at, checksum(out, at))
    return bytes(out)


def patch_debug(o, out, rdata, rdata_raw, dirs):
    """Entry 0: CodeView data in .rdata's tail padding is not needed, any place in a section will do. Entry 1: data
    behind the sections (in the overlay), as old linkers made it."""
    at = rdata_raw + dirs[DEBUG][0] - rdata.rva
    first = struct.pack("<IIHHIIII", 0, 0, 0, 0, 2, 16, rdata.rva, rdata_raw)
    second = struct.pack("<IIHHIIII", 0, 0, 0, 0, 1, 8, 0, len(out) if o["overlay"] else rdata_raw)
    out[at:at + 56] = first + second


def write_headers(o, out, nt, wide, base, entry, image_end, headers, count, symbol_at, dirs):
    out[0:2] = b"MZ"
    struct.pack_into("<H", out, 0x18, 0x40)
    struct.pack_into("<I", out, 0x3C, nt)
    flags = 0x22 | (0x2000 if o["dll"] else 0) | (0 if wide else 0x100) | o["characteristics"]
    out[nt:nt + 4] = b"PE\0\0"
    struct.pack_into("<HHIIIHH", out, nt + 4, MACHINES[o["machine"]], count, 0x5F000000, symbol_at, o["symbols"],
                     240 if wide else 224, flags)
    at = nt + 24
    struct.pack_into("<HBBIIIII", out, at, 0x20B if wide else 0x10B, 14, 0, 0x200, 0x200, 0,
                     entry if not o["dll"] else 0, entry)
    struct.pack_into("<Q" if wide else "<II", out, at + 24, *((base,) if wide else (entry, base)))
    struct.pack_into("<II6HIIIIHH", out, at + 32, o["section_align"], o["file_align"], 6, 0, 0, 0, 6, 0, 0,
                     align(image_end, o["section_align"]), headers, 0, o["subsystem"], o["dll_flags"])
    struct.pack_into("<4Q" if wide else "<4I", out, at + 72, 0x100000, 0x1000, 0x100000, 0x1000)
    struct.pack_into("<II", out, at + (104 if wide else 88), 0, 16)
    for i, (rva, size) in dirs.items():
        struct.pack_into("<II", out, at + (112 if wide else 96) + i * 8, rva, size)


ZIP_TAIL = b"PK\3\4 data of an installer " * 40 + b"PK\5\6" + bytes(18)
CERT = struct.pack("<IHH", 264, 0x200, 2) + bytes(range(256))
MI = (("KERNEL32.dll", ("ExitProcess",)), ("mimalloc.dll", ("mi_version",)),
      ("mimalloc-redirect.dll", ("mi_allocator_init",)))


def nsis_header(flags):
    """NSIS' first header: flags, the mark, two sizes."""
    return struct.pack("<II12sII", flags, 0xDEADBEEF, b"NullsoftInst", 0x100, 0x200) + bytes(0x1E4)


INNO = {(10, 11111): b"rDlPtS\xCD\xE6\xD7\x7B\x0B\x2A" + struct.pack("<10I", 1, *range(9))}


def dynamic_relocs(*symbols):
    """A table of dynamic relocations, version 1, with a row of 12 bytes for each symbol."""
    rows = b"".join(struct.pack("<QI", s, 12) + struct.pack("<III", 0x1000, 12, 0) for s in symbols)
    return struct.pack("<II", 1, len(rows)) + rows


def corpus():
    """Images that can be injected (some need --force: names that start with signed)."""
    many = tuple((f"api-{i}.dll", tuple(f"function_{i}_{k}" for k in range(i % 5 + 1))) for i in range(60))
    out = {
        "plain-x64": make(), "plain-x86": make(machine="x86"), "plain-arm64": make(machine="arm64"),
        "dll-x64": make(dll=True, exports=("f", "g", "malloc")), "dll-x86": make(dll=True, machine="x86", exports=("f",)),
        "no-checksum": make(checksum=False), "no-imports": make(imports=()),
        "many-imports-x64-norun": make(imports=KERNEL + many), "ordinals-norun": make(imports=(("WS2_32.dll", (1, 2, 115)),)),
        "signed-x64": make(cert=CERT), "signed-overlay": make(cert=CERT, overlay=ZIP_TAIL),
        "signed-x86": make(machine="x86", cert=CERT), "signed-integrity": make(dll_flags=0x81E0),
        "overlay": make(overlay=ZIP_TAIL), "overlay-odd": make(overlay=b"x" * 1001), "overlay-x86": make(machine="x86", overlay=ZIP_TAIL),
        "no-room": make(room=False), "no-room-x86": make(machine="x86", room=False), "no-room-arm64": make(machine="arm64", room=False),
        "no-room-bss": make(room=False, bss=0x5432), "no-room-overlay": make(room=False, overlay=ZIP_TAIL),
        "no-room-debug": make(room=False, debug=True, overlay=b"old debug data"),
        "junk-in-header": make(junk_in_header=True), "sections-96": make(extra_sections=93, first_rva=0x2000), "sections-95": make(extra_sections=92, first_rva=0x2000),
        "bss-raw": make(bss=0x10000, bss_raw="new"), "bss-raw-old": make(bss=0x10000, bss_raw="old"),
        "bss-raw-x86": make(machine="x86", bss=0x10000, bss_raw="new"), "bss-raw-no-room": make(room=False, bss=0x5432, bss_raw="new"),
        "bss-last": make(bss=0x10000), "bound": make(bound=True, stamp=0xFFFFFFFF), "bound-no-room": make(bound=True, room=False, stamp=0xFFFFFFFF),
        "bound-x86": make(machine="x86", bound=True, stamp=0xFFFFFFFF), "delay": make(delay=True), "tls": make(tls=True),
        "tls-x86": make(machine="x86", tls=True), "symbols": make(symbols=100), "symbols-overlay": make(symbols=100, overlay=ZIP_TAIL),
        "symbols-no-room": make(symbols=7, room=False), "config": make(config=True), "config-x86": make(machine="x86", config=True),
        "debug": make(debug=True), "debug-overlay": make(debug=True, overlay=b"old debug data of another time"),
        "nsis-free": make(overlay=nsis_header(4)), "nsis-later": make(overlay=b"data" * 128 + nsis_header(0)),
        "dynamic-relocs-x64": make(config=True, dynamic=dynamic_relocs(3, 4, 5)),
        "mixed-clr": make(clr=0x10), "no-iat-dir": make(has_iat_dir=False), "no-lookup": make(has_lookup=False),
        "file-align-4096": make(file_align=0x1000), "section-align-64k": make(section_align=0x10000),
        "everything": make(symbols=50, overlay=ZIP_TAIL, delay=True, tls=True, config=True, debug=True, bound=True, stamp=0xFFFFFFFF),
        "wrong-order-norun": make(imports=MI), "other-variant-norun": make(imports=(("KERNEL32.dll", ("ExitProcess",)),
                                                                        ("mimalloc-debug.dll", ("mi_version",)))),
        "original-minject-norun": make(imports=KERNEL + (("mimalloc-redirect.dll", (1,)), ("mimalloc.dll", (1,)))),
    }
    return out


def seeds():
    """For the fuzzers only: what the reader, the planner and the doctor look into."""
    family = ("malloc", "calloc", "realloc", "free", "_msize", "_expand", "_recalloc", "_aligned_malloc", "_aligned_free", "_strdup",
              "_initterm", "_errno")
    # 32 bytes each: a frame, a call or a jump, the end, padding.
    bodies = {"x86": b"\x8B\xFF\x55\x8B\xEC\x33\xC0\x5D\xC3", "x64": b"\x48\x83\xEC\x28\x33\xC0\x48\x83\xC4\x28\xC3",
              "arm64": b"\xFD\x7B\xBF\xA9\xFD\x03\x00\x91\x00\x00\x80\xD2\xFD\x7B\xC1\xA8\xC0\x03\x5F\xD6"}
    code = {m: b.ljust(32, b"\xCC") * len(family) for m, b in bodies.items()}
    words = version_resource({"MimallocVariant": "debug", "MimallocHandshake": "1"})
    return {
        **{f"crt-{m}": make(machine=m, dll=True, exports=family, export_step=32, code=code[m]) for m in ("x86", "x64", "arm64")},
        "resources": make(resources={(24, 1): manifest(("A", "1.2.3.4", "*", "0123456789abcdef")), (16, 1): words}),
        "static-runtime": make(rich=((0x105, 30000, 90), (0x104, 30000, 30), (0x103, 30000, 9), (1, 0, 90)), config=True,
                               groups=(".CRT$XCA", ".CRT$XIC", ".CRT$XPX"), strings="R6008".encode("utf-16le")),
        "manifest-utf16": make(resources={(24, 1): b"\xff\xfe" + manifest(("A", "1.2.3.4", "*", "")).decode().encode("utf-16le")}),
        "policy": policy(["1.0.0.0-1.9.9.9"], "1.2.3.4").replace(b'name="Microsoft.VC99.CRT"/>', b'name="A" version="1.1.1.1"/>'),
        "api-sets": api_set_schema({"api-ms-win-core-file-l1-1": "kernelbase.dll", "ext-ms-nobody-l1-1": ""}),
    }


def api_set_schema(sets):
    """An apisetschema.dll, version 6."""
    texts, out = bytearray(), bytearray()
    first = 28 + 24 * len(sets) + 20 * len(sets)

    def text(s):
        at = first + len(texts)
        texts.extend(s.encode("utf-16le"))
        return at

    for i, (name, host) in enumerate(sets.items()):
        full = name + "-0"
        out += struct.pack("<6I", 0, text(full), 2 * len(full), 2 * len(name), 28 + 24 * len(sets) + 20 * i, 1)
    for host in sets.values():
        out += struct.pack("<5I", 0, 0, 0, text(host), 2 * len(host))
    body = struct.pack("<7I", 6, first + len(texts), 0, len(sets), 28, 0, 31) + bytes(out) + bytes(texts)
    data = bytearray(make(dll=True, imports=(), strings=body))
    at = data.index(b".rdata\0\0")
    rva, raw = struct.unpack_from("<I4xI", data, at + 12)
    start = data.index(body)
    # The section begins where the schema does, as in the real one.
    data[raw:raw + len(body)], data[start:start + len(body)] = body, bytes(len(body)) if start != raw else body
    data[at:at + 8] = b".apiset\0"
    return bytes(data)


def first_already():
    return make(imports=(("mimalloc-redirect.dll", (1,)), ("mimalloc.dll", (1,))) + KERNEL)


def refused():
    """{name: (bytes, exit code)}: what must be refused, with its exit code."""
    good = make()
    far = bytearray(good)
    struct.pack_into("<I", far, 0x3C, 0x7FFFFFF0)
    twisted = bytearray(good)
    struct.pack_into("<I", twisted, 0x80 + 24 + 32, 3)  # section alignment 3
    endless = bytearray(make(machine="x64"))
    struct.pack_into("<I", endless, 0x80 + 24 + 112 + 8, 0x00900000)  # import directory outside the image
    tangled = bytearray(make(overlay=b"o" * 0x300000, imports=KERNEL + (("AB\x10.dll", ("f",)),)))
    name = tangled.index(b"AB\x10.dll")  # a debug entry whose file pointer is this name, somewhere in the overlay
    struct.pack_into("<II", tangled, 0x80 + 24 + 112 + 6 * 8, 0x2000 + name - 0x600 - 24, 28)
    tangled[name - 8:name] = bytes(8)
    tangled[name:name + 8] = b"AB\x10\0\0\0\0\0"
    shown = bytearray(make(room=False))  # its last section shows the headers (a finding of the fuzzer)
    row = shown.index(b".reloc\0\0")
    struct.pack_into("<II", shown, row + 16, 0x200, 0x10)  # rounded down by the loader
    ne = bytearray(0x200)
    ne[0:2], ne[0x80:0x82] = b"MZ", b"NE"
    struct.pack_into("<I", ne, 0x3C, 0x80)
    dos = bytearray(b"MZ" + bytes(0x1FE))
    return {
        "empty": (b"", 8), "text": (b"hello, I am no program\n" * 50, 9), "one-byte": (b"M", 9), "elf": (b"\x7fELF" + bytes(400), 9),
        "dos": (bytes(dos), 10), "ne": (bytes(ne), 10), "cut-in-header": (good[:0x50], 11), "cut-in-stub": (good[:0x20], 11),
        "cut-in-table": (good[:0x180], 11), "cut-in-section": (good[:-300], 11), "twisted": (bytes(twisted), 12),
        "endless-imports": (bytes(endless), 12), "far-header": (bytes(far), 11), "tangled": (bytes(tangled), 12), "arm32": (make(machine="arm"), 13),
        "ia64": (make(machine="ia64"), 13), "signed": (make(cert=CERT), 14), "il-only": (make(clr=1), 15),
        "arm64x": (make(machine="arm64", chpe=True), 16), "arm64ec": (make(machine="x64", chpe=True), 16),
        "arm64x-relocs": (make(machine="arm64", config=True, dynamic=dynamic_relocs(3, 6)), 16),
        "chpe": (make(machine="x86", chpe=True), 16),
        "nsis": (make(overlay=nsis_header(0)), 23), "nsis-forced": (make(machine="x86", overlay=nsis_header(12)), 23),
        "inno": (make(overlay=b"zlb\x1A" * 100, resources=INNO), 23),
        "burn": (make(overlay=b"MSCF" * 100, burn=True), 23),
        "driver": (make(subsystem=1), 17), "efi": (make(subsystem=10), 17), "low-alignment": (make(section_align=0x200), 18),
        "huge-bss-no-room": (make(room=False, bss=0x10000000), 18), "headers-in-section": (bytes(shown), 18),
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.exe"):
        old.unlink()
    for name, data in list(corpus().items()) + list(seeds().items()) + [(n, d) for n, (d, _) in refused().items()]:
        (folder / (name + ".exe")).write_bytes(data)
    if len(sys.argv) > 3:  # --minject TOOL: the injected forms too
        names = [str(folder / (name + ".exe")) for name in corpus()]
        sys.exit(subprocess.run([sys.argv[3], "--quiet", "--force"] + names).returncode)


if __name__ == "__main__":
    main()
