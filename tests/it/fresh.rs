//! The first five minutes of somebody new, on a computer where nothing of ours has ever been: a bare Debian that `tests/run` unpacks, entered
//! by chroot, as a user without rights. What he types is `fresh/five-minutes.sh`.

use std::process::Command;

use crate::harness::daemon::PROGRAM;
use crate::harness::dovecot::Dovecot;
use crate::harness::{ADDRESS, UPSTREAM_PASSWORD, UPSTREAM_USER, servers_dir, straight_run};

const SCRIPT: &str = include_str!("fresh/five-minutes.sh");
/// A user who may nothing.
const NOBODY: &str = "65534:65534";

/// Runs `command` in the root with `/proc`, in a mount namespace of its own, so that nothing stays mounted.
fn inside(root: &str, home: &str, env: &[(&str, &str)], command: &[&str]) -> (bool, String) {
    let enter =
        "mount -t proc proc \"$0/proc\" && exec chroot --userspec=\"$1\" \"$0\" /usr/bin/env -i \"${@:2}\" 2>&1";
    let mut args = vec!["--mount", "bash", "-c", enter, root, NOBODY];
    let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (home_is, path) = (format!("HOME={home}"), format!("PATH={home}/bin:/usr/bin:/bin"));
    args.extend([home_is.as_str(), &path]);
    args.extend(env.iter().map(String::as_str));
    args.extend(command);
    let out = Command::new("unshare").args(args).output().expect("unshare, of util-linux");
    (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
}

#[test]
fn from_nothing_to_mail_in_five_minutes() {
    if straight_run() {
        return;
    }
    let root = servers_dir().join("debian");
    assert!(root.join("etc/debian_version").exists(), "tests/run unpacks a bare Debian to {}", root.display());
    let dovecot = Dovecot::start();
    dovecot.client().append("INBOX", "", b"Subject: hello\r\n\r\nthe first mail\r\n");
    let home = tempfile::Builder::new().prefix("home-").tempdir_in(root.join("tmp")).unwrap();
    std::fs::create_dir(home.path().join("bin")).unwrap();
    std::fs::copy(PROGRAM, home.path().join("bin/mailweir")).unwrap();
    std::fs::copy(dovecot.ca_file(), home.path().join("provider.pem")).unwrap();
    crate::harness::give_to_nobody(home.path());
    crate::harness::open_to_all(home.path());
    let inner = format!("/tmp/{}", home.path().file_name().unwrap().to_str().unwrap());
    let imap = format!("localhost:{}", dovecot.imaps.port());
    let ca = format!("{inner}/provider.pem");
    let env = [
        ("IMAP", imap.as_str()),
        ("CA", &ca),
        ("ADDRESS", ADDRESS),
        ("LOGIN", UPSTREAM_USER),
        ("UPSTREAM", UPSTREAM_PASSWORD),
    ];
    let (done, said) = inside(root.to_str().unwrap(), &inner, &env, &["sh", "-c", SCRIPT]);
    println!("{said}");
    let log = std::fs::read_to_string(home.path().join("log")).unwrap_or_default();
    assert!(done && said.contains("== done"), "the script ended early\n{log}");
    assert!(said.contains("the first mail\r\n"), "curl read no mail over verified TLS");
    assert!(!said.contains(UPSTREAM_PASSWORD) && !log.contains(UPSTREAM_PASSWORD), "the provider's password was shown");

    // The units it printed, looked at by systemd's tools, which see the root from outside.
    for (printed, name) in [("unit", "mailweir.service"), ("system-unit", "mailweir-system.service")] {
        let text = std::fs::read_to_string(home.path().join(printed)).unwrap();
        assert!(text.contains(&format!("ExecStart={inner}/bin/mailweir run")), "{text}");
        std::fs::write(home.path().join(name), text.replace(&inner, home.path().to_str().unwrap())).unwrap();
        let unit = home.path().join(name);
        let verify = ["verify", "--man=no", "--recursive-errors=no", unit.to_str().unwrap()];
        let out = Command::new("systemd-analyze").args(verify).output().expect("systemd-analyze");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let security = ["security", "--no-pager", "--offline=yes", unit.to_str().unwrap()];
        let out = Command::new("systemd-analyze").args(security).output().expect("systemd-analyze");
        let score = String::from_utf8_lossy(&out.stdout).lines().last().unwrap_or_default().to_owned();
        println!("{score}");
        assert!(score.contains("exposure level"), "{score}");
    }
}
