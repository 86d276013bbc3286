//! swaks, msmtp, curl and Python's smtplib over each listener, the certificate verified, to Exim and through Dovecot's submission service;
//! what arrives is what was sent.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use super::Post;
use crate::harness::smtp::Smtp;
use crate::harness::{ADDRESS, LOCAL_PASSWORD, scratch};

const MESSAGE: &str = "Date: Sun, 22 Nov 2026 07:42:25 +0000\r\nMessage-ID: <1@example.org>\r\nFrom: Ann <ann@example.org>\r\nTo: bob@example.net\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\
    MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
    .\r\n..\r\n.leading dot\r\nGr\u{fc}\u{df}e\r\n\r\nlast\r\n";

/// How a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Plain,
    StartTls,
    Implicit,
}

const DOORS: [Door; 3] = [Door::Plain, Door::StartTls, Door::Implicit];

pub(super) fn run(mut command: Command, what: &str, input: &[u8]) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{what}: {e}; tests/run installs it"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{what}: {status}\n{out}\n{err}");
    out.into_owned()
}

macro_rules! over_both {
    ($($name:ident)*) => { $(
        mod $name {
            use super::Post;

            #[test]
            fn exim() {
                super::$name(&Post::start());
            }

            #[test]
            fn dovecot() {
                super::$name(&Post::through_dovecot());
            }
        }
    )* };
}

over_both!(curl swaks msmtp smtplib pieces);

impl Post {
    fn port(&self, door: Door) -> u16 {
        if door == Door::Implicit { self.submissions.port() } else { self.submission.port() }
    }
}

fn curl(post: &Post) {
    for door in DOORS {
        let scheme = if door == Door::Implicit { "smtps" } else { "smtp" };
        let mut command = Command::new("curl");
        command.args(["-sS", "-4", "--max-time", "30", "--cacert"]).arg(post.daemon.ca_file());
        command.args(["-u", &format!("{ADDRESS}:{LOCAL_PASSWORD}"), "--mail-from", ADDRESS, "-T", "-"]);
        command.args(["--mail-rcpt", "bob@example.net", "--mail-rcpt", "carl@example.net"]);
        if door == Door::StartTls {
            command.arg("--ssl-reqd");
        }
        command.arg(format!("{scheme}://localhost:{}", post.port(door)));
        run(command, "curl", MESSAGE.as_bytes());
    }
    for message in post.exim.wait_sent(3) {
        assert_eq!(String::from_utf8_lossy(&message), MESSAGE);
    }
}

fn swaks(post: &Post) {
    for door in DOORS {
        let mut command = Command::new("swaks");
        command.args(["--server", "localhost", "--port", &post.port(door).to_string(), "--from", ADDRESS]);
        command.args(["--to", "bob@example.net,carl@example.net", "--auth", "PLAIN", "--auth-user", ADDRESS]);
        command.args(["--auth-password", LOCAL_PASSWORD, "--data", "-", "--tls-verify", "--tls-ca-path"]);
        command.arg(post.daemon.ca_file());
        match door {
            Door::Plain => {}
            Door::StartTls => drop(command.arg("--tls")),
            Door::Implicit => drop(command.arg("--tlsc")),
        }
        // swaks makes line ends and dots of its own, and one line end more at the end.
        run(command, "swaks", MESSAGE.replace("\r\n", "\n").as_bytes());
    }
    for message in post.exim.wait_sent(3) {
        assert_eq!(String::from_utf8_lossy(&message).trim_end(), MESSAGE.trim_end());
    }
}

fn msmtp(post: &Post) {
    let home = scratch("msmtp");
    for door in DOORS {
        let file = home.path().join(format!("{door:?}"));
        let tls = match door {
            Door::Plain => "tls off",
            Door::StartTls => "tls on\ntls_starttls on",
            Door::Implicit => "tls on\ntls_starttls off",
        };
        let text = format!(
            "defaults\nauth plain\n{tls}\ntls_trust_file {}\naccount a\nhost localhost\nport {}\nfrom {ADDRESS}\nuser {ADDRESS}\npassword {LOCAL_PASSWORD}\naccount default: a\n",
            post.daemon.ca_file().display(),
            post.port(door)
        );
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut command = Command::new("msmtp");
        command.arg("-C").arg(&file).args(["bob@example.net", "carl@example.net"]);
        run(command, "msmtp", MESSAGE.replace("\r\n", "\n").as_bytes());
    }
    for message in post.exim.wait_sent(3) {
        assert_eq!(String::from_utf8_lossy(&message), MESSAGE);
    }
}

/// Also what the others cannot: SMTPUTF8, DSN, 500 recipients of which some are refused, 25 MB.
fn smtplib(post: &Post) {
    const SCRIPT: &str = r#"
import smtplib, ssl, sys
port, ports, ca, user, password, is_exim = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:6], sys.argv[6] == "true"
message = sys.stdin.buffer.read()
context = ssl.create_default_context(cafile=ca)
plain = smtplib.SMTP("localhost", port)
upgraded = smtplib.SMTP("localhost", port)
upgraded.starttls(context=context)
tls = smtplib.SMTP_SSL("localhost", ports, context=context)
for server in plain, upgraded, tls:
    server.login(user, password)
    to = ["bob@example.net", "nobody@example.net"][:1 + is_exim]
    refused = server.sendmail(user, to, message, mail_options=["BODY=8BITMIME"])
    assert list(refused) == to[1:] and all(answer[0] == 550 for answer in refused.values()), refused
