"""The whole programs of `bench/run.py programs`: their inputs and commands. Those of `bench/run.py wide` are in wide.py."""
import os
import pathlib
import shutil
import subprocess
import sys
import typing


class Job(typing.NamedTuple):
    command: list                # None: the redis server, which needs more than a command
    extra: dict = {}             # environment variables
    stdin: str = None            # a file
    product: str = None          # a file it makes, which must be the same under every allocator, as its output must
    clean: tuple = ()            # what of an earlier run is removed before each
    is_stable: bool = True       # its output is the same in every run
    codes: tuple = (0,)          # exit codes that mean success
    name: str = None
    needed: str = None           # the program that must be installed
    folder: pathlib.Path = None  # where it runs

    def reset(self):
        """Removes what an earlier run has made."""
        for name in [*self.clean, *([self.product] if self.product else [])]:
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


PYTHON_JOB = """
import json, re, collections
d = {}
for i in range(120000):
    d['key%d' % i] = [i, str(i) * (i % 7), {'a': i}]
s = json.dumps(d)
e = json.loads(s)
c = collections.Counter(re.findall(r'[0-9]{3}', s))
t = sorted((str(k), v) for k, v in c.items())
print(len(e), len(t))
"""
SQL_JOB = """
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, value REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
INSERT INTO t SELECT i, printf('name-%d-%d', i * 7919 % 300007, i), i * 0.5 FROM n;
CREATE INDEX t_name ON t(name);
SELECT count(*), max(name) FROM t WHERE name > 'name-2';
SELECT substr(name, 1, 8) AS k, count(*), avg(value) FROM t GROUP BY k ORDER BY k LIMIT 5;
"""
PERL_JOB = r"""
my %h; for my $i (1..300000) { push @{$h{"k" . ($i * 7919 % 65537)}}, "value $i" x ($i % 5); }
my $n = 0; for my $k (sort keys %h) { $n += length(join(",", @{$h{$k}})); } print "$n\n";
"""
Z3_JOB = """
(declare-fun a (Int) Int) (declare-const x Int) (declare-const y Int) (declare-const z Int)
(assert (and (> x 2) (> y 2) (> z 2) (< x 90) (< y 90) (< z 90)))
(assert (= (+ (* x x) (* y y)) (+ (* z z) 7)))
(assert (= (a (+ x y)) (+ z (a x)))) (assert (distinct x y z))
(check-sat)
"""


def c_source():
    lines = ["#include <stdio.h>", "#include <string.h>"]
    for i in range(300):
        lines.append(f"static int f{i}(int a, int b) {{ int s = 0; for (int i = 0; i < a; i++) {{ "
                     f"if ((i * {i + 3}) % 7 == b % 5) s += i ^ {i}; else s -= b * (i + {i % 13}); }} return s; }}")
    lines.append("int main(int c, char **v) { int s = c; (void)v;")
    lines += [f"s += f{i}(s & 31, {i});" for i in range(300)]
    lines.append('printf("%d\\n", s); return 0; }')
    return "\n".join(lines)


def jobs(work, only):
    """The jobs whose name contains the word and whose program is installed, and the names of those left out with what they need."""
    found = [job._replace(folder=work) for job in program_list(work) if only in job.name]
    absent = {job.name: job.needed for job in found if shutil.which(job.needed) is None}
    return [job for job in found if job.name not in absent], absent


def program_list(work):
    (work / "job.py").write_text(PYTHON_JOB)
    (work / "job.sql").write_text(SQL_JOB)
    (work / "job.pl").write_text(PERL_JOB)
    (work / "job.smt2").write_text(Z3_JOB)
    (work / "big.c").write_text(c_source())
    with open(work / "text.bin", "wb") as f:
        state = 12345
        for _ in range(120000):
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            f.write(b"line %d of text with words %x\n" % (state % 5000, state % 977))
    repo = work / "repo"
    repo.mkdir()
    git = ["git", "-C", str(repo), "-c", "user.name=b", "-c", "user.email=b@example.invalid"]
    subprocess.run([*git, "init", "-q"], check=True)
    for i in range(3000):
        (repo / f"f{i}").write_text(f"file {i}\n" + "".join(f"{i} {j * i}\n" for j in range(100)))
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "all"], check=True)
    clang = shutil.which("clang-19") or shutil.which("clang") or "clang"
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    return [
        Job([python, work / "job.py"], {"PYTHONMALLOC": "malloc"}, name="python", needed="python3"),
        Job(["sqlite3", ":memory:"], stdin=work / "job.sql", name="sqlite", needed="sqlite3"),
        Job(["perl", work / "job.pl"], name="perl", needed="perl"),
        Job([clang, "-O1", "-c", work / "big.c", "-o", work / "big.o"], name="clang", needed=clang, product="big.o"),
        Job(["gcc", "-O1", "-c", work / "big.c", "-o", work / "big2.o"], name="gcc", needed="gcc", product="big2.o"),
        Job(["z3", work / "job.smt2"], name="z3", needed="z3"),
        Job([*git, "repack", "-adfq", "--threads=2"], name="git-repack", needed="git"),
        Job(["xz", "-T2", "-3", "-k", "-c", work / "text.bin"], name="xz", needed="xz"),
        Job(None, name="redis", needed="redis-server"),  # see redis_once in run.py
    ]
