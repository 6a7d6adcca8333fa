"""Whole programs that nothing was tuned on, for `bench/run.py wide`: their inputs, made here and always the same, and commands.

`scripts/setup.sh bench wide` installs them; a program that is not there is named and left out. Each function below writes
what its program needs into the folder it is given (not measured), and says what to run there.
"""
import os
import pathlib
import random
import shutil
import subprocess

from programs import Job

MAKERS = {}  # name -> (needed program, function that prepares and gives the Job)


def job(name, needed):
    def add(function):
        MAKERS[name] = needed, function
        return function
    return add


def jobs(work, only):
    """The jobs whose name contains the word and whose program is installed, and the names of those left out with what they need."""
    found, absent = [], {}
    for name, (needed, make) in MAKERS.items():
        if only not in name:
            continue
        if shutil.which(needed) is None:
            absent[name] = needed
            continue
        folder = pathlib.Path(work) / name
        folder.mkdir()
        found.append(make(folder)._replace(name=name, needed=needed, folder=folder))
    return found, absent


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def run(folder, *command, **options):
    subprocess.run([str(c) for c in command], cwd=folder, check=True, stdout=subprocess.DEVNULL, **options)


def words(count, seed=1):
    """Words of a small language, a few of them often."""
    chance = random.Random(seed)
    known = ["".join(chance.choice("abcdefghijklmnoprstuw") for _ in range(chance.randint(2, 9))) for _ in range(3000)]
    return [known[int(len(known) * chance.random() ** 3)] for _ in range(count)]


# ---------------------------------------------------------------- interpreters
@job("lua", "lua5.4")
def lua(folder):
    return Job(["lua5.4", write(folder, "job.lua", """
local t, keys = {}, {}
for i = 1, 150000 do
  local k = "k" .. (i * 7919 % 40009)
  local e = t[k]
  if not e then e = { n = 0, list = {} }; t[k] = e; keys[#keys + 1] = k end
  e.n = e.n + 1
  e.list[#e.list + 1] = { i, tostring(i) .. "/" .. k }
end
table.sort(keys)
local sum, parts = 0, {}
for _, k in ipairs(keys) do
  for _, v in ipairs(t[k].list) do sum = sum + v[1] + #v[2] end
  parts[#parts + 1] = k:rep(3, "-"):gsub("k", "K")
end
local function make(d) if d == 0 then return {} end return { make(d - 1), make(d - 1) } end
local function count(n) return n[1] and 1 + count(n[1]) + count(n[2]) or 1 end
for i = 1, 10 do sum = sum + count(make(14)) end
print(sum, #table.concat(parts, ","))
""")])


@job("ruby", "ruby")
def ruby(folder):
    return Job(["ruby", write(folder, "job.rb", """
require 'json'
Item = Struct.new(:name, :tags, :value)
items = (0...60000).map { |i| Item.new("item number #{i} of many, not embedded", ["t#{i % 97}", "u#{i % 31}"], i * 0.5) }
groups = items.group_by { |x| x.tags[0] }
text = JSON.generate(items.map { |x| { name: x.name, tags: x.tags, value: x.value } })
back = JSON.parse(text)
lines = text.scan(/[a-z]+ number [0-9]+5/).map(&:upcase)
threads = (0...4).map { |n| Thread.new { (0...20000).map { |i| "thread #{n} makes string #{i} to sort" }.sort.last } }
index = Hash.new { |h, k| h[k] = [] }
items.each { |x| x.name.each_char.each_slice(3) { |s| index[s.join] << x.value if s.size == 3 && s[0] == '1' } }
puts groups.size, back.size, lines.size, threads.map(&:value), index.size
""")])


