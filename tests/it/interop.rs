//! Mail programs people have: curl, Python's imaplib, neomutt and mbsync, each with the CA verified.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::answer::Value;
use crate::harness::client::Client;
use crate::harness::mail::{self, Sizes};
use crate::harness::scratch;
use crate::harness::world::{Endpoint, Kind, World};
use crate::over_dovecot;

over_dovecot!(curl, imaplib, imaplib_writes, neomutt, neomutt_resumes, mbsync);

fn fill(c: &mut Client) {
    mail::load(c, "INBOX", 29, 12, Sizes::Usual);
    c.cmd_ok("CREATE Work/2025");
}

fn run(mut command: Command, what: &str) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|e| panic!("{what}: {e}; tests/run installs it"));
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{what}: {status}\n{out}\n{err}");
    out.into_owned()
}

fn curl(kind: Kind) {
    let world = World::new(kind, fill);
    let Endpoint { imap, imaps, ca_file, user, password } = world.endpoint();
    let body = mail::message(29, 4, Sizes::Usual).bytes;
    let (plain, tls) = (format!("imap://localhost:{}", imap.port()), format!("imaps://localhost:{}", imaps.port()));
    for (url, starttls) in [(&plain, false), (&plain, true), (&tls, false)] {
        let ask = |path: &str, more: &[&str]| {
            let mut command = Command::new("curl");
            command.args(["-sS", "-4", "--max-time", "30", "--cacert"]).arg(&ca_file);
            command.args(["-u", &format!("{user}:{password}")]).args(more).arg(format!("{url}{path}"));
            if starttls {
                command.arg("--ssl-reqd");
            }
            run(command, "curl")
        };
        assert_eq!(ask("/INBOX;UID=5", &[]).as_bytes(), body, "{url} {starttls}");
        assert!(ask("/", &[]).contains("Work/2025"));
        assert!(ask("/INBOX", &["-X", "UID SEARCH 1:3"]).contains("* SEARCH 1 2 3"));
    }
    // Without the CA the certificate is not believed.
    let mut command = Command::new("curl");
    command.args(["-sS", "-4", "-u", &format!("{user}:{password}"), &tls]);
    assert!(!command.output().unwrap().status.success());
}

fn imaplib(kind: Kind) {
    const SCRIPT: &str = r#"
import imaplib, ssl, sys
imap, imaps, ca, user, password = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:6]
context = ssl.create_default_context(cafile=ca)
plain = imaplib.IMAP4("localhost", imap)
upgraded = imaplib.IMAP4("localhost", imap)
upgraded.starttls(ssl_context=context)
secure = imaplib.IMAP4_SSL("localhost", imaps, ssl_context=context)
for m in (plain, upgraded, secure):
    m.login(user, password)
    assert m.select("INBOX", readonly=True) == ("OK", [b"12"])
    kind, data = m.uid("fetch", "1:*", "(UID RFC822.SIZE FLAGS BODY.PEEK[])")
    assert kind == "OK"
    bodies = [part for part in data if isinstance(part, tuple)]
    assert len(bodies) == 12, len(bodies)
    for head, body in bodies:
        assert f"RFC822.SIZE {len(body)}".encode() in head, (head, len(body))
    kind, found = m.uid("search", None, "SUBJECT", "thread")
    assert kind == "OK" and found[0]
    kind, boxes = m.list()
    assert any(b"Work/2025" in b for b in boxes)
    kind, data = m.status("INBOX", "(MESSAGES UIDNEXT)")
    assert b"MESSAGES 12" in data[0]
    m.close()
    m.logout()
try:
    imaplib.IMAP4_SSL("localhost", imaps, ssl_context=ssl.create_default_context())
except ssl.SSLCertVerificationError:
    print("verified")
"#;
    let world = World::new(kind, fill);
    let Endpoint { imap, imaps, ca_file, user, password } = world.endpoint();
    let mut command = Command::new("python3");
    command.arg("-c").arg(SCRIPT).args([imap.port().to_string(), imaps.port().to_string()]);
    command.arg(ca_file).args([user, password]);
    assert_eq!(run(command, "imaplib").trim(), "verified");
}

