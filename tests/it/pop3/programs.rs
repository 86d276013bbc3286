//! Programs people have: fetchmail, getmail, mpop, curl and Python's poplib, over every listener, with the CA verified.
//!
//! Each fetches a thousand messages, byte for byte what IMAP has; a second run fetches nothing; then each deletes what it has fetched,
//! and the account keeps everything unread. Every program and listener is a device of its own.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{as_lines, upstream, world};
use crate::harness::mail::{self, Sizes};
use crate::harness::world::World;
use crate::harness::{ADDRESS, LOCAL_PASSWORD, open_to_all, scratch};

const SEED: u64 = 137;
const SMALL: u64 = 900;
const COUNT: u64 = 1000;

/// How a program connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    Plain,
    Stls,
    Tls,
}

const LEGS: [Leg; 3] = [Leg::Plain, Leg::Stls, Leg::Tls];

/// What a run is pointed at.
struct Run<'a> {
    leg: Leg,
    port: u16,
    ca: PathBuf,
    user: String,
    /// Kept from one run of a program to its next.
    home: &'a Path,
}

/// A mailbox of a thousand: most of them small, some with attachments, dots and no last line end among them. None is seen.
fn thousand() -> Option<World> {
    world("", |c| {
        let mut n = 0;
        while n < COUNT {
            let mut batch = Vec::new();
            let tag = c.tag();
            batch.extend_from_slice(format!("{tag} APPEND INBOX").as_bytes());
            for _ in 0..100 {
                let bytes = body(n);
                batch.extend_from_slice(format!(" {{{}+}}\r\n", bytes.len()).as_bytes());
                batch.extend_from_slice(&bytes);
                n += 1;
            }
            batch.extend_from_slice(b"\r\n");
            c.try_send(&batch).expect("sending mail");
            assert!(c.finish(&tag).expect("MULTIAPPEND").is_ok());
        }
    })
}

fn body(n: u64) -> Vec<u8> {
    let sizes = if n < SMALL { Sizes::Small } else { Sizes::Usual };
    let mut bytes = mail::message(SEED, n, sizes).bytes;
    match n % 10 {
        3 => bytes.extend_from_slice(b".\r\n..\r\n.dots\r\n"),
        5 => bytes.truncate(bytes.trim_ascii_end().len()),
        _ => {}
    }
    bytes
}

/// By Message-ID, with LF line ends: what a program leaves in a Maildir or a file.
fn expected() -> BTreeMap<String, Vec<u8>> {
    (0..COUNT).map(|n| as_kept(&as_lines(&body(n)))).collect()
}

fn as_kept(message: &[u8]) -> (String, Vec<u8>) {
    let kept: Vec<u8> = message.iter().copied().filter(|b| *b != b'\r').collect();
    let text = String::from_utf8_lossy(&kept);
    let id = text.lines().find_map(|line| line.strip_prefix("Message-ID: ")).expect("a Message-ID").trim().to_owned();
    (id, kept)
}

/// Every file below a directory, as messages.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut todo, mut found) = (vec![dir.to_path_buf()], BTreeMap::new());
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            let (id, kept) = as_kept(&std::fs::read(&path).unwrap());
            assert!(found.insert(id.clone(), kept).is_none(), "{id} came twice");
        }
    }
    found
}

fn run(mut command: Command, what: &str, also: i32) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|e| panic!("{what}: {e}; tests/run installs it"));
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let tail = |text: &str| text.lines().rev().take(20).collect::<Vec<_>>().join("\n");
    assert!(status.success() || status.code() == Some(also), "{what}: {status}\n{}\n{}", tail(&out), tail(&err));
    out.into_owned()
}