@job("php", "php")
def php(folder):
    return Job(["php", "-n", write(folder, "job.php", r"""<?php
ini_set('memory_limit', '-1');
class Node { public $kids = []; public $name; function __construct($n) { $this->name = "node " . $n; } }
$all = []; $root = new Node(0); $all[] = $root;
for ($i = 1; $i < 250000; $i++) { $n = new Node($i); $all[intdiv($i, 3)]->kids[] = $n; $all[] = $n; }
$text = ""; $index = [];
for ($i = 0; $i < 400000; $i++) { $w = substr(md5((string)($i % 5003)), 0, 6); $index[$w][] = $i; $text .= $w . " "; }
$parts = explode(" ", $text); sort($parts); $unique = array_unique($parts);
$copy = unserialize(serialize($index));
function depth($n) { $d = 0; foreach ($n->kids as $k) $d = max($d, depth($k)); return $d + 1; }
echo depth($root), " ", count($unique), " ", count($copy), " ", strlen(preg_replace('/[a-f]+/', '<$0>', $text)), "\n";
""")], {"USE_ZEND_ALLOC": "0"})


@job("node", "node")
def node(folder):
    return Job(["node", write(folder, "job.js", """
const { Worker, isMainThread, parentPort } = require('worker_threads');
const zlib = require('zlib'), crypto = require('crypto');
function work(seed) {
  const list = [];
  for (let i = 0; i < 40000; i++) list.push({ id: i * seed, name: 'name ' + (i * 7919 % 30011), tags: ['a' + i % 7, 'b' + i % 13] });
  const back = JSON.parse(JSON.stringify(list));
  const packed = [];
  for (let i = 0; i < 300; i++) packed.push(zlib.deflateSync(Buffer.from(JSON.stringify(back.slice(i * 100, i * 100 + 100)))));
  const hash = crypto.createHash('sha256');
  for (const p of packed) hash.update(zlib.inflateSync(p));
  const buffers = [];
  for (let i = 0; i < 20000; i++) { const b = Buffer.allocUnsafeSlow(50 + i * 37 % 4000); b[0] = i; buffers[i % 2000] = b; }
  return hash.digest('hex') + buffers.length;
}
if (isMainThread) {
  const results = [];
  for (const n of [1, 2]) {
    const w = new Worker(__filename, { env: { N: String(n) } });
    w.on('message', (m) => { results.push(m); if (results.length === 2) console.log(results.sort().join(), work(3)); });
  }
} else parentPort.postMessage(work(Number(process.env.N)));
""")])


@job("gawk", "gawk")
def gawk(folder):
    text = " ".join(words(500000)).replace(" t", "\nt")
    return Job(["gawk", """
{ for (i = 1; i <= NF; i++) { n[$i]++; follows[last, $i]++; where[$i] = where[$i] " " NR; last = $i } }
END { for (w in where) { m = split(where[w], part, " "); s += m; l += length(toupper(w)) }
  k = asorti(n, order); for (i = 1; i <= k && i < 20; i++) print order[i], n[order[i]]; print s, l, length(follows) }
""", write(folder, "text", text)])


@job("octave", "octave-cli")
def octave(folder):
    return Job(["octave-cli", "--norc", "--no-history", write(folder, "job.m", """
s = struct(); c = {};
for i = 1:8000
  s.(sprintf('f%d', mod(i, 500))) = rand(1, 10) * 0 + i;
  c{end + 1} = sprintf('%d,', 1:mod(i, 30));
end
t = strjoin(c, ';'); p = strsplit(t, ';'); q = regexprep(t, '([0-9])', '<$1>');
a = reshape(mod((1:250000) * 7919, 1009), 500, 500);
b = a * a' + eye(500); x = b \\ a(:, 1); m = sort(a(:) .* 2 + 1);
k = cellfun(@(v) numel(v) + 1, p);
for i = 1:300 v = cumsum(a(:, mod(i, 500) + 1)); w = [v; v]; m(i) = sum(w); end
printf('%d %d %d %d %d\\n', numel(fieldnames(s)), numel(p), numel(q), sum(k), sum(m));
""")], {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})


@job("R", "R")
def gnu_r(folder):
    return Job(["R", "--vanilla", "--no-echo", "-f", write(folder, "job.R", """
n <- 60000
d <- data.frame(k = sprintf("g%d", (1:n * 7919) %% 997), v = (1:n * 31) %% 1009, stringsAsFactors = FALSE)
a <- aggregate(v ~ k, d, mean)
l <- split(d$v, d$k); m <- vapply(l, function(x) sum(x) / length(x), 0)
s <- vapply(1:n, function(i) paste0(d$k[i], "-", i), ""); g <- gsub("[0-9]", "x", s); u <- unique(substr(s, 1, 4))
f <- lm(v ~ n + w, data.frame(v = d$v, n = 1:n, w = d$k %in% c("g1", "g2")))
q <- do.call(rbind, lapply(1:400, function(i) data.frame(i = i, s = sum(l[[i]]))))
e <- new.env(); for (i in 1:20000) assign(s[i], list(i, s[i]), envir = e)
cat(nrow(a), length(m), length(u), nchar(paste(g, collapse = "")), nrow(q), length(ls(e)), round(coef(f)[1]), "\\n")
""")])


