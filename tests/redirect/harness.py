"""What the tests of the redirection that are scripts share: checks, and programs under Wine."""
import argparse
import contextlib
import os
import subprocess
import sys

FAILED = []
STILLBORN = []  # the one program of a test that Wine may fail to start


def check(fact, text):
    if not fact:
        FAILED.append(text)
        print("failed:", text)


def arguments():
    """A parser of what each of these scripts is told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--runner", required=True)
    parser.add_argument("--bits", default="")
    return parser


def clean_environment(more=None):
    """Nothing of ours in it but what a test wants."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MIMALLOC_", "MI_REDIRECT"))}
    env.update(more or {})
    return env


def text_of(data):
    return data.decode("utf-8", "replace").replace("\r", "")


def skip_if_no_wine(code):
    if code == 77:
        print("skipped: no 32-bit Wine")
        sys.exit(77)


def was_stillborn(words, code, *said, most=1):
    """Shall this program be tried once more? Wine 8 ends about one program in a thousand with exit code 1 before it has
    begun. The programs of these tests never end with 1 and without a word (wtest.h), so that is told apart; more of them
    in the same test than most are failures."""
    if code != 1 or any(said) or len(STILLBORN) >= most:
        return False
    STILLBORN.append(words)
    print("tried again, Wine did not start it:", words)
    return True


def run(runner, words, folder, env=None, seconds=100):
    """(exit code, stdout, stderr) of a Windows program."""
    while True:
        done = subprocess.run([runner, *words], cwd=folder, env=clean_environment(env), capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=seconds, check=False)
        if not was_stillborn(words, done.returncode, done.stdout, done.stderr):
            break
    skip_if_no_wine(done.returncode)
    return done.returncode, text_of(done.stdout), text_of(done.stderr)


@contextlib.contextmanager
def wine_kept_up(runner, program, folder):
    """Meanwhile one program that waits keeps the Wine server running: starting it costs more than all the tests. It must
    be up before the next one, whose pipes the server would hold open otherwise."""
    while True:
        keeper = subprocess.Popen([runner, program, "wait"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)
        line = keeper.stdout.readline()
        if line.startswith(b"ready"):
            break
        code = keeper.wait(timeout=60)
        if not was_stillborn([program, "wait"], code, line):
            print(f"the first program did not start: exit code {code}")
            sys.exit(77 if code == 77 else 1)
    try:
        yield
    finally:
        keeper.stdin.close()
        keeper.wait(timeout=60)