/// Fetches with `fetch` (which puts what it fetches anywhere below the directory it is given) over every leg: all, nothing, and all
/// once more to be deleted.
fn check(world: &World, program: &str, legs: &[Leg], fetch: impl Fn(&Run<'_>, bool, &Path)) {
    let want = expected();
    let daemon = world.daemon();
    for leg in legs.iter().copied() {
        let home = scratch(program);
        let run = |device: &str| Run {
            leg,
            port: if leg == Leg::Tls { daemon.pop3s } else { daemon.pop3 }.port(),
            ca: daemon.ca_file(),
            user: format!("{ADDRESS}+{program}{leg:?}{device}"),
            home: home.path(),
        };
        let fetched = |run: &Run<'_>, delete: bool, into: &str| {
            let into = home.path().join(into);
            std::fs::create_dir(&into).unwrap();
            fetch(run, delete, &into);
            files(&into)
        };
        let first = fetched(&run(""), false, "first");
        assert_eq!(first.len() as u64, COUNT, "{program} {leg:?}");
        let differs = first.iter().find(|(id, bytes)| want.get(*id) != Some(*bytes));
        if let Some((id, bytes)) = differs {
            panic!("{program} {leg:?}: {id}\n{}\nand not\n{}", bytes.escape_ascii(), want[id].escape_ascii());
        }
        assert_eq!(fetched(&run(""), false, "second").len(), 0, "{program} {leg:?}: nothing is new");
        let deleted = fetched(&run("deleter"), true, "deleting");
        assert!(deleted == first, "{program} {leg:?}: the same again");
        assert_eq!(fetched(&run("deleter"), true, "deleted").len(), 0, "{program} {leg:?}: all is deleted");
        assert_eq!(
            upstream(world),
            (COUNT as usize, COUNT as usize),
            "{program} {leg:?}: upstream keeps it all, unread"
        );
    }
    // Somebody else still sees everything.
    let mut imap = world.client();
    imap.cmd_ok("SELECT INBOX");
    assert_eq!(imap.cmd_ok("FETCH 1:* (FLAGS)").untagged.len() as u64, COUNT);
    assert!(world.daemon().bodies_filled() < COUNT as f64 + 0.5, "every body is fetched once, whoever asks");
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn fetchmail() {
    let Some(world) = thousand() else { return };
    check(&world, "fetchmail", &LEGS, |run_of, delete, into| {
        let Run { leg, port, ca, user, home } = run_of;
        // As an SMTP session in a file: a process for each message would take a minute.
        let batch = home.join("batch");
        let _ = std::fs::remove_file(&batch);
        let tls = match leg {
            Leg::Plain => "sslproto ''".to_owned(),
            Leg::Stls => format!("sslproto 'TLS1.2+' sslcertck sslcertfile '{}'", ca.display()),
            Leg::Tls => format!("ssl sslcertck sslcertfile '{}'", ca.display()),
        };
        let keep = if delete { "nokeep fetchall" } else { "keep" };
        // Its own header lines are switched off, and it rewrites nothing.
        let rc = format!(
            "set invisible\nset idfile '{0}/ids'\nset pidfile '{0}/pid'\npoll localhost protocol pop3 port {port} auth password uidl\n\
             user '{user}' password '{LOCAL_PASSWORD}' {keep} norewrite nodropstatus pass8bits fetchlimit 0\n{tls}\nbsmtp '{1}'\n",
            home.display(),
            batch.display(),
        );
        write_private(&home.join("rc"), &rc);
        let mut command = Command::new("fetchmail");
        command.args(["--nosyslog", "--nodetach", "-f"]).arg(home.join("rc")).env("FETCHMAILHOME", home);
        // 1: there was no mail.
        run(command, "fetchmail", 1);
        for (n, message) in batched(&std::fs::read(&batch).unwrap_or_default()).into_iter().enumerate() {
            std::fs::write(into.join(n.to_string()), message).unwrap();
        }
    });
}

/// The messages of a batch SMTP file.
fn batched(batch: &[u8]) -> Vec<Vec<u8>> {
    let (mut messages, mut current) = (Vec::new(), None::<Vec<u8>>);
    for line in batch.split_inclusive(|b| *b == b'\n') {
        let bare = line.trim_ascii_end();
        match (&mut current, bare) {
            (None, b"DATA") => current = Some(Vec::new()),
            (None, _) => {}
            (Some(_), b".") => messages.extend(current.take()),
            (Some(message), _) => message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line)),
        }
    }
    assert!(current.is_none(), "the file ends in the middle of a message");
    messages
}