# ---------------------------------------------------------------- documents and pictures
def postscript(pages):
    text = words(pages * 600, 2)
    lines = ["%!PS", "/F /Times-Roman findfont 9 scalefont def /G /Helvetica-Bold findfont 14 scalefont def"]
    for page in range(pages):
        lines.append(f"G setfont 50 760 moveto (Page {page}) show F setfont")
        for row in range(40):
            at = page * 600 + row * 15
            lines.append(f"50 {740 - row * 12} moveto ({' '.join(text[at:at + 15])}) show")
        lines.append("gsave 300 140 translate 0 1 180 { pop 2 rotate newpath 0 0 moveto 90 20 110 60 120 0 curveto "
                     "currentpoint 4 0 360 arc closepath gsave rand 100 mod 100 div 0.5 0.7 setrgbcolor fill grestore stroke } for grestore showpage")
    return "\n".join(lines)


@job("gs-render", "gs")
def gs_render(folder):
    return Job(["gs", "-q", "-dBATCH", "-dNOPAUSE", "-sDEVICE=ppmraw", "-r100", "-dTextAlphaBits=4", "-dGraphicsAlphaBits=4",
                "-dNumRenderingThreads=2", "-dMaxBitmap=100000", "-dBufferSpace=1000000", "-sOutputFile=page.ppm%03d",
                write(folder, "in.ps", postscript(6))], product="page.ppm003")


@job("gs-pdf", "gs")
def gs_pdf(folder):  # the file holds a date and a number, so it is not compared
    return Job(["gs", "-q", "-dBATCH", "-dNOPAUSE", "-sDEVICE=pdfwrite", "-sOutputFile=out.pdf", write(folder, "in.ps", postscript(60))], is_stable=False)


def pdf(pages):
    """A PDF of text, written by hand."""
    text = words(pages * 1500, 3)
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", None, "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in range(pages):
        rows = [" ".join(text[page * 1500 + r * 20:page * 1500 + r * 20 + 20]) for r in range(75)]
        stream = "BT /F 8 Tf 10 TL 40 780 Td\n" + "".join(f"({r}) Tj T*\n" for r in rows) + "ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {len(objects)} 0 R "
                       "/Resources << /Font << /F 3 0 R >> >> >>")
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Count {pages} /Kids [{' '.join(kids)}] >>"
    out, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n" + "".join(f"{p:010d} 00000 n \n" for p in places)
    return f"{out}{table}trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"


@job("pdftotext", "pdftotext")
def pdftotext(folder):
    return Job(["pdftotext", "-layout", write(folder, "in.pdf", pdf(300)), "-"])


@job("mutool", "mutool")
def mutool(folder):
    return Job(["mutool", "draw", "-q", "-T", "2", "-B", "64", "-r", "150", "-F", "ppm", "-o", "page.ppm%d", write(folder, "in.pdf", pdf(12))],
               product="page.ppm7")


@job("rsvg", "rsvg-convert")
def rsvg(folder):
    chance = random.Random(4)
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="900" height="900"><defs><filter id="b"><feGaussianBlur stdDeviation="3"/></filter></defs>']
    for i in range(6000):
        x, y = chance.randint(0, 899), chance.randint(0, 899)
        kind = i % 3
        if kind == 0:
            parts.append(f'<g style="fill:#{i * 7919 % 0xffffff:06x};opacity:.6"><path d="M{x} {y}' + "".join(
                f" q{chance.randint(-20, 20)} {chance.randint(-20, 20)} {chance.randint(-30, 30)} {chance.randint(-30, 30)}" for _ in range(8)) + 'z"/></g>')
        elif kind == 1:
            parts.append(f'<circle class="c{i % 9}" cx="{x}" cy="{y}" r="{i % 23}" stroke="black" fill="none"/>')
        else:
            parts.append(f'<rect x="{x}" y="{y}" width="20" height="9" transform="rotate({i % 360} {x} {y})"'
                         + (' filter="url(#b)"' if i % 60 == 2 else "") + "/>")
    return Job(["rsvg-convert", "-o", "out.png", write(folder, "in.svg", "\n".join(parts) + "</svg>")], product="out.png")


