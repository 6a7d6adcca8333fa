#!/usr/bin/env python3
"""Makes a PDF of many pages with real text, embedded TrueType fonts, curves, transparency and images.

    make_pdf.py pages out.pdf

The same machine gives the same file each time: nothing in it depends on the time or on chance. The text is the
licence texts of the base-files package, the fonts are DejaVu's. Only Python's standard library is used.
Exit codes: 0 good, 1 a font or text is missing, 2 wrong use.
"""
import glob
import os
import struct
import sys
import zlib

FONT_FOLDER = "/usr/share/fonts/truetype/dejavu"
TEXTS = "/usr/share/common-licenses"
LINES_PER_PAGE = 52
LINE_POINTS = 13


class Font:
    """A TrueType file and what a PDF font descriptor wants to know of it."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = f.read()
        self.name = os.path.splitext(os.path.basename(path))[0]
        count = struct.unpack(">H", self.data[4:6])[0]
        self.tables = {}
        for i in range(count):
            tag, _, offset, length = struct.unpack(">4sIII", self.data[12 + 16 * i:28 + 16 * i])
            self.tables[tag] = self.data[offset:offset + length]
        head, hhea = self.tables[b"head"], self.tables[b"hhea"]
        self.em = struct.unpack(">H", head[18:20])[0]
        self.box = [self.scaled(v) for v in struct.unpack(">4h", head[36:44])]
        self.ascent, self.descent = (self.scaled(v) for v in struct.unpack(">2h", hhea[4:8]))
        self.metrics = struct.unpack(">H", hhea[34:36])[0]
        self.glyphs = self.read_cmap()
        self.widths = [self.width(code) for code in range(32, 127)]

    def scaled(self, value):
        return value * 1000 // self.em

    def read_cmap(self):
        """Glyph of each ASCII code, from the table's format 4 part."""
        cmap = self.tables[b"cmap"]
        for i in range(struct.unpack(">H", cmap[2:4])[0]):
            platform, _, offset = struct.unpack(">HHI", cmap[4 + 8 * i:12 + 8 * i])
            part = cmap[offset:]
            if platform == 3 and struct.unpack(">H", part[:2])[0] == 4:
                return self.read_format4(part)
        sys.exit(f"make_pdf.py: {self.name} has no usable character map")

    @staticmethod
    def read_format4(part):
        n = struct.unpack(">H", part[6:8])[0] // 2
        ends = struct.unpack(f">{n}H", part[14:14 + 2 * n])
        starts = struct.unpack(f">{n}H", part[16 + 2 * n:16 + 4 * n])
        deltas = struct.unpack(f">{n}H", part[16 + 4 * n:16 + 6 * n])
        at = 16 + 6 * n
        offsets = struct.unpack(f">{n}H", part[at:at + 2 * n])
        glyphs = {}
        for code in range(32, 127):
            i = next(k for k in range(n) if ends[k] >= code)
            if starts[i] > code:
                continue
            if offsets[i] == 0:
                glyphs[code] = (code + deltas[i]) & 0xFFFF
            else:
                p = at + 2 * i + offsets[i] + 2 * (code - starts[i])
                glyphs[code] = struct.unpack(">H", part[p:p + 2])[0]
        return glyphs

    def width(self, code):
        i = min(self.glyphs.get(code, 0), self.metrics - 1)
        return self.scaled(struct.unpack(">H", self.tables[b"hmtx"][4 * i:4 * i + 2])[0])


class Pdf:
    """Objects by number, written with their cross-reference table."""

    def __init__(self):
        self.objects = []

    def add(self, body=b""):
        self.objects.append(body)
        return len(self.objects)

    def stream(self, data, extra=b""):
        packed = zlib.compress(data, 9)
        return self.add(b"<< /Length %d /Filter /FlateDecode %s >>\nstream\n%s\nendstream"
                        % (len(packed), extra, packed))

    def font(self, font):
        file = self.stream(font.data, b"/Length1 %d" % len(font.data))
        name = font.name.encode()
        descriptor = self.add(
            b"<< /Type /FontDescriptor /FontName /%s /Flags 32 /FontBBox [%d %d %d %d] /ItalicAngle 0"
            b" /Ascent %d /Descent %d /CapHeight %d /StemV 80 /FontFile2 %d 0 R >>"
            % (name, *font.box, font.ascent, font.descent, font.ascent, file))
        widths = b" ".join(b"%d" % w for w in font.widths)
        return self.add(b"<< /Type /Font /Subtype /TrueType /BaseFont /%s /FirstChar 32 /LastChar 126"
                        b" /Widths [%s] /Encoding /WinAnsiEncoding /FontDescriptor %d 0 R >>"
                        % (name, widths, descriptor))

    def bytes(self, root):
        out = bytearray(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
        places = []
        for number, body in enumerate(self.objects, 1):
            places.append(len(out))
            out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
        start = len(out)
        out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1)
        for place in places:
            out += b"%010d 00000 n \n" % place
        out += b"trailer\n<< /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, root, start)
        return bytes(out)