/// Every change a script makes, each read back by the script itself and then at the upstream.
fn imaplib_writes(kind: Kind) {
    const SCRIPT: &str = r#"
import imaplib, ssl, sys, time
imaps, ca, user, password = int(sys.argv[1]), *sys.argv[2:5]
m = imaplib.IMAP4_SSL("localhost", imaps, ssl_context=ssl.create_default_context(cafile=ca))
m.login(user, password)
def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]
message = b"Subject: from a script\r\nMessage-ID: <script.%d@example.org>\r\n\r\nwords\r\n"
ok(m.create("Scripts"))
ok(m.subscribe("Scripts"))
for n in range(5):
    ok(m.append("Scripts", "(\\Flagged)" if n == 0 else None, imaplib.Time2Internaldate(1700000000 + n), message % n))
assert ok(m.select("Scripts")) == [b"5"]
flags = ok(m.uid("fetch", "1:*", "(FLAGS BODY.PEEK[])"))
assert [part[1] for part in flags if isinstance(part, tuple)] == [message % n for n in range(5)], flags
assert b"\\Flagged" in flags[0][0] and b"\\Flagged" not in flags[2][0], flags
ok(m.uid("store", "2:3", "+FLAGS", "(\\Seen \\Deleted)"))
ok(m.uid("store", "3", "-FLAGS", "(\\Deleted)"))
ok(m.uid("store", "4", "FLAGS", "($Label1)"))
ok(m.uid("copy", "1,4", "Work/2025"))
assert ok(m.expunge()) == [b"2"]
assert ok(m.search(None, "ALL"))[0].split() == [b"1", b"2", b"3", b"4"]
assert ok(m.uid("search", None, "KEYWORD", "$Label1"))[0] == b"4"
ok(m.uid("store", "5", "+FLAGS.SILENT", "(\\Deleted)"))
ok(m.close())
ok(m.rename("Scripts", "Old scripts".join('""')))
assert ok(m.status('"Old scripts"', "(MESSAGES)")) == [b'"Old scripts" (MESSAGES 3)']
m.logout()
"#;
    let world = World::new(kind, fill);
    let Endpoint { imaps, ca_file, user, password, .. } = world.endpoint();
    let mut command = Command::new("python3");
    command.arg("-c").arg(SCRIPT).arg(imaps.port().to_string()).arg(ca_file).args([user, password]);
    run(command, "imaplib");
    let mut c = world.straight();
    let found = |c: &mut Client, mailbox: &str| -> Vec<(String, String)> {
        c.cmd_ok(&format!("EXAMINE \"{mailbox}\""));
        let told = c.cmd_ok("UID FETCH 1:* (FLAGS BODY.PEEK[])").by_uid();
        let flags = |items: &BTreeMap<String, Value>| {
            let mut flags: Vec<_> = items["FLAGS"].list().iter().map(Value::text).filter(|f| f != "\\Recent").collect();
            flags.sort();
            flags.join(" ")
        };
        told.values().map(|items| (message_id(items["BODY[]"].bytes()), flags(items))).collect()
    };
    let message = |n: u32, flags: &str| (format!("<script.{n}@example.org>"), flags.to_owned());
    let kept = [message(0, "\\Flagged"), message(2, "\\Seen"), message(3, "$Label1")];
    assert_eq!(found(&mut c, "Old scripts"), kept);
    assert_eq!(found(&mut c, "Work/2025"), [message(0, "\\Flagged"), message(3, "$Label1")]);
}

fn neomutt(kind: Kind) {
    let world = World::new(kind, fill);
    let Endpoint { imap, imaps, ca_file, user, password } = world.endpoint();
    let urls =
        [(format!("imap://localhost:{}/", imap.port()), "yes"), (format!("imaps://localhost:{}/", imaps.port()), "no")];
    for (url, starttls) in urls {
        let home = scratch("mutt");
        let copy = home.path().join("copy");
        let rc = format!(
            "set folder=\"{url}\"\nset spoolfile=\"+INBOX\"\nset imap_user=\"{user}\"\nset imap_pass=\"{password}\"\n\
             set ssl_starttls={starttls}\nset ssl_force_tls=yes\nset certificate_file=\"{}\"\nset ssl_usesystemcerts=no\n\
             set mbox_type=Maildir\nset confirmcreate=no\nset confirmappend=no\nset copy=no\nset move=no\n\
             set delete=no\nset header_cache=\nset sort=mailbox-order\nset wait_key=no\n\
             push \"<tag-pattern>~A<enter><tag-prefix><copy-message>{}<enter><exit>\"\n",
            ca_file.display(),
            copy.display()
        );
        std::fs::write(home.path().join("rc"), rc).unwrap();
        std::fs::create_dir(home.path().join("home")).unwrap();
        // neomutt wants a terminal: script gives it one.
        let mut command = Command::new("timeout");
        let inner = format!("neomutt -n -F {}", home.path().join("rc").display());
        command.args(["60", "script", "-qefc", &inner, "/dev/null"]);
        command.env("HOME", home.path().join("home")).env("TERM", "xterm").stdin(std::process::Stdio::null());
        let said = run(command, "neomutt");
        let mut subjects: Vec<_> = read_maildir(&copy).into_iter().map(|(_, bytes)| message_id(&bytes)).collect();
        subjects.sort();
        let mut expected: Vec<_> = (0..12).map(|n| format!("<29.{n}@example.org>")).collect();
        expected.sort();
        assert_eq!(subjects, expected, "{url}: {said}");
    }
}