@job("gm", "gm")
def gm(folder):
    run(folder, "gm", "convert", "-size", "900x700", "gradient:red-blue", "+noise", "Gaussian", "in.ppm")
    return Job(["gm", "convert", "in.ppm", "-resize", "1400x1100", "-blur", "0x2", "-rotate", "7", "-colors", "64", "-resize", "50%", "out.ppm"],
               {"OMP_NUM_THREADS": "2", "MAGICK_CONFIGURE_PATH": str(folder)})


@job("ffmpeg", "ffmpeg")
def ffmpeg(folder):
    return Job(["ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=size=480x270:rate=25:duration=3", "-vf", "scale=640:360,hflip",
                "-c:v", "libx264", "-preset", "veryfast", "-threads", "2", "-f", "framemd5", "-"])


@job("dot", "dot")
def dot(folder):
    chance = random.Random(5)
    edges = "".join(f'n{i} -> n{chance.randint(max(0, i - 40), i - 1)} [label="e{i}"];\n' for i in range(1, 700) for _ in range(1 + i % 2))
    return Job(["dot", "-Tsvg", write(folder, "in.dot", "digraph g { node [shape=record];\n" + edges + "}\n")])


@job("gnuplot", "gnuplot")
def gnuplot(folder):
    return Job(["gnuplot", write(folder, "job.gp", """
set terminal svg size 900,700
set dgrid3d 60,60
set contour both
splot 'data' using 1:2:3 with lines
unset dgrid3d
plot for [i=1:120] 'data' using 1:(column(3) + i * 0.1) smooth bezier title sprintf('curve %d', i)
""")], stdin=write(folder, "data", "".join(f"{i % 50} {i // 50} {i * 7919 % 101 / 50}\n" for i in range(2500))))


# ---------------------------------------------------------------- data
@job("xsltproc", "xsltproc")
def xsltproc(folder):
    rows = "".join(f'<item id="i{i}" group="g{i * 7919 % 307}"><name>{w}</name><text>{w} &amp; more of it</text><v>{i % 977}</v></item>\n'
                   for i, w in enumerate(words(60000, 6)))
    write(folder, "in.xml", f"<all>{rows}</all>")
    return Job(["xsltproc", write(folder, "job.xsl", """<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
<xsl:key name="g" match="item" use="@group"/>
<xsl:template match="/all"><html><xsl:for-each select="item[count(. | key('g', @group)[1]) = 1]">
<xsl:sort select="@group"/><h1><xsl:value-of select="concat(@group, ': ', sum(key('g', @group)/v))"/></h1>
<xsl:for-each select="key('g', @group)"><xsl:sort select="v" data-type="number"/>
<p title="{@id}"><xsl:value-of select="translate(normalize-space(text), 'abc', 'ABC')"/></p></xsl:for-each>
</xsl:for-each></html></xsl:template></xsl:stylesheet>
"""), "in.xml"])


@job("xmllint", "xmllint")
def xmllint(folder):
    rows = "".join(f'<r n="{i}"><a x="{w}">{w}</a><b><c/>{i}</b></r>\n' for i, w in enumerate(words(250000, 7)))
    return Job(["xmllint", "--format", "--c14n", write(folder, "in.xml", f"<t>{rows}</t>")])


@job("jq", "jq")
def jq(folder):
    rows = ",\n".join(f'{{"id": {i}, "name": "{w}", "tags": ["a{i % 7}", "{w[:2]}"], "in": {{"x": {i % 977}, "y": null}}}}'
                      for i, w in enumerate(words(30000, 8)))
    return Job(["jq", "-c", "map(select(.in.x > 100)) | group_by(.tags[1]) | map({k: .[0].tags[1], n: length, m: (map(.in.x) | add), "
                "names: (map(.name | ascii_upcase) | unique | join(\"-\"))}) | sort_by(.n)", write(folder, "in.json", f"[{rows}]")])