def text_lines():
    """The licence texts without end, ASCII only."""
    texts = [p for p in sorted(glob.glob(TEXTS + "/*")) if not os.path.islink(p)]
    if not texts:
        sys.exit(f"make_pdf.py: no texts in {TEXTS}")
    while True:
        for path in texts:
            with open(path, encoding="utf-8", errors="replace") as f:
                for line in f:
                    yield line.rstrip().expandtabs(8).encode("ascii", "replace")[:88]


def page_picture(page):
    """Curves and half-transparent boxes; another arrangement on every page."""
    out = [b"/G0 gs"]
    state = page * 2654435761 % 2**32
    for _ in range(24):
        values = []
        for _ in range(8):
            state = (state * 1664525 + 1013904223) % 2**32
            values.append(state >> 8)
        x, y, w, h = values[0] % 500, values[1] % 700, values[2] % 90 + 5, values[3] % 90 + 5
        out.append(b"%.2f %.2f %.2f rg %d %d m %d %d %d %d %d %d c f" % (
            values[4] % 100 / 100, values[5] % 100 / 100, values[6] % 100 / 100,
            x, y, x + w, y, x, y + h, x + w, y + h + values[7] % 40))
    return b"\n".join(out)


def page_content(page, lines, fonts):
    out = [b"q", page_picture(page), b"Q", b"q 120 0 0 120 440 40 cm /I%d Do Q" % (page % 3)]
    out.append(b"BT 0 g 40 800 Td %d TL" % LINE_POINTS)
    for i in range(LINES_PER_PAGE):
        escaped = next(lines).replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
        out.append(b"/F%d %d Tf (%s) Tj T*" % ((page + i // 4) % fonts, 8 + i % 3, escaped))
    out.append(b"(Page %d) Tj ET" % (page + 1))
    return b"\n".join(out)


def image(pdf, kind):
    side = 160
    pixels = bytearray()
    for y in range(side):
        for x in range(side):
            pixels += bytes(((x * (kind + 1)) & 255, (y * 2) & 255, (x * y >> 5) & 255))
    return pdf.stream(bytes(pixels), b"/Type /XObject /Subtype /Image /Width %d /Height %d"
                      b" /ColorSpace /DeviceRGB /BitsPerComponent 8" % (side, side))


def make(pages):
    fonts = [Font(p) for p in sorted(glob.glob(FONT_FOLDER + "/*.ttf")) if "Math" not in p]
    if not fonts:
        sys.exit(f"make_pdf.py: no fonts in {FONT_FOLDER}; the package fonts-dejavu-core has them")
    pdf = Pdf()
    font_refs = b" ".join(b"/F%d %d 0 R" % (i, pdf.font(f)) for i, f in enumerate(fonts))
    image_refs = b" ".join(b"/I%d %d 0 R" % (i, image(pdf, i)) for i in range(3))
    state = pdf.add(b"<< /Type /ExtGState /ca 0.35 /CA 0.35 >>")
    resources = pdf.add(b"<< /Font << %s >> /XObject << %s >> /ExtGState << /G0 %d 0 R >> >>"
                        % (font_refs, image_refs, state))
    lines = text_lines()
    contents = [pdf.stream(page_content(i, lines, len(fonts))) for i in range(pages)]
    tree = len(pdf.objects) + pages + 1
    kids = [pdf.add(b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 595 842] /Resources %d 0 R"
                    b" /Contents %d 0 R >>" % (tree, resources, c)) for c in contents]
    pdf.add(b"<< /Type /Pages /Count %d /Kids [%s] >>" % (pages, b" ".join(b"%d 0 R" % k for k in kids)))
    return pdf.bytes(pdf.add(b"<< /Type /Catalog /Pages %d 0 R >>" % tree))


def main():
    if len(sys.argv) != 3 or not sys.argv[1].isdigit() or int(sys.argv[1]) == 0:
        print("usage: make_pdf.py pages out.pdf", file=sys.stderr)
        return 2
    data = make(int(sys.argv[1]))
    with open(sys.argv[2], "wb") as f:
        f.write(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
