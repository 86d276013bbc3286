//! SIGHUP: what the configuration file says now, without dropping anybody who stays.

use crate::harness::client::Client;
use crate::harness::daemon::Account;
use crate::harness::dovecot::Dovecot;
use crate::harness::trap::{Act, Place, Point, Trap};
use crate::harness::world::{Kind, World};
use crate::harness::{LOCAL_PASSWORD, PATIENCE, straight_run, wait_for};

const TAKEN: &str = "the configuration was read again";
const REFUSED: &str = "the configuration was not taken over";

fn world() -> Option<World> {
    if straight_run() {
        return None;
    }
    Some(World::new(Kind::Dovecot, |c| {
        c.append("INBOX", "", b"Subject: a\r\n\r\na\r\n");
    }))
}

fn login(world: &World, user: &str, password: &str) -> bool {
    Client::connect(world.daemon().imap).cmd(&format!("LOGIN {user} {password}")).is_ok()
}

#[test]
fn accounts_come_and_go_and_the_others_do_not_notice() {
    let Some(mut world) = world() else { return };
    let mut ann = world.client();
    ann.cmd_ok("SELECT INBOX");
    let idle = ann.idle();
    assert!(!login(&world, "bob@example.org", LOCAL_PASSWORD));

    world.daemon_mut().change(|setup| {
        let bob = Account { address: "bob@example.org".into(), ..setup.accounts[0].clone() };
        setup.accounts.push(bob);
    });
    world.daemon().reload(TAKEN);
    let mut bob = Client::connect(world.daemon().imap).login("bob@example.org", LOCAL_PASSWORD);
    bob.cmd_ok("SELECT INBOX");
    assert_eq!(bob.cmd_ok("UID FETCH 1 BODY.PEEK[TEXT]").by_uid().len(), 1);

    world.daemon_mut().change(|setup| drop(setup.accounts.pop()));
    world.daemon().reload(TAKEN);
    bob.until("* BYE<*>");
    assert!(bob.is_closed());
    assert!(!login(&world, "bob@example.org", LOCAL_PASSWORD));

    // And back, on the cache it left behind.
    world.daemon_mut().change(|setup| {
        let bob = Account { address: "Bob@example.org".into(), ..setup.accounts[0].clone() };
        setup.accounts.push(bob);
    });
    world.daemon().reload(TAKEN);
    Client::connect(world.daemon().imap).login("bob@example.org", LOCAL_PASSWORD).cmd_ok("SELECT INBOX");

    // The idling session has lived through all of it, and is told of new mail.
    world.straight().append("INBOX", "", b"Subject: b\r\n\r\nb\r\n");
    ann.until("* 2 EXISTS");
    ann.done(&idle);
    ann.cmd_ok("FETCH 2 BODY.PEEK[]");
}

#[test]
fn a_new_local_password_holds_for_the_next_login() {
    let Some(mut world) = world() else { return };
    let mut ann = world.client();
    ann.cmd_ok("SELECT INBOX");
    world.daemon_mut().change(|setup| setup.accounts[0].local_password = "another".into());
    world.daemon().reload(TAKEN);
    assert!(!login(&world, "ann@example.org", LOCAL_PASSWORD));
    assert!(login(&world, "ann@example.org", "another"));
    ann.cmd_ok("NOOP");
}

#[test]
fn limits_change_under_a_session() {
    let Some(mut world) = world() else { return };
    let mut ann = world.client();
    ann.cmd_ok("SELECT INBOX");
    let open = || world.daemon().metric("mailweir_upstream_connections", &[]);
    wait_for("more than one connection", || open() > 1.0);
    world.daemon_mut().change(|setup| {
        setup.accounts[0].connections = 1;
        setup.accounts[0].limits_more = "download_per_day = \"5MB\"".into();
    });
    world.daemon().reload(TAKEN);
    assert_eq!(world.daemon().metric("mailweir_budget_limit_bytes", &["download"]), 5_000_000.0);
    wait_for("one connection", || {
        ann.cmd_ok("STATUS INBOX (MESSAGES)");
        world.daemon().metric("mailweir_upstream_connections", &[]) <= 1.0
    });
    ann.cmd_ok("FETCH 1 BODY.PEEK[]");
}

#[test]
fn faults_are_told_all_at_once_and_nothing_changes() {
    let Some(mut world) = world() else { return };
    let mut ann = world.client();
    ann.cmd_ok("SELECT INBOX");
    world.daemon_mut().change(|setup| {
        let mut bob = Account { address: "bob@example.org".into(), ..setup.accounts[0].clone() };
        bob.limits_more = "download_per_day = \"plenty\"\nupload_per_day = \"much\"".into();
        setup.accounts.push(bob);
        setup.accounts[0].local_password = "another".into();
    });
    world.daemon().reload(REFUSED);
    let said = world.daemon().server().errors();
    assert!(said.contains("download_per_day") && said.contains("upload_per_day"), "{said}");
    assert!(login(&world, "ann@example.org", LOCAL_PASSWORD), "the old configuration stays");
    ann.cmd_ok("NOOP");
}

/// Another server behind the same account: the sessions end, and no mail of the old one is shown as the new one's.
#[test]
fn an_account_that_moves_to_another_provider_begins_again() {
    let Some(mut world) = world() else { return };
    let other = Dovecot::start();
    other.client().append("INBOX", "", b"Subject: elsewhere\r\n\r\nelsewhere\r\n");
    let mut ann = world.client();
    ann.cmd_ok("SELECT INBOX");
    ann.cmd_ok("FETCH 1 BODY.PEEK[]");
    let target = other.imap;
    world.daemon_mut().change(|setup| setup.accounts[0].upstream = target);
    world.daemon().reload(TAKEN);
    ann.until("* BYE<*>");
    let mut ann = world.client();
    wait_for("the other INBOX", || ann.cmd("SELECT INBOX").is_ok());
    let subject = ann.cmd_ok("FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]").lines().concat();
    assert!(subject.contains("elsewhere"), "{subject}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let Some(world) = world() else { return };
    let mut ann = world.client();
    ann.cmd_ok("SELECT INBOX");
    // An order that ends waits for a change that is under way, and this one's answer never comes.
    world.relay.set_trap(Trap::new(" UID STORE ", Point::Answer, Place::Before, Act::Stall));
    ann.start("STORE 1 +FLAGS (\\Flagged)").unwrap();
    assert!(world.relay.sprung(PATIENCE), "the change did not reach the provider");
    world.daemon().server().signal("TERM");
    wait_for("the first to be heard", || world.daemon().server().errors().contains("stopping"));
    world.daemon().server().signal("INT");
    wait_for("its end", || !std::path::Path::new(&format!("/proc/{}", world.daemon().pid())).exists());
    // What it printed last may still be on its way to us.
    wait_for("its last words", || world.daemon().server().errors().contains("ending at once"));
}