@job("postgres", "/usr/lib/postgresql/15/bin/postgres")
def postgres(folder):
    binaries = pathlib.Path("/usr/lib/postgresql/15/bin")
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []  # it refuses root
    for path in (folder, folder.parent):
        path.chmod(0o755)
    if other:
        os.chown(folder, 65534, 65534)
    run(folder, *other, binaries / "initdb", "-D", folder / "db", "-U", "b", "-N", "--no-locale", "-A", "trust", env={"PATH": os.environ["PATH"], "TZ": "UTC"})
    sql = ["create temp table t as select i, 'name ' || (i * 7919 % 30011) as name, (i * 31 % 1009)::numeric as v from generate_series(1, 120000) i;",
           "select name, count(*), sum(v) from t group by name order by 3 desc, 1 limit 5;",
           "select count(distinct upper(name)), max(length(repeat(name, 3))) from t;",
           "select jsonb_object_agg(name, v)::text = 'x', count(*) from t where i < 40000;",
           "select count(*) from t a join t b on a.name = b.name and a.i < b.i;",
           "do $$ declare s text := ''; begin for n in 1..20000 loop s := s || n::text; if length(s) > 2000 then s := ''; end if; end loop; end $$;"]
    sql += [f"select count(*) from t where i % {n} = 0 and name like 'name {n}%';" for n in range(1, 9)]
    return Job([*other, binaries / "postgres", "--single", "-D", folder / "db", "-c", "fsync=off", "-c", "shared_buffers=4MB", "-c", "work_mem=64MB", "postgres"],
               {"TZ": "UTC"}, stdin=write(folder, "job.sql", "\n".join(sql) + "\n"))


@job("rocksdb", "db_bench")
def rocksdb(folder):  # prints how fast it was, so nothing is compared
    return Job(["db_bench", "--benchmarks=fillrandom,overwrite,compact,readrandom,readseq", "--num=60000", "--value_size=400", "--threads=2",
                "--db=data", "--seed=7", "--cache_size=8000000", "--write_buffer_size=4000000", "--compression_type=none"], clean=("data",), is_stable=False)


def text_file(folder, count):
    return write(folder, "text", " ".join(words(count, 9)))


@job("pigz", "pigz")
def pigz(folder):
    return Job(["pigz", "-p2", "-n", "-c", text_file(folder, 3000000)])


@job("zstd", "zstd")
def zstd(folder):
    return Job(["zstd", "-q", "-T2", "-7", "-c", text_file(folder, 3000000)])


@job("qemu-img", "qemu-img")
def qemu_img(folder):
    with open(folder / "disk", "wb") as f:
        block = random.Random(10).randbytes(4096) + bytes(4096)
        for i in range(6000):
            f.write(block[i % 4096:] + block[:i % 4096])
    return Job(["qemu-img", "convert", "-c", "-O", "qcow2", "-m", "8", "disk", "out.qcow2"], product="out.qcow2")


@job("git-log", "git")
def git_log(folder):
    lines = words(4000, 11)
    chance, stream = random.Random(12), []
    for n in range(600):
        for _ in range(20):
            lines[chance.randrange(len(lines))] = f"line {n}"
        body = "\n".join(lines) + "\n"
        stream.append(f"commit refs/heads/main\nmark :{n + 1}\ncommitter b <b@example.invalid> {1700000000 + n * 60} +0000\ndata 6\nchange\n"
                      + (f"from :{n}\n" if n else "") + f"M 100644 inline file{n % 3}\ndata {len(body)}\n{body}\n")
    run(folder, "git", "init", "-q", "-b", "main", "repo")
    run(folder / "repo", "git", "fast-import", "--quiet", input="".join(stream).encode())
    return Job(["git", "-C", folder / "repo", "log", "-p", "--stat", "-w", "--histogram", "main"])


@job("git-blame", "git")
def git_blame(folder):
    git_log(folder)
    return Job(["git", "-C", folder / "repo", "blame", "-M", "-C", "main", "--", "file1"])


