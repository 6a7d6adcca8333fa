"""Small PE images for the planner's tests: a CRT of made-up functions, for any machine, with what hybrid images have.

Nothing here is ever run. Layout: headers, .text, .rdata (exports, load configuration, unwind entries).
"""
import struct

MACHINES = {"x86": 0x14C, "x64": 0x8664, "arm64": 0xAA64}
TEXT = 0x1000
FILE_ALIGN = 0x200
CORE = ("malloc", "calloc", "realloc", "free", "_msize", "_errno")
# Ten bytes that only this function has, and its return.
BODY = {"x86": bytes.fromhex("558bec83ec088b4508c9c3"), "x64": bytes.fromhex("4883ec2833c04883c428c3"),
        "arm64": bytes.fromhex("fd7bbfa9fd030091fd7bc1a8c0035fd6")}
PADDING = {"x86": b"\xcc", "x64": b"\xcc", "arm64": b"\x00"}


class Image:
    def __init__(self, machine="x64", name="made.dll"):
        self.machine, self.name = machine, name
        self.text = bytearray()
        self.exports = {}       # name: rva
        self.forwarders = {}    # name: text
        self.unwind = []        # (begin, end), x64
        self.hybrid = None      # code ranges [(begin, end, kind)] of the hybrid metadata: 0 ARM64, 1 ARM64EC, 2 x64
        self.dynamic = None     # symbols of the dynamic relocations
        self.import_cells = None  # (rva, size)
        self.is_export_broken = False
        self.is_folded = False  # names of one place share an ordinal
        self.text_flags = 0x60000020
        self.base = 0x180000000 if machine != "x86" else 0x10000000

    def add(self, names, code, align=16, room=None):
        """A function under all these names; the next one begins room bytes behind it."""
        while len(self.text) % align:
            self.text += PADDING[self.machine]
        rva = TEXT + len(self.text)
        self.text += code
        if room is not None:
            self.text += PADDING[self.machine] * (room - len(code))
        for name in [names] if isinstance(names, str) else names:
            self.exports[name] = rva
        return rva

    def add_core(self, but=()):
        for name in CORE:
            if name not in but and name not in self.exports:
                self.add(name, BODY[self.machine])
        return self

    def rdata(self, rva):
        """Returns the bytes of .rdata and its directories {index: (rva, size)}."""
        out, dirs = bytearray(), {}
        names = sorted([*self.exports, *self.forwarders])
        count = len(names)
        functions, table = 40, 40 + 4 * count
        ordinals, strings = table + 4 * count, table + 6 * count
        text = bytearray(self.name.encode() + b"\0")
        addresses, places = [], []
        for name in names:
            places.append(rva + strings + len(text))
            text += name.encode() + b"\0"
            if name in self.forwarders:
                addresses.append(rva + strings + len(text))
                text += self.forwarders[name].encode() + b"\0"
            else:
                addresses.append(self.exports[name])
        indices = [addresses.index(a) if self.is_folded else k for k, a in enumerate(addresses)]
        out += struct.pack("<IIHHIIIIIII", 0, 0, 0, 0, rva + strings, 1, count, count,
                           0x7FFFFFF0 if self.is_export_broken else rva + functions, rva + table, rva + ordinals)
        out += struct.pack(f"<{count}I{count}I{count}H", *(a if indices[k] == k else 0 for k, a in enumerate(addresses)), *places, *indices) + text
        dirs[0] = (rva, len(out))
        out += b"\0" * (-len(out) % 16)
        if self.unwind:
            info = rva + len(out)
            out += b"\x01\0\0\0"
            dirs[3] = (rva + len(out), 12 * len(self.unwind))
            for begin, end in self.unwind:
                out += struct.pack("<III", begin, end, info)
        out += b"\0" * (-len(out) % 16)
        if self.hybrid is not None or self.dynamic is not None:
            self.put_load_config(out, dirs, rva)
        return out, dirs

    def put_load_config(self, out, dirs, rva):
        metadata = relocations = 0
        if self.hybrid is not None:
            ranges = rva + len(out)
            for begin, end, kind in self.hybrid:
                out += struct.pack("<II", begin | kind, end - begin)
            metadata = self.base + rva + len(out)
            out += struct.pack("<III", 1, ranges, len(self.hybrid)) + b"\0" * 68
        if self.dynamic is not None:
            relocations = len(out)  # an offset in this section, which is the second
            rows = b"".join(struct.pack("<QI", symbol, 4) + b"\0\0\0\0" for symbol in self.dynamic)
            out += struct.pack("<II", 1, len(rows)) + rows
        out += b"\0" * (-len(out) % 16)
        dirs[10] = (rva + len(out), 0x140)
        config = bytearray(0x140)
        struct.pack_into("<I", config, 0, 0x140)
        if self.machine == "x86":
            struct.pack_into("<I", config, 124, metadata)
        else:
            struct.pack_into("<Q", config, 200, metadata)
            struct.pack_into("<IH", config, 224, relocations, 2 if self.dynamic is not None else 0)
        out += config

    def bytes(self):
        is_64 = self.machine != "x86"
        text = bytes(self.text) + b"\0" * (-len(self.text) % FILE_ALIGN)
        rdata_rva = TEXT + (len(text) + 0xFFF) // 0x1000 * 0x1000
        rdata, dirs = self.rdata(rdata_rva)
        if self.import_cells:
            dirs[12] = self.import_cells
        rdata = bytes(rdata) + b"\0" * (-len(rdata) % FILE_ALIGN)
        image_bytes = rdata_rva + (len(rdata) + 0xFFF) // 0x1000 * 0x1000
        optional = 240 if is_64 else 224
        head = bytearray(b"MZ" + b"\0" * 58 + struct.pack("<I", 64) + b"PE\0\0")
        head += struct.pack("<HHIIIHH", MACHINES[self.machine], 2, 0, 0, 0, optional, 0x2022 if is_64 else 0x2102)
        head += struct.pack("<HBBIIIII", 0x20B if is_64 else 0x10B, 14, 0, len(text), len(rdata), 0, 0, TEXT)
        head += struct.pack("<Q", self.base) if is_64 else struct.pack("<II", rdata_rva, self.base)
        head += struct.pack("<IIHHHHHHIIIIHH", 0x1000, FILE_ALIGN, 6, 0, 0, 0, 6, 0, 0, image_bytes, 0x400, 0, 2, 0x160)
        head += struct.pack("<QQQQ" if is_64 else "<IIII", 0x100000, 0x1000, 0x100000, 0x1000) + struct.pack("<II", 0, 16)
        for k in range(16):
            head += struct.pack("<II", *dirs.get(k, (0, 0)))
        head += struct.pack("<8sIIIIIIHHI", b".text", len(self.text), TEXT, len(text), 0x400, 0, 0, 0, 0, self.text_flags)
        head += struct.pack("<8sIIIIIIHHI", b".rdata", len(rdata), rdata_rva, len(rdata), 0x400 + len(text), 0, 0, 0, 0,
                            0x40000040)
        return bytes(head) + b"\0" * (0x400 - len(head)) + text + rdata