/// getmail delivers each message by a process, and waits for it in a way that misses its end now and then and then stands still for a
/// minute: here it waits as everybody does. It also takes messages apart and writes them anew: here it leaves them as they came. What it
/// says to the server is its own.
const GETMAIL: &str = r#"
import os, runpy, sys
from getmailcore.baseclasses import ForkingBase
from getmailcore.message import Message
os.fsync = lambda file: None
Message.flatten = lambda self, *how, **more: self._Message__raw
ForkingBase._prepare_child = lambda self: None
ForkingBase._wait_for_child = lambda self, pid: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.argv[0] = "/usr/bin/getmail"
runpy.run_path("/usr/bin/getmail", run_name="__main__")
"#;

#[test]
fn getmail() {
    let Some(world) = thousand() else { return };
    // It knows no STLS.
    check(&world, "getmail", &[Leg::Plain, Leg::Tls], |run_of, delete, into| {
        let Run { leg, port, ca, user, home } = run_of;
        for dir in ["cur", "new", "tmp"] {
            std::fs::create_dir(into.join(dir)).unwrap();
        }
        // It does not deliver as root.
        open_to_all(into);
        crate::harness::give_to_nobody(into);
        let retriever = match leg {
            Leg::Tls => format!("SimplePOP3SSLRetriever\nca_certs = {}", ca.display()),
            _ => "SimplePOP3Retriever".to_owned(),
        };
        let rc = format!(
            "[retriever]\ntype = {retriever}\nserver = localhost\nport = {port}\nusername = {user}\npassword = {LOCAL_PASSWORD}\n\n\
             [destination]\ntype = Maildir\npath = {}/\nuser = nobody\n\n\
             [options]\nread_all = false\ndelete = {delete}\ndelivered_to = false\nreceived = false\nverbose = 0\n",
            into.display()
        );
        write_private(&home.join("rc"), &rc);
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", GETMAIL, "--getmaildir"]).arg(home).arg("--rcfile").arg(home.join("rc")).env("HOME", home);
        run(command, "getmail", 0);
    });
}

#[test]
fn mpop() {
    let Some(world) = thousand() else { return };
    check(&world, "mpop", &LEGS, |run_of, delete, into| {
        let Run { leg, port, ca, user, home } = run_of;
        for dir in ["cur", "new", "tmp"] {
            std::fs::create_dir(into.join(dir)).unwrap();
        }
        let tls = match leg {
            Leg::Plain => "tls off".to_owned(),
            Leg::Stls => format!("tls on\ntls_starttls on\ntls_trust_file {}", ca.display()),
            Leg::Tls => format!("tls on\ntls_starttls off\ntls_trust_file {}", ca.display()),
        };
        let rc = format!(
            "account a\nhost localhost\nport {port}\nuser {user}\npassword {LOCAL_PASSWORD}\nauth user\n{tls}\nkeep {}\n\
             uidls_file {}/uidls_%U\nreceived_header off\ndelivery maildir {}\n",
            if delete { "off" } else { "on" },
            home.display(),
            into.display()
        );
        write_private(&home.join("rc"), &rc);
        let mut command = Command::new("mpop");
        command.arg("--quiet").arg("-C").arg(home.join("rc")).arg("-a").env("HOME", home);
        run(command, "mpop", 0);
    });
}

