//! `kill -9` around a refresh token that rotates: what is handed out is on the disk; the window that stays is told of, and mended by a login.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::World;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::oauth::{AuthServer, Browser};
use crate::harness::relay::{Fault, Link, Relay};
use crate::harness::{straight_run, wait_for};

/// Before the token endpoint: passes requests on, and can keep the answers to itself.
struct Withholding {
    addr: SocketAddr,
    withholds: Arc<AtomicBool>,
    /// Answers that came and were not passed on.
    withheld: Arc<AtomicUsize>,
    /// Connections whose answer was not passed on; open, as far as the client can tell.
    kept: Arc<Mutex<Vec<TcpStream>>>,
}

impl Withholding {
    fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (withholds, withheld, kept) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let this =
            Self { addr, withholds: Arc::clone(&withholds), withheld: Arc::clone(&withheld), kept: Arc::clone(&kept) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut up = TcpStream::connect(server).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), up.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let (withholds, withheld) = (Arc::clone(&withholds), Arc::clone(&withheld));
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || {
                    // One exchange a connection; the server closes behind it.
                    let mut answer = Vec::new();
                    let _ = up.read_to_end(&mut answer);
                    let mut client = client;
                    if withholds.load(Ordering::SeqCst) && !answer.is_empty() {
                        kept.lock().unwrap().push(client);
                        withheld.fetch_add(1, Ordering::SeqCst);
                    } else {
                        let _ = client.write_all(&answer);
                    }
                });
            }
        });
        this
    }
}

const SECONDS: u32 = 8;

#[test]
fn killed_between_the_servers_answer_and_ours_the_loss_is_told_and_a_login_mends_it() {
    if straight_run() {
        return;
    }
    let auth = AuthServer::start(SECONDS);
    let introspection = Some(auth.introspection_url());
    let dovecot = Dovecot::with(Options { introspection, ..Options::default() });
    dovecot.client().append("INBOX", "", b"Subject: first\r\n\r\nthe first body\r\n");
    let (mail, between) = (Relay::to(dovecot.imap, Link::default()), Withholding::before(auth.addr));
    let account = Account { pop3: auth.settings(between.addr), ..Account::at(mail.addr) };
    let daemon = Daemon::start(Setup::new(account));
    let tokens = Relay::to(auth.addr, Link::default());
    let mut world = World { daemon, mail, tokens, dovecot, auth, browser: Browser::new() };
    world.log_in();
    let mut client = world.daemon.client();
    wait_for("the mailbox", || client.cmd("SELECT INBOX").is_ok());
    assert!(World::read(&mut client, 1));
    // The server has replaced the refresh token; the answer never comes.
    between.withholds.store(true, Ordering::SeqCst);
    wait_for("a renewal", || between.withheld.load(Ordering::SeqCst) > 0);
    world.daemon.kill();
    between.withholds.store(false, Ordering::SeqCst);
    between.kept.lock().unwrap().clear();
    world.daemon.restart();
    // This server ends a consent whose old token is used again (RFC 6819 §5.2.2.3): nothing of ours can save it.
    wait_for("the loss of the consent", || world.needs_login());
    let (_, text) = world.daemon.http_get("/status.json");
    assert!(text.contains("a renewal before was broken off") && text.contains("account login"), "{text}");
    let mut client = world.daemon.client();
    client.cmd_ok("SELECT INBOX");
    assert!(World::read(&mut client, 1), "cached mail is served");
    let other = World { browser: Browser::new(), ..world };
    other.log_in();
    wait_for("the consent to be taken over", || !other.needs_login());
    let uid = other.dovecot.client().append("INBOX", "", b"Subject: new\r\n\r\nnew\r\n").expect("APPENDUID");
    wait_for("the new message", || client.cmd_ok("NOOP").is_ok() && World::read(&mut client, uid));
}

/// Killed the moment the mail server has seen a new access token, with the authorization server gone from then on: that token, and the
/// refresh token that came with it, are there after the start.
#[test]
fn what_the_mail_server_has_seen_is_on_the_disk() {
    const LIFE: u32 = 30;
    let Some(mut world) = World::new(LIFE, false) else { return };
    world.log_in();
    let mut client = world.daemon.client();
    wait_for("the mailbox", || client.cmd("SELECT INBOX").is_ok());
    for _ in 0..3 {
        let given = world.auth.tokens().len();
        let logins =
            |world: &World| world.dovecot.log().matches("imap-login: Info: Login: user=<ann>, method=XOAUTH2").count();
        let before = logins(&world);
        // The old token is of no use, so that the next login has a new one.
        world.auth.expire();
        world.mail.cut();
        wait_for("a login with a new token", || world.auth.tokens().len() > given && logins(&world) > before);
        world.daemon.kill();
        world.tokens.set(Fault::Refuse);
        let uid = world.dovecot.client().append("INBOX", "", b"Subject: x\r\n\r\nx\r\n").expect("APPENDUID");
        world.daemon.restart();
        let mut client = world.daemon.client();
        client.cmd_ok("SELECT INBOX");
        wait_for("what came meanwhile", || client.cmd_ok("NOOP").is_ok() && World::read(&mut client, uid));
        assert!(!world.needs_login());
        world.tokens.set(Fault::None);
        // And it can be renewed.
        let given = world.auth.tokens().len();
        world.auth.expire();
        world.mail.cut();
        wait_for("a token after the kill", || world.auth.tokens().len() > given);
        // And is used: a login under way now would be taken for one of the next round.
        let uid = world.dovecot.client().append("INBOX", "", b"Subject: y\r\n\r\ny\r\n").expect("APPENDUID");
        wait_for("what came then", || client.cmd_ok("NOOP").is_ok() && World::read(&mut client, uid));
    }
}