# ---------------------------------------------------------------- compilers, linkers, builders
TEMPLATES = """#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>
template <int N> struct Row { std::map<std::string, std::variant<int, std::vector<Row<N - 1>>>> cells; };
template <> struct Row<0> { int last; };
template <int N> int use(Row<N> &r) {
    std::unordered_map<int, std::function<int(int)>> f;
    for (auto &[k, v] : r.cells)
        if (auto *p = std::get_if<int>(&v)) f[*p] = [k = k](int x) { return x + int(k.size()) + N; };
    std::vector<std::shared_ptr<Row<N>>> all(3, std::make_shared<Row<N>>(r));
    std::sort(all.begin(), all.end(), [](auto &a, auto &b) { return a->cells.size() < b->cells.size(); });
    return int(f.size() + all.size());
}
"""


def templates(folder, depth):
    return write(folder, "t.cpp", TEMPLATES + "int main() { int s = 0;" + "".join(f"{{ Row<{i}> r; s += use(r); }}" for i in range(1, depth)) + " return s; }")


@job("clang++", "clang++-19")
def clang_templates(folder):
    return Job(["clang++-19", "-std=c++17", "-O1", "-c", templates(folder, 8), "-o", "t.o"], product="t.o")


@job("g++", "g++")
def gcc_templates(folder):
    return Job(["g++", "-std=c++17", "-O0", "-g", "-c", templates(folder, 8), "-o", "t.o"], product="t.o")


@job("rustc", "/usr/bin/rustc")
def rustc(folder):
    parts = ["use std::collections::HashMap;"]
    for i in range(30):
        parts.append(f"#[derive(Debug, Clone, PartialEq, Default)] pub struct S{i} {{ a: Vec<u{8 << i % 4}>, b: Option<String>, c: HashMap<String, i32> }}\n"
                     f"impl S{i} {{ pub fn go(&mut self, n: usize) -> usize {{ for k in 0..n {{ self.a.push(k as u{8 << i % 4}); "
                     f"*self.c.entry(format!(\"k{{}}\", k % {i + 2})).or_insert(0) += 1; }} "
                     f"self.b.iter().map(|s| s.len()).sum::<usize>() + self.a.iter().filter(|x| **x as usize > {i}).count() }} }}")
    parts.append("pub fn all() -> usize { " + " + ".join(f"S{i}::default().go({i})" for i in range(30)) + " }")
    return Job(["/usr/bin/rustc", "--crate-type=lib", "--emit=obj", "-Ccodegen-units=2", "-Copt-level=1", "-o", "out.o", write(folder, "in.rs", "\n".join(parts))])


@job("ocamlopt", "ocamlopt.opt")
def ocamlopt(folder):
    parts = []
    for i in range(350):
        parts.append(f"type t{i} = A{i} | B{i} of int * string | C{i} of t{i} list\n"
                     f"let rec f{i} x = match x with A{i} -> {i} | B{i} (n, s) -> n * String.length s + {i} | C{i} l -> List.fold_left (fun a y -> a + f{i} y) 0 l\n"
                     f"module M{i} = Map.Make (struct type t = int * string let compare = compare end)\n"
                     f"let g{i} l = List.fold_left (fun m (k, v) -> M{i}.add (k, string_of_int k) (f{i} v) m) M{i}.empty l")
    return Job(["ocamlopt.opt", "-c", "-inline", "50", write(folder, "in.ml", "\n".join(parts))], product="in.o")


@job("javac", "javac")
def javac(folder):
    parts = ["import java.util.*; import java.util.function.*; import java.util.stream.*; class In {"]
    for i in range(40):
        parts.append(f"static Map<String, List<Integer>> m{i}(Collection<Integer> c) {{ Function<Integer, String> f = x -> \"k\" + x % {i + 2}; "
                     f"return c.stream().filter(x -> x > {i}).map(x -> x * {i + 1}).collect(Collectors.groupingBy(f, TreeMap::new, Collectors.toList())); }}")
    return Job(["javac", "-J-XX:+UseSerialGC", "-J-Xmx256m", write(folder, "In.java", "\n".join(parts) + "}")], product="In.class")


