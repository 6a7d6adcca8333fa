#!/usr/bin/env python3
"""Runs one unmodified program with and without the allocator preloaded and compares everything it put out.

usage: run_preload.py --library LIBMIMALLOC.SO --work DIR [--full] CASE

The allocator must not be noticed, except by its statistics: with MIMALLOC_SHOW_STATS=1 the process has to report
that it served allocations. Exit code 0: same output, allocator was there; 1: not so, with the reason; 2: wrong
arguments; 3: a program is missing.
"""
import argparse
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys

ALLOCATIONS = re.compile(rb"^ +allocations +(\d+)", re.M)


class Failure(Exception):
    """What is wrong, as a sentence."""


class Case:
    def __init__(self, work, library, is_full):
        self.work = work
        self.library = library
        self.is_full = is_full
        self.served = 0

    def need(self, program):
        path = shutil.which(program, path="/usr/bin:/bin:/usr/sbin:/sbin")
        if path is None:
            print(f"{program} is missing; it comes from a Debian package in scripts/packages.txt, see scripts/setup.sh")
            sys.exit(3)
        return path

    def environment(self, is_preloaded, extra=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MIMALLOC_", "MI_", "LD_"))}
        env["LC_ALL"] = "C"
        env.update(extra or {})
        if is_preloaded:
            env["LD_PRELOAD"] = str(self.library)
            env["MIMALLOC_SHOW_STATS"] = "1"
        return env

    def count(self, stderr, what):
        """Adds up the allocations that the processes of one run report, and takes the reports out of stderr."""
        found = [int(n) for n in ALLOCATIONS.findall(stderr)]
        if not found or max(found) == 0:
            raise Failure(f"{what}: no process reported allocations, the allocator was not there; stderr:\n"
                          + stderr.decode(errors="replace")[-2000:])
        self.served += sum(found)

    def both(self, command, extra=None, stdin=b"", compare_stderr=False):
        """The command without and with the allocator: same exit code, same output."""
        results = []
        for is_preloaded in (False, True):
            result = subprocess.run(command, input=stdin, capture_output=True, cwd=self.work, timeout=240,
                                    env=self.environment(is_preloaded, extra))
            if result.returncode != 0:
                raise Failure(f"{command[0]}: exit code {result.returncode}, preloaded: {is_preloaded}; stderr:\n"
                              + result.stderr.decode(errors="replace")[-2000:])
            results.append(result)
        self.count(results[1].stderr, command[0])
        if results[0].stdout != results[1].stdout:
            raise Failure(f"{command[0]}: another output with the allocator: {len(results[0].stdout)} and "
                          f"{len(results[1].stdout)} bytes")
        if b"mimalloc: error" in results[1].stderr or b"mimalloc: warning" in results[1].stderr:
            raise Failure(f"{command[0]}: the allocator complained:\n" + results[1].stderr.decode(errors="replace")[-2000:])
        return results[0].stdout

    def same_file(self, make):
        """make(is_preloaded, path) writes a file; both must be equal."""
        digests = []
        for is_preloaded in (False, True):
            path = self.work / f"out-{is_preloaded}"
            make(is_preloaded, path)
            digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
        if digests[0] != digests[1]:
            raise Failure("the files written with and without the allocator differ")

    def run_to_file(self, command, is_preloaded, extra=None):
        result = subprocess.run(command, capture_output=True, cwd=self.work, timeout=240, env=self.environment(is_preloaded, extra))
        if result.returncode != 0:
            raise Failure(f"{command[0]}: exit code {result.returncode}, preloaded: {is_preloaded}; stderr:\n"
                          + result.stderr.decode(errors="replace")[-2000:])
        if is_preloaded:
            self.count(result.stderr, command[0])


PYTHON_WORK = """
import hashlib, json, re, threading, zlib
rounds = int(__import__("sys").argv[1])
digest = hashlib.sha256()
def work(seed):
    table, text = {}, []
    for i in range(rounds):
        key = f"k{(i * 7919 + seed) % 5003}"
        table.setdefault(key, []).append(i)
        if i % 3 == 0:
            table.pop(f"k{i % 4999}", None)
        text.append(key * (i % 9))
        if len(text) > 700:
            text = ["".join(text)[:2000]]
    return json.dumps(sorted(table.items()))
results = [None] * 4
def run(i):
    results[i] = work(i)
threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
for r in results:
    digest.update(zlib.compress(r.encode()))
    digest.update(str(len(re.findall(r"[0-9]+7", r))).encode())
print(digest.hexdigest())
import subprocess
print(subprocess.run(["/bin/echo", "a child"], capture_output=True).stdout)
"""


def case_python3(c):
    c.both([c.need("python3"), "-c", PYTHON_WORK, "400000" if c.is_full else "60000"], {"PYTHONMALLOC": "malloc"})


def case_sqlite3(c):
    rows = 1000000 if c.is_full else 150000
    script = f"""CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, v REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{rows})
  INSERT INTO t SELECT i, printf('name-%d-%d', i*7919%100003, i), i*0.5 FROM n;
CREATE INDEX t_name ON t(name); CREATE INDEX t_v ON t(v, name);
SELECT count(*), sum(v), min(name), max(name) FROM t;
SELECT substr(name,1,7) k, count(*), total(v) FROM t GROUP BY k ORDER BY 2 DESC, k LIMIT 50;
DELETE FROM t WHERE id % 3 = 0; SELECT count(*) FROM t WHERE name > 'name-5'; PRAGMA integrity_check;
"""
    c.both([c.need("sqlite3"), ":memory:"], stdin=script.encode())


def make_sources(folder, files, seed):
    rng = random.Random(seed)
    for i in range(files):
        path = folder / f"d{i % 17}" / f"f{i}.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"int f{i}_{j}(int x) {{ return x * {rng.randrange(10**6)} + {j}; }}\n" for j in range(60)))


def case_git(c):
    git = c.need("git")
    identity = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_COMMITTER_NAME": "t", "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_COMMITTER_EMAIL": "t@example.org", "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z"}
    source = c.work / "source"
    env = c.environment(False, identity)
    subprocess.run([git, "init", "-q", str(source)], check=True, env=env)
    for commit in range(40 if c.is_full else 4):
        make_sources(source, 400 if c.is_full else 60, commit)
        subprocess.run([git, "add", "-A"], cwd=source, check=True, env=env)
        subprocess.run([git, "commit", "-q", "-m", f"commit {commit}"], cwd=source, check=True, env=env)
    lists = []
    for is_preloaded in (False, True):
        copy = c.work / f"copy-{is_preloaded}"
        shutil.copytree(source, copy)
        c.run_to_file([git, "-C", str(copy), "-c", "pack.threads=1", "gc", "-q", "--aggressive"], is_preloaded, identity)
        fsck = subprocess.run([git, "-C", str(copy), "fsck", "--full"], capture_output=True, env=env)
        log = subprocess.run([git, "-C", str(copy), "rev-list", "--objects", "--all"], capture_output=True, env=env)
        lists.append((fsck.returncode, fsck.stdout, log.stdout, len(list((copy / ".git/objects/pack").glob("*.pack")))))
    if lists[0] != lists[1] or lists[1][0] != 0 or not lists[1][2]:
        raise Failure("git gc: the repositories differ with and without the allocator, or are damaged")


def large_source(path, functions):
    rng = random.Random(5)
    with path.open("w") as f:
        f.write("#include <stdio.h>\n#include <string.h>\nstruct s { int a, b; char c[32]; double d; };\n")
        for i in range(functions):
            f.write(f"static double f{i}(struct s *p, int n) {{\n  double r = {rng.random()};\n  for (int i = 0; i < n; i++) {{\n"
                    f"    switch ((i + p->a) % 7) {{\n")
            for k in range(7):
                f.write(f"    case {k}: r = r * {rng.random()} + p[i % {k + 2}].d; p->c[i % 32] = (char)(i * {rng.randrange(99)}); break;\n")
            f.write("    }\n  }\n  return r + (double)strlen(p->c);\n}\n")
        f.write("double all(struct s *p) {\n  double r = 0;\n" + "".join(f"  r += f{i}(p, {i});\n" for i in range(functions)) + "  return r;\n}\n")


def compile_case(c, compiler, options):
    source = c.work / "large.c"
    large_source(source, 1200 if c.is_full else 70)
    program = c.need(compiler)
    c.same_file(lambda is_preloaded, path: c.run_to_file([program, *options, "-O2", "-S", "-o", str(path), "large.c"], is_preloaded))


def case_gcc(c):
    compile_case(c, "gcc", [])


def case_clang(c):
    compile_case(c, "clang-19", [])


def case_perl(c):
    n = 400000 if c.is_full else 80000
    c.both([c.need("perl"), "-e", f"""my (%h, @a); for my $i (1..{n}) {{ my $k = "k" . ($i * 7919 % 10007); push @{{$h{{$k}}}}, $i;
 $a[$i % 5000] .= "x$i"; $a[$i % 5000] = "" if length($a[$i % 5000]) > 300; delete $h{{"k" . ($i % 9001)}} if $i % 4 == 0; }}
 my $s = join ",", map {{ "$_=" . scalar(@{{$h{{$_}}}}) }} sort keys %h; my $n = () = $s =~ /k[0-9]*7=/g;
 print length($s), " ", $n, " ", unpack("%32C*", $s . join("", map {{ $_ // "" }} @a)), "\\n";
 if (my $pid = fork) {{ waitpid $pid, 0; print "child $?\\n" }} else {{ my @b = map {{ "y" x $_ }} 1..2000; exit(@b == 2000 ? 0 : 1) }}"""])


def case_xz(c):
    rng = random.Random(3)
    words = [("w%d" % rng.randrange(10**6)).encode() for _ in range(3000)]
    data = c.work / "data"
    data.write_bytes(b" ".join(rng.choice(words) for _ in range(4000000 if c.is_full else 250000)))
    xz = c.need("xz")
    # -T2: blocks of a fixed size, so that the result does not depend on timing
    packed = c.both([xz, "-T2", "-4", "--block-size=1MiB", "-k", "-c", str(data)])
    (c.work / "packed.xz").write_bytes(packed)
    if hashlib.sha256(c.both([xz, "-d", "-c", "packed.xz"])).digest() != hashlib.sha256(data.read_bytes()).digest():
        raise Failure("xz: what was unpacked is not what was packed")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def redis_ask(port, *words):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
        s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        answer = b""
        while not answer.endswith(b"\r\n"):
            part = s.recv(65536)
            if not part:
                break
            answer += part
        return answer


def redis_run(c, server, benchmark, is_preloaded):
    """A server under load; returns digests of what it holds."""
    port = free_port()
    process = subprocess.Popen([server, "--port", str(port), "--save", "", "--appendonly", "no", "--daemonize", "no"], cwd=c.work,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=c.environment(is_preloaded))
    try:
        for line in process.stdout:
            if b"Ready to accept connections" in line:
                break
        else:
            raise Failure("redis-server did not start:\n" + process.stderr.read().decode(errors="replace")[-2000:])
        n = "300000" if c.is_full else "30000"
        subprocess.run([benchmark, "-p", str(port), "-n", n, "-q", "-P", "8", "-r", "10000", "-d", "200", "-t", "set,get,lpush,lpop,sadd,hset,zadd"],
                       check=True, stdout=subprocess.DEVNULL, timeout=240)
        redis_ask(port, b"FLUSHALL")
        load = "for i=1,tonumber(ARGV[1]) do redis.call('SET','k'..i,string.rep('v'..i,i%50)); redis.call('HSET','h'..(i%97),'f'..i,i); " \
               "redis.call('RPUSH','l'..(i%13),'e'..i); redis.call('ZADD','z',i%1000,'m'..i) end return redis.call('DBSIZE')"
        answers = [redis_ask(port, b"EVAL", load.encode(), b"0", b"50000" if c.is_full else b"10000"), redis_ask(port, b"DEBUG", b"DIGEST")]
        answers.append(redis_ask(port, b"GET", b"k777"))
        redis_ask(port, b"SHUTDOWN", b"NOSAVE")
        out, err = process.communicate(timeout=60)
        if is_preloaded:
            c.count(err, "redis-server")
        return answers
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()


def case_redis(c):
    server, benchmark = c.need("redis-server"), c.need("redis-benchmark")
    without, with_it = (redis_run(c, server, benchmark, p) for p in (False, True))
    if without != with_it:
        raise Failure(f"redis-server: other answers with the allocator: {without} and {with_it}")


CASES = {name[5:]: f for name, f in globals().items() if name.startswith("case_")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("case", choices=sorted(CASES))
    args = parser.parse_args()
    if not args.library.exists():
        print(f"{args.library} is missing: build it first")
        return 2
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    case = Case(args.work, args.library.resolve(), args.full)
    try:
        CASES[args.case](case)
    except Failure as failure:
        print(f"{args.case}: failed: {failure}")
        return 1
    finally:
        shutil.rmtree(args.work, ignore_errors=True)
    print(f"{args.case}: same output, {case.served} allocations served")
    return 0


if __name__ == "__main__":
    sys.exit(main())
