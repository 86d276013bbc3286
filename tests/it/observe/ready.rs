//! `/readyz` goes red with the reason within a period, for what can keep an account from its provider or its disk; cached mail is served all
//! the while; and it is green again after. (A consent taken back: `oauth.rs`.)

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::client::Client;
use crate::harness::relay::{Fault, Link};
use crate::harness::world::{Kind, World};
use crate::harness::{UPSTREAM_PASSWORD, straight_run, wait_for};

/// `http.ready_within` of these tests; and what a busy machine may add to it.
const PERIOD: Duration = Duration::from_secs(6);
const SLACK: Duration = Duration::from_secs(4);

/// A daemon that is ready, one message cached, and the client that has read it.
fn ready() -> Option<(World, Client)> {
    if straight_run() {
        return None;
    }
    let change = |mut setup: crate::harness::daemon::Setup| {
        setup.more = format!("[http]\nready_within = \"{}s\"\n", PERIOD.as_secs());
        setup
    };
    let world = World::with(Kind::Dovecot, Link::default(), change, |c| {
        c.append("INBOX", "", b"Subject: kept\r\n\r\nwhat is cached\r\n");
    });
    let mut client = world.client();
    client.cmd_ok("SELECT INBOX");
    read(&mut client);
    green(&world);
    Some((world, client))
}

fn read(client: &mut Client) {
    let answer = client.cmd_ok("UID FETCH 1 BODY.PEEK[TEXT]");
    assert_eq!(answer.by_uid()[&1]["BODY[TEXT]"].text(), "what is cached\r\n");
}

fn green(world: &World) {
    wait_for("/readyz to be green", || world.daemon().http_get("/readyz").0 == 200);
}

/// Red within a period from now; the reason.
fn red(world: &World) -> String {
    let began = Instant::now();
    let mut reason = String::new();
    wait_for("/readyz to be red", || {
        let (status, text) = world.daemon().http_get("/readyz");
        reason = text;
        status == 503
    });
    assert!(began.elapsed() <= PERIOD + SLACK, "it took {:?}", began.elapsed());
    assert!(reason.starts_with("ann@example.org: "), "{reason}");
    // The process is alive all the same, and the metrics say the same.
    assert_eq!(world.daemon().http_get("/healthz").0, 200);
    assert_eq!(world.daemon().metric("mailweir_account_state", &["state=\"ready\""]) as u64, 0);
    reason
}

/// Cached mail, in the session there is and in a new one.
fn serves(world: &World, client: &mut Client) {
    read(client);
    let mut late = world.client();
    late.cmd_ok("SELECT INBOX");
    read(&mut late);
}

#[test]
fn a_quiet_account_stays_ready() {
    let Some((world, mut client)) = ready() else { return };
    // Nobody asks anything, for two periods: the daemon proves it by itself.
    let until = Instant::now() + PERIOD * 2;
    while Instant::now() < until {
        assert_eq!(world.daemon().http_get("/readyz").0, 200);
        std::thread::sleep(Duration::from_millis(200));
    }
    read(&mut client);
}

#[test]
fn an_upstream_that_refuses() {
    let Some((world, mut client)) = ready() else { return };
    world.relay.set(Fault::Refuse);
    world.relay.cut();
    let reason = red(&world);
    assert!(reason.contains("cannot be reached") || reason.contains("was lost"), "{reason}");
    assert_eq!(world.daemon().metric("mailweir_account_state", &["state=\"unreachable\""]) as u64, 1);
    assert_eq!(world.daemon().metric("mailweir_upstream_reachable", &[]) as u64, 0);
    serves(&world, &mut client);
    world.relay.set(Fault::None);
    green(&world);
}

#[test]
fn an_upstream_that_says_nothing_any_more() {
    let Some((world, mut client)) = ready() else { return };
    world.relay.set(Fault::Stall);
    let reason = red(&world);
    assert!(reason.contains("has not answered for") || reason.contains("cannot be reached"), "{reason}");
    serves(&world, &mut client);
    world.relay.set(Fault::None);
    // What was said into the dead line is lost with it.
    world.relay.cut();
    green(&world);
}

#[test]
fn a_wrong_password() {
    let Some((mut world, _client)) = ready() else { return };
    let set = |world: &mut World, password: &str| {
        let password = password.to_owned();
        world.daemon_mut().change(|setup| setup.accounts[0].password = password);
        world.daemon().reload("the configuration was read again");
    };
    set(&mut world, "not-the-password");
    red(&world);
    let mut reason = String::new();
    wait_for("the reason", || {
        reason = world.daemon().http_get("/readyz").1;
        reason.contains("refuses the login")
    });
    assert!(!reason.contains("not-the-password"), "{reason}");
    assert_eq!(world.daemon().metric("mailweir_needs_login", &[]) as u64, 1);
    assert_eq!(world.daemon().metric("mailweir_account_state", &["state=\"needs_login\""]) as u64, 1);
    // The account was begun anew, so its sessions have ended; a new one reads what is cached.
    let mut client = world.client();
    client.cmd_ok("SELECT INBOX");
    serves(&world, &mut client);
    set(&mut world, UPSTREAM_PASSWORD);
    green(&world);
    assert_eq!(world.daemon().metric("mailweir_needs_login", &[]) as u64, 0);
}

/// A small file system in memory, over a directory.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn over(dir: &Path, size: &str) -> Self {
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir).status();
        assert!(mounted.is_ok_and(|status| status.success()), "mounting needs root, as in CI");
        Self(dir.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: what is still open ends with its process. A failure leaves a mount on a directory nobody knows.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk() {
    let Some((mut world, client)) = ready() else { return };
    drop(client);
    world.daemon_mut().stop();
    // The cache leaves the last gibibyte of a disk alone.
    let disk = Tmpfs::over(&world.daemon().data_dir(), "1100m");
    world.daemon_mut().restart();
    let mut client = world.client();
    client.cmd_ok("SELECT INBOX");
    read(&mut client);
    green(&world);
    let filler = disk.0.join("filler");
    std::fs::write(&filler, vec![b'x'; 90 << 20]).unwrap();
    let reason = red(&world);
    assert!(reason.contains("the disk is nearly full"), "{reason}");
    assert_eq!(world.daemon().metric("mailweir_account_state", &["state=\"disk\""]) as u64, 1);
    assert!(world.daemon().metric("mailweir_cache_errors_total", &["kind=\"full\""]) >= 1.0);
    serves(&world, &mut client);
    // Nothing is lost by it either: what is written now is at the provider.
    client.append("INBOX", "", b"Subject: new\r\n\r\nnew\r\n");
    std::fs::remove_file(&filler).unwrap();
    green(&world);
    world.daemon_mut().stop();
    drop(disk);
}