/// With a header cache and QRESYNC: the second run is told what has changed since the first, and believes the cache for the rest.
fn neomutt_resumes(kind: Kind) {
    let world = World::new(kind, fill);
    let Endpoint { imaps, ca_file, user, password, .. } = world.endpoint();
    let home = scratch("mutt");
    std::fs::create_dir(home.path().join("home")).unwrap();
    std::fs::create_dir(home.path().join("headers")).unwrap();
    let copies = |name: &str| -> Vec<(String, String)> {
        let copy = home.path().join(name);
        let rc = format!(
            "set folder=\"imaps://localhost:{}/\"\nset spoolfile=\"+INBOX\"\nset imap_user=\"{user}\"\nset imap_pass=\"{password}\"\n\
             set ssl_force_tls=yes\nset certificate_file=\"{}\"\nset ssl_usesystemcerts=no\nset imap_condstore=yes\n\
             set imap_qresync=yes\nset header_cache=\"{}\"\nset mbox_type=Maildir\nset confirmcreate=no\nset confirmappend=no\n\
             set copy=no\nset move=no\nset delete=no\nset sort=mailbox-order\nset wait_key=no\n\
             push \"<tag-pattern>~A<enter><tag-prefix><copy-message>{}<enter><exit>\"\n",
            imaps.port(),
            ca_file.display(),
            home.path().join("headers").display(),
            copy.display()
        );
        let file = home.path().join("rc");
        std::fs::write(&file, rc).unwrap();
        let mut command = Command::new("timeout");
        command.args(["60", "script", "-qefc", &format!("neomutt -n -F {}", file.display()), "/dev/null"]);
        command.env("HOME", home.path().join("home")).env("TERM", "xterm").stdin(std::process::Stdio::null());
        run(command, "neomutt");
        let kept = |flags: &str| flags.chars().filter(|c| matches!(c, 'F' | 'R')).collect::<String>();
        let mut all: Vec<_> =
            read_maildir(&copy).into_iter().map(|(flags, bytes)| (message_id(&bytes), kept(&flags))).collect();
        all.sort();
        all
    };
    let mut c = world.straight();
    c.cmd_ok("SELECT INBOX");
    let mut upstream = || -> Vec<(String, String)> {
        c.cmd_ok("NOOP");
        let told = c.cmd_ok("UID FETCH 1:* (FLAGS BODY.PEEK[])").by_uid();
        let flags = |items: &BTreeMap<String, Value>| {
            let flags: Vec<_> = items["FLAGS"].list().iter().map(Value::text).collect();
            let told = |flag: &str, c: &'static str| if flags.iter().any(|f| f == flag) { c } else { "" };
            format!("{}{}", told("\\Flagged", "F"), told("\\Answered", "R"))
        };
        let mut all: Vec<_> = told.values().map(|i| (message_id(i["BODY[]"].bytes()), flags(i))).collect();
        all.sort();
        all
    };
    assert_eq!(copies("first"), upstream());
    let mut other = world.client();
    other.cmd_ok("SELECT INBOX");
    other.cmd_ok("UID STORE 3,7 +FLAGS.SILENT (\\Deleted)");
    other.cmd_ok("UID EXPUNGE 3,7");
    other.cmd_ok("UID STORE 5 FLAGS (\\Answered)");
    other.cmd_ok("UID STORE 6 FLAGS (\\Flagged)");
    other.append("INBOX", "\\Flagged", &mail::message(29, 100, Sizes::Usual).bytes);
    let changed = upstream();
    assert_eq!(changed.len(), 11);
    assert_eq!(copies("second"), changed);
}