def objects(folder, count):
    """Object files with many symbols, relocations, strings and sections, that need each other."""
    names = []
    for n in range(count):
        rows = [".section .rodata.str1.1,\"aMS\",@progbits,1"]
        rows += [f".L{i}: .string \"message {i * 7919 % 5003} of some length\"" for i in range(1500)]
        for i in range(1500):
            rows.append(f".section .text.f_{n}_{i},\"ax\",@progbits\n.globl f_{n}_{i}\nf_{n}_{i}: lea .L{i}(%rip), %rdi\n"
                        f"call f_{(n + 1) % count}_{i * 31 % 1500}\nret")
        source = write(folder, f"o{n}.s", "\n".join(rows) + "\n")
        run(folder, "as", "-o", f"o{n}.o", source)
        names.append(f"o{n}.o")
    return names


@job("ld", "ld.bfd")
def ld(folder):
    return Job(["ld.bfd", "-e", "f_0_0", "-O2", "--gc-sections", "-o", "out", *objects(folder, 150)], product="out")


@job("lld", "ld.lld-19")
def lld(folder):
    return Job(["ld.lld-19", "-e", "f_0_0", "-O2", "--threads=2", "-o", "out", *objects(folder, 150)], product="out")


@job("gdb", "gdb")
def gdb(folder):
    run(folder, "g++", "-std=c++17", "-g", "-o", "prog", templates(folder, 16))
    return Job(["gdb", "-batch", "-nx", "-ex", "info functions vector", "-ex", "info types .", "-ex", "break main", "-ex", "ptype Row<3>", "prog"])


@job("cmake", "cmake")
def cmake(folder):
    write(folder, "CMakeLists.txt", """cmake_minimum_required(VERSION 3.20)
project(wide NONE)
foreach(i RANGE 700)
    string(REPEAT "part${i};" 20 list)
    list(REMOVE_DUPLICATES list)
    list(TRANSFORM list APPEND ".txt")
    configure_file(in.txt out/${i}.txt)
    math(EXPR before "${i} - 1")
    add_custom_command(OUTPUT gen${i} COMMAND ${CMAKE_COMMAND} -E touch gen${i} DEPENDS in.txt ${list})
    add_custom_target(t${i} DEPENDS gen${i})
    if(i GREATER 0)
        add_dependencies(t${i} t${before})
    endif()
endforeach()
""")
    write(folder, "in.txt", "${i} and ${list}\n")
    return Job(["cmake", "-G", "Ninja", "-S", ".", "-B", "build"], product="build/out/77.txt", clean=("build",))


@job("ninja", "ninja")
def ninja(folder):
    rows = ["rule cc", " command = cc $in -o $out $flags", " description = CC $out", "flags = -O2 -Wall"]
    for i in range(60000):
        rows.append(f"build dir{i % 97}/out{i}.o: cc src{i % 977}.c | dir{(i + 1) % 97}.h || order{i % 31}\n flags = -O2 -DN={i}")
    rows += [f"build order{i}: phony" for i in range(31)] + [f"build dir{i}.h: phony" for i in range(97)] + [f"build src{i}.c: phony" for i in range(977)]
    return Job(["ninja", "-n", "-f", write(folder, "build.ninja", "\n".join(rows) + "\n")])


@job("bison", "bison")
def bison(folder):
    rules = "".join(f"s{i}: s{i + 1} | s{i} T{i % 60} s{i + 1} | T{(i + 7) % 60} s{i * 7 % 400} T{(i + 3) % 60} ;\n" for i in range(400))
    tokens = " ".join(f"T{i}" for i in range(60))
    return Job(["bison", "-o", "out.c", write(folder, "in.y", f"%token {tokens} NUM\n%%\nstart: s0;\n{rules}s400: NUM | '(' s0 ')' ;\n")], product="out.c")


# ---------------------------------------------------------------- solvers and circuits
@job("minisat", "minisat")
def minisat(folder):
    chance = random.Random(13)
    clauses = ["{} {} {} 0".format(*(v if chance.random() < 0.5 else -v for v in chance.sample(range(1, 231), 3))) for _ in range(985)]
    return Job(["minisat", "-verb=0", "in.cnf", "out"], product="out", codes=(10, 20),
               stdin=write(folder, "in.cnf", f"p cnf 230 {len(clauses)}\n" + "\n".join(clauses) + "\n"))