try:
    if is_exim:
        tls.sendmail(user, ["nobody@example.net"], message)
        raise SystemExit("a message for nobody was taken")
except smtplib.SMTPRecipientsRefused as error:
    assert error.recipients["nobody@example.net"][1] == b"5.0.0 no such user", error.recipients
try:
    tls.sendmail("eve@example.org", ["bob@example.net"], message)
except smtplib.SMTPSenderRefused as error:
    assert error.smtp_code == 553, error
else:
    raise SystemExit("somebody else's address was taken")
many = [f"r{n}@example.net" for n in range(500)]
assert tls.sendmail(user, many, message) == {}
if tls.has_extn("smtputf8"):
    assert tls.sendmail("änn@example.org", ["böb@example.net"], message, mail_options=["SMTPUTF8", "BODY=8BITMIME"]) == {}
else:
    try:
        tls.sendmail("änn@example.org", ["bob@example.net"], message, mail_options=["SMTPUTF8"])
    except smtplib.SMTPNotSupportedError:
        pass
    assert not is_exim
    assert tls.sendmail(user, ["bob@example.net"], message) == {}
dsn = (["RET=HDRS", "ENVID=Q1"], ["NOTIFY=FAILURE"]) if tls.has_extn("dsn") else ()
assert dsn or not is_exim
assert tls.sendmail(user, ["bob@example.net"], message, *dsn) == {}
large = b"Subject: large\r\n\r\n" + (b"0123456789" * 7 + b"\r\n") * 364723
assert tls.sendmail(user, ["bob@example.net"], large) == {}
too_large = b"Subject: too large\r\n\r\n" + (b"0123456789" * 7 + b"\r\n") * 600000
try:
    tls.sendmail(user, ["bob@example.net"], too_large)
except smtplib.SMTPSenderRefused as error:
    assert error.smtp_code == 552, error
else:
    raise SystemExit("a message above the limit was taken")
for server in plain, upgraded, tls:
    server.quit()
"#;
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT, &post.submission.port().to_string(), &post.submissions.port().to_string()]);
    command.arg(post.daemon.ca_file()).args([ADDRESS, LOCAL_PASSWORD, &post.is_exim.to_string()]);
    run(command, "smtplib", MESSAGE.as_bytes());
    let sent = post.exim.wait_sent(7);
    assert_eq!(sent.len(), 7);
    let (large, small): (Vec<_>, Vec<_>) = sent.into_iter().partition(|message| message.len() > 1_000_000);
    for message in small {
        assert_eq!(String::from_utf8_lossy(&message), MESSAGE);
    }
    let whole =
        [&b"Subject: large\r\n\r\n"[..], &[&b"0123456789".repeat(7)[..], b"\r\n"].concat().repeat(364_723)].concat();
    assert!(large == [whole], "25 MB, each octet of them");
    for n in 0..500 {
        assert_eq!(post.exim.delivered(&format!("r{n}@example.net")), 1, "recipient {n} once");
    }
    assert_eq!(post.exim.delivered("b\u{f6}b@example.net"), usize::from(post.is_exim));
}

/// No program at hand sends BDAT.
fn pieces(post: &Post) {
    let mut client = post.login();
    client.says("MAIL FROM:<ann@example.org>", "250");
    client.says("RCPT TO:<bob@example.net>", "250");
    let (first, last) = MESSAGE.as_bytes().split_at(200);
    client.raw(&[format!("BDAT {}\r\n", first.len()).as_bytes(), first].concat());
    assert!(client.reply().starts_with("250"));
    client.raw(&[format!("BDAT {} LAST\r\n", last.len()).as_bytes(), last].concat());
    assert!(client.reply().starts_with("250"));
    assert_eq!(post.exim.wait_sent(1), [MESSAGE.as_bytes()]);
}

#[test]
fn to_the_provider_by_tls() {
    for tls in ["starttls", "implicit"] {
        let post = Post::with(tls, |_| {});
        post.login().send(ADDRESS, &["bob@example.net"], MESSAGE);
        assert_eq!(post.exim.wait_sent(1), [MESSAGE.as_bytes()], "{tls}");
        assert!(post.exim.log().contains(" X=TLS"), "{tls}: encrypted");
    }
    // An authority nobody trusts: nothing is sent, no password either.
    let post = Post::with("starttls", |setup| {
        let smtp = &mut setup.accounts[0].smtp;
        *smtp = smtp.lines().filter(|line| !line.starts_with("ca_file")).collect::<Vec<_>>().join("\n");
    });
    let answer = post.login().ask("MAIL FROM:<ann@example.org>");
    assert!(answer.starts_with("451 4.4.1") && answer.contains("certificate"), "{answer}");
}

#[test]
fn nothing_said_before_tls_is_run_under_it() {
    let post = Post::start();
    let tcp = std::net::TcpStream::connect(post.submission).unwrap();
    let mut clear = Smtp::greeted(tcp.try_clone().unwrap());
    clear.ehlo();
    clear.raw(b"STARTTLS\r\nEHLO eve\r\nNOOP\r\n");
    assert!(clear.reply().starts_with("220"));
    let mut client = Smtp::tls(tcp, &post.daemon.ca_file());
    // The first answer under TLS is to the first command under TLS.
    let offered = client.ehlo();
    assert!(!offered.iter().any(|line| line == "STARTTLS") && offered.iter().any(|line| line.starts_with("AUTH")));
    client.says("RSET", "250 2.0.0 Reset");
}