#[test]
fn curl() {
    let Some(world) = thousand() else { return };
    check(&world, "curl", &LEGS, |run_of, delete, into| {
        let Run { leg, port, ca, user, home } = run_of;
        let scheme = if *leg == Leg::Tls { "pop3s" } else { "pop3" };
        let curl = || {
            let mut command = Command::new("curl");
            command
                .args(["-sS", "-4", "--max-time", "120", "-u", &format!("{user}:{LOCAL_PASSWORD}"), "--cacert"])
                .arg(ca);
            if *leg == Leg::Stls {
                command.arg("--ssl-reqd");
            }
            command
        };
        // curl keeps no list of its own; what a script does with UIDL is done here.
        let mut list = curl();
        list.args(["-X", "UIDL"]).arg(format!("{scheme}://localhost:{port}/"));
        let known = home.join(format!("uidls{}", user.ends_with("deleter")));
        let before = std::fs::read_to_string(&known).unwrap_or_default();
        let listed = run(list, "curl", 0);
        let new: Vec<&str> = listed
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(_, id)| !before.contains(*id))
            .map(|(n, _)| n)
            .collect();
        if new.is_empty() {
            return;
        }
        let mut fetch = curl();
        fetch.arg(format!("{scheme}://localhost:{port}/{{{}}}", new.join(","))).arg("-o").arg(into.join("#1"));
        run(fetch, "curl", 0);
        if delete {
            let mut dele = curl();
            dele.args(["-I", "-X", "DELE"]).arg(format!("{scheme}://localhost:{port}/{{{}}}", new.join(",")));
            run(dele, "curl", 0);
        }
        std::fs::write(&known, listed).unwrap();
    });
}

#[test]
fn poplib() {
    const SCRIPT: &str = r#"
import os, poplib, ssl, sys
leg, port, ca, user, password, known, into, delete = sys.argv[1:9]
poplib._MAXLINE = 1 << 20
context = ssl.create_default_context(cafile=ca)
if leg == "Tls":
    box = poplib.POP3_SSL("localhost", int(port), context=context)
else:
    box = poplib.POP3("localhost", int(port))
if leg == "Stls":
    assert "STLS" in box.capa()
    box.stls(context=context)
    assert "STLS" not in box.capa()
assert box.utf8() .startswith(b"+OK")
box.user(user)
box.pass_(password)
capabilities = box.capa()
assert capabilities["EXPIRE"] == ["NEVER"] and "UIDL" in capabilities and "PIPELINING" in capabilities, capabilities
count, octets = box.stat()
sizes = [int(line.split()[1]) for line in box.list()[1]]
assert (len(sizes), sum(sizes)) == (count, octets)
before = set(open(known).read().split()) if os.path.exists(known) else set()
ids = [line.decode().split() for line in box.uidl()[1]]
assert len({id for _, id in ids}) == count
try:
    box.retr(count + 1)
    assert False
except poplib.error_proto as error:
    assert ("only %d messages in maildrop" % count) in str(error) or count == 0, error
for number, id in ids:
    if id in before:
        continue
    answer, lines, octets = box.retr(number)
    assert octets == int(answer.split()[1]), (answer, octets)
    head = box.top(number, 0)[1]
    assert lines[:len(head)] == head
    with open(os.path.join(into, number), "wb") as out:
        out.write(b"".join(line + b"\n" for line in lines))
    if delete == "true":
        box.dele(number)
box.quit()
open(known, "w").write("\n".join(id for _, id in ids))
"#;
    let Some(world) = thousand() else { return };
    check(&world, "poplib", &LEGS, |run_of, delete, into| {
        let Run { leg, port, ca, user, home } = run_of;
        let known = home.join(format!("uidls{}", user.ends_with("deleter")));
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT, &format!("{leg:?}"), &port.to_string()]).arg(ca).args([user, LOCAL_PASSWORD]);
        command.arg(known).arg(into).arg(delete.to_string());
        run(command, "poplib", 0);
    });
}