@job("cvc5", "cvc5")
def cvc5(folder):
    rows = ["(set-logic QF_UFLIA)", "(declare-fun f (Int) Int)"] + [f"(declare-const x{i} Int)" for i in range(90)]
    rows += [f"(assert (and (> x{i} {i % 5}) (< x{i} {40 + i})))" for i in range(90)]
    rows += [f"(assert (or (= (f (+ x{i} x{(i + 1) % 90})) (- (f x{(i + 2) % 90}) {i})) (> (f x{i}) (+ x{(i * 7) % 90} {i}))))" for i in range(90)]
    rows += ["(assert (distinct " + " ".join(f"x{i}" for i in range(90)) + "))", "(check-sat)"]
    return Job(["cvc5", write(folder, "in.smt2", "\n".join(rows))])


def circuit(stages):
    rows = ["module top(input clk, input [31:0] a, output reg [31:0] y);"]
    rows += [f"reg [31:0] r{i};" for i in range(stages + 1)] + ["always @(posedge clk) begin r0 <= a;"]
    rows += [f"r{i + 1} <= (r{i} + 32'd{i * 7919 % 65521}) ^ (r{i} << {i % 31}) ^ (r{i}[{i % 32}] ? r{i // 2} : {{r{i}[15:0], r{i}[31:16]}});" for i in range(stages)]
    return "\n".join(rows + [f"y <= r{stages}; end endmodule"]) + "\n"


@job("yosys", "yosys")
def yosys(folder):
    write(folder, "in.v", circuit(24))
    return Job(["yosys", "-q", "-p", "read_verilog in.v; synth -top top -noabc; write_verilog -noattr out.v"], product="out.v")


@job("verilator", "verilator_bin")
def verilator(folder):
    write(folder, "in.v", circuit(3000))
    return Job(["verilator_bin", "--cc", "-O3", "--top-module", "top", "--Mdir", "out", "-Wno-fatal", "-Wno-WIDTH", "in.v"], {"VERILATOR_ROOT": "/usr/share/verilator"},
               product="out/Vtop___024root__DepSet_h84412442__0.cpp")


@job("iverilog", "vvp")
def iverilog(folder):
    write(folder, "in.v", circuit(60) + "module bench; reg clk = 0; reg [31:0] a = 1; wire [31:0] y; top t(clk, a, y); integer i;\n"
          "initial begin for (i = 0; i < 15000; i = i + 1) begin a = a * 31 + i; #1 clk = 1; #1 clk = 0; end $display(\"%h\", y); end endmodule\n")
    run(folder, "iverilog", "-o", "sim", "in.v")
    return Job(["vvp", "-n", "sim"])


@job("ngspice", "ngspice")
def ngspice(folder):
    rows = ["ladder", "v1 n0 0 sin(0 5 10k)"]
    for i in range(300):
        rows.append(f"r{i} n{i} n{i + 1} {100 + i}\nc{i} n{i + 1} 0 1n\nd{i} n{i + 1} 0 dm")
    return Job(["ngspice", "-b", "in.cir"], stdin=write(folder, "in.cir", "\n".join(rows) + "\n.model dm d(is=1e-14)\n.tran 1u 2m\n.print tran v(n3) v(n9)\n.end\n"),
               is_stable=False)


@job("swipl", "swipl")
def swipl(folder):  # Debian's is linked with tcmalloc, so that is what the column of glibc shows
    return Job(["swipl", "-q", "-g", "main,halt", write(folder, "job.pl", """
:- dynamic fact/3.
fill(N) :- forall(between(1, N, I), (K is I * 7919 mod 5003, atom_concat(key_, K, A), assertz(fact(A, I, [I, K])))).
half(I, S) :- atom_concat(key_, I, A), findall(V, fact(A, V, _), L), sum_list(L, S).
main :- fill(150000), numlist(1, 2000, Ns), first_solution(_, [true], []), concurrent_maplist(half, Ns, Ss), sum_list(Ss, S),
    findall(X-Y, (fact(X, Y, _), Y mod 3 =:= 0), Ps), msort(Ps, Qs), length(Qs, N),
    retractall(fact(_, _, _)), garbage_collect_atoms, print(S-N), nl.
""")])