fn message_id(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let line = text.lines().find_map(|l| l.strip_prefix("Message-ID: ")).expect("Message-ID");
    line.trim().to_owned()
}

/// Messages of a Maildir with the flags mbsync or neomutt gave the file.
fn read_maildir(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for sub in ["cur", "new"] {
        for entry in std::fs::read_dir(dir.join(sub)).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let flags = name.split_once(":2,").map(|(_, f)| f.to_owned()).unwrap_or_default();
            all.push((flags, std::fs::read(&path).unwrap()));
        }
    }
    all
}

/// Pulls INBOX by mbsync into a new Maildir; messages by Message-ID with their flags.
pub fn pull(endpoint: &Endpoint, ssl: &str, into: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    let port = if ssl == "IMAPS" { endpoint.imaps.port() } else { endpoint.imap.port() };
    let dir = into.display();
    std::fs::create_dir_all(into).unwrap();
    let config = format!(
        "FSync no\n\nIMAPAccount a\nHost localhost\nPort {port}\nUser {}\nPass {}\nSSLType {ssl}\nAuthMechs LOGIN\n\
         CertificateFile {}\nSystemCertificates no\n\nIMAPStore far\nAccount a\n\nMaildirStore near\nPath {dir}/\nInbox {dir}/INBOX\n\n\
         Channel c\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSync Pull\nSyncState {dir}/state-\n",
        endpoint.user,
        endpoint.password,
        endpoint.ca_file.display(),
    );
    let rc = into.join("mbsyncrc");
    std::fs::write(&rc, config).unwrap();
    let mut command = Command::new("mbsync");
    command.arg("-c").arg(&rc).arg("-a").env("HOME", into);
    run(command, "mbsync");
    let all = read_maildir(&into.join("INBOX"));
    all.into_iter().map(|(flags, bytes)| (message_id(&bytes), (flags, without_tuid(&bytes)))).collect()
}

/// The message without the line by which mbsync finds again what it has stored; another one at each pull.
fn without_tuid(message: &[u8]) -> Vec<u8> {
    let lines = message.split_inclusive(|b| *b == b'\n');
    lines.filter(|l| !l.starts_with(b"X-TUID: ")).flatten().copied().collect()
}

fn mbsync(kind: Kind) {
    let world = World::new(kind, fill);
    let home = scratch("mbsync");
    let mut seen = Vec::new();
    for ssl in ["None", "STARTTLS", "IMAPS"] {
        let got = pull(&world.endpoint(), ssl, &home.path().join(ssl));
        assert_eq!(got.len(), 12, "{ssl}");
        seen.push(got);
    }
    assert!(seen.windows(2).all(|w| w[0] == w[1]));
}

/// Twenty thousand messages, byte for byte what a direct pull gives; a second client costs the upstream no body.
#[test]
fn mbsync_twenty_thousand() {
    const COUNT: u64 = 20_000;
    let world = World::new(Kind::Dovecot, |c| mail::load(c, "INBOX", 37, COUNT, Sizes::Small));
    if world.is_straight() {
        return;
    }
    let home = scratch("mbsync");
    let straight = Endpoint {
        imap: world.upstream.dovecot().imap,
        imaps: world.upstream.dovecot().imaps,
        ca_file: world.upstream.dovecot().ca_file().to_owned(),
        user: crate::harness::UPSTREAM_USER,
        password: crate::harness::UPSTREAM_PASSWORD,
    };
    let direct = pull(&straight, "None", &home.path().join("direct"));
    let through = pull(&world.endpoint(), "IMAPS", &home.path().join("through"));
    assert_eq!(direct.len(), COUNT as usize);
    assert!(direct == through, "the two pulls differ");
    let (filled, down) = (world.daemon().bodies_filled(), world.relay.down());
    let received = world.daemon().metric("mailweir_upstream_received_bytes_total", &[]);
    let second = pull(&world.endpoint(), "STARTTLS", &home.path().join("second"));
    assert!(direct == second, "the second pull differs");
    let bodies = world.daemon().bodies_filled() - filled;
    assert!(bodies.abs() < 0.5, "{bodies} bodies were fetched again");
    let (link, own) =
        (world.relay.down() - down, world.daemon().metric("mailweir_upstream_received_bytes_total", &[]) - received);
    assert!(link < 20_000, "{link} bytes came down for the second client");
    assert!((link as f64 - own).abs() < 2_000.0, "the daemon counts {own}, the link {link}");
}
