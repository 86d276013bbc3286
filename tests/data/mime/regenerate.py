#!/usr/bin/env python3
"""Asks a Dovecot for its answers about every NNN.eml here and writes them to NNN.expect.

Needs `dovecot-imapd` (written with 2.3.19.1) and nothing running: its imap process is started by hand for each
sample, already logged in, on a throwaway maildir. Usage: regenerate.py [NNN ...]

An .expect file is a run of items: a line `ITEM <kind> <name>`, a line with the number of octets or NIL, the octets,
and a line end. Kinds are FETCH (an item as asked for) and SEARCH (a key; the answer is `1` or empty). What was
answered with nothing is listed by name in the last item, EMPTY.
The message as the server hands it out is the item `FETCH BODY[]`: it may differ from the file (bare LF, NUL), and
the comparison uses it as the raw message.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
IMAP = "/usr/lib/dovecot/imap"
PATHS = ["1", "2", "3", "4", "1.1", "1.2", "1.3", "2.1", "2.2", "2.3", "3.1", "1.1.1", "1.1.2", "1.2.1", "1.2.2",
         "2.1.1", "2.1.2", "2.2.1", "1.1.1.1", "1.1.1.2", "1.1.1.1.1", "2.1.1.1"]
FIELDS = ["HEADER.FIELDS (SUBJECT)", "HEADER.FIELDS (from TO x-odd Content-Type)",
          "HEADER.FIELDS.NOT (SUBJECT Received)", "HEADER.FIELDS (X-NONE-SUCH)"]
SEARCHES = ["SUBJECT needle", "SUBJECT \"two words\"", "FROM needle", "TO needle", "HEADER X-Odd needle",
            "HEADER X-Odd \"\"", "BODY needle", "TEXT needle", "BODY \"two words\"", "BODY outer", "BODY inner", "TEXT inner",
            "BODY n\u00e9\u00e9dl", "TEXT n\u00c9\u00e9dle", "BODY n\u00e9\u00e9dle", "SUBJECT n\u00e9\u00e9dle",
            "SENTON 17-Jul-1996", "SENTBEFORE 17-Jul-1996", "SENTSINCE 17-Jul-1996", "SENTON 29-Feb-2024", "SENTSINCE 1-Jan-1970"]


def items():
    yield from ["BODY[]", "ENVELOPE", "BODYSTRUCTURE", "BODY", "BODY[HEADER]", "BODY[TEXT]"]
    yield from (f"BODY[{fields}]" for fields in FIELDS)
    for path in PATHS:
        yield from (f"BODY[{path}]", f"BODY[{path}.MIME]", f"BODY[{path}.HEADER]", f"BODY[{path}.TEXT]")
    for path in ("1", "2"):
        yield f"BODY[{path}.HEADER.FIELDS (SUBJECT X-Odd)]"


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def line(self):
        """One response with its literals, as octets without the last CRLF."""
        start = self.at
        while True:
            end = self.data.index(b"\r\n", self.at)
            literal = re.search(rb"\{(\d+)\}$", self.data[self.at:end])
            self.at = end + 2
            if not literal:
                return self.data[start:end]
            self.at += int(literal.group(1))


def run(directory, commands):
    # The mailbox is the `new` directory of one message; a process that is handed no login speaks PREAUTH.
    env = {"USER": "sample", "HOME": directory, "PATH": os.environ["PATH"]}
    text = "".join(commands).encode()
    done = subprocess.run([IMAP, "-c", f"{directory}/dovecot.conf"], input=text, env=env, capture_output=True, timeout=60)
    return done.stdout, done.stderr


def ask(sample):
    with tempfile.TemporaryDirectory() as directory:
        for name in ("new", "cur", "tmp"):
            os.makedirs(f"{directory}/mail/{name}")
        pathlib.Path(f"{directory}/mail/new/1600000000.M1P1.sample").write_bytes(sample.read_bytes())
        pathlib.Path(f"{directory}/dovecot.conf").write_text(
            f"mail_location = maildir:{directory}/mail\nlog_path = {directory}/log\nbase_dir = {directory}/run\n"
            f"mail_fsync = never\nfirst_valid_uid = 1\nmail_uid = 65534\nmail_gid = 65534\nssl = no\nstats_writer_socket_path =\n")
        # Run as root, the process drops to an unprivileged user, who must own the mail.
        if os.getuid() == 0:
            for entry in [directory, *map(str, pathlib.Path(directory).rglob("*"))]:
                os.chown(entry, 65534, 65534)
        asked = [("FETCH", item) for item in items()] + [("SEARCH", key) for key in SEARCHES]
        commands = ["s SELECT INBOX\r\n"]
        for number, (kind, what) in enumerate(asked):
            if kind == "FETCH":
                what = what.replace("BODY[", "BODY.PEEK[")
                commands.append(f"t{number} FETCH 1 {what}\r\n")
            else:
                key, _, text = what.partition(" ")
                if not text.isascii():
                    what = f"{key} {{{len(text.encode())}+}}\r\n{text}"
                commands.append(f"t{number} SEARCH CHARSET UTF-8 {what}\r\n")
        out, err = run(directory, commands + ["z LOGOUT\r\n"])
        if b"\nz OK" not in out:
            log = pathlib.Path(f"{directory}/log")
            raise SystemExit(f"{sample.name}: no answer: {out[-500:]!r} {err!r} {log.read_text() if log.exists() else ''}")
        # Answers come in order, but the tagged lines of several commands may come together after them.
        reader, answers = Reader(out), []
        while reader.at < len(out):
            line = reader.line()
            if line.startswith((b"* 1 FETCH ", b"* SEARCH")):
                answers.append(line)
            elif re.match(rb"t\d+ (NO|BAD)", line):
                raise SystemExit(f"{sample.name}: {line!r}")
        if len(answers) != len(asked):
            raise SystemExit(f"{sample.name}: {len(answers)} answers to {len(asked)} questions")
        return [(kind, what, value(kind, what, line)) for (kind, what), line in zip(asked, answers)]


def value(kind, what, line):
    if kind == "SEARCH":
        return line[len(b"* SEARCH"):].strip()
    inner = line[len(b"* 1 FETCH ("):-1]
    if inner.startswith(b"UID ") or inner.startswith(b"FLAGS"):
        raise SystemExit(f"unexpected {line!r}")
    rest = inner[len(what.encode()):] if inner.upper().startswith(what.upper().encode()) else None
    if rest is None:
        raise SystemExit(f"{what}: answered as {inner[:80]!r}")
    rest = rest[1:]
    if "[" not in what:
        return rest
    if rest == b"NIL":
        return None
    literal = re.match(rb"\{(\d+)\}\r\n", rest)
    if literal:
        return rest[literal.end():]
    return re.sub(rb"\\(.)", rb"\1", rest[1:-1])


def main():
    wanted = sys.argv[1:]
    for sample in sorted(HERE.glob("*.eml")):
        if wanted and sample.stem not in wanted:
            continue
        out, empty = bytearray(), []
        for kind, what, answer in ask(sample):
            if answer == b"":
                empty.append(f"{kind} {what}".encode())
                continue
            size = "NIL" if answer is None else str(len(answer))
            out += f"ITEM {kind} {what}\n{size}\n".encode() + (answer or b"") + b"\n"
        names = b"\n".join(empty)
        out += b"EMPTY\n%d\n%s\n" % (len(names), names)
        sample.with_suffix(".expect").write_bytes(out)


main()
