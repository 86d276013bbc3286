//! The line falls silent at a step of a write, and nobody closes it. The daemon gives it up after its time and settles what has become of the
//! write; what it had sent must not arrive later and be done after all.

use std::sync::Barrier;
use std::time::Duration;

use super::stage::{Meanwhile, Op, Stage};
use super::upstream::{Kind, Upstream};
use crate::harness::answer::Status;
use crate::harness::daemon::{Account, Setup};
use crate::harness::dovecot::user;
use crate::harness::inside::Inside;
use crate::harness::relay::Relay;
use crate::harness::trap::{Act, Place, Point, Trap};
use crate::harness::{PATIENCE, straight_run};

/// Longer than a provider may be silent in an answer (`upstream::session::READ_TIMEOUT`).
const SILENCE: Duration = Duration::from_secs(61);

type Row = (Op, &'static str, Point, Act);

const FULL_ROWS: &[Row] = &[
    (Op::Append, "APPEND ", Point::Command, Act::Stall),
    (Op::Append, "APPEND ", Point::Command, Act::Late),
    (Op::Append, "APPEND ", Point::Octet(200), Act::Late),
    (Op::Append, "APPEND ", Point::Answer, Act::Stall),
    (Op::Copy, "UID COPY", Point::Command, Act::Stall),
    (Op::Copy, "UID COPY", Point::Command, Act::Late),
    (Op::Copy, "UID COPY", Point::Answer, Act::Stall),
    (Op::Move, "UID MOVE", Point::Command, Act::Stall),
    (Op::Move, "UID MOVE", Point::Command, Act::Late),
    (Op::Move, "UID MOVE", Point::Answer, Act::Stall),
    (Op::Flag, "UID STORE", Point::Command, Act::Late),
    (Op::Flag, "UID STORE", Point::Answer, Act::Stall),
    (Op::UidExpunge, "UID EXPUNGE", Point::Command, Act::Late),
    (Op::UidExpunge, "UID EXPUNGE", Point::Answer, Act::Stall),
];
const BARE_ROWS: &[Row] = &[
    (Op::Append, "APPEND ", Point::Command, Act::Late),
    (Op::Append, "APPEND ", Point::Go, Act::Stall),
    (Op::Append, "APPEND ", Point::Answer, Act::Stall),
    (Op::Move, "UID COPY", Point::Command, Act::Late),
    (Op::Move, "UID COPY", Point::Answer, Act::Stall),
    (Op::Move, "+FLAGS (\\Deleted)", Point::Command, Act::Late),
    (Op::Move, "+FLAGS (\\Deleted)", Point::Answer, Act::Stall),
    (Op::Move, "EXPUNGE", Point::Command, Act::Late),
    (Op::Move, "EXPUNGE", Point::Answer, Act::Stall),
    (Op::UidExpunge, "EXPUNGE", Point::Command, Act::Late),
    (Op::UidExpunge, "EXPUNGE", Point::Answer, Act::Stall),
];

/// All rows fall silent, then the clock jumps once for all of them.
fn play(kind: Kind, rows: &[Row]) {
    if straight_run() {
        return;
    }
    let upstream = Upstream::start(kind);
    let relays: Vec<Relay> = rows.iter().map(|_| upstream.relay()).collect();
    upstream.fill((0..rows.len()).map(|row| (row, row)));
    let accounts = relays.iter().enumerate().map(|(n, relay)| upstream.account(n, relay)).collect();
    let inside = Inside::start(Setup { accounts, ..Setup::new(Account::at(upstream.addr())) });
    let silent = Barrier::new(rows.len() + 1);
    std::thread::scope(|scope| {
        for (n, row) in rows.iter().enumerate() {
            let (inside, relay, upstream, silent) = (&inside, &relays[n], &upstream, &silent);
            scope.spawn(move || one(n, *row, inside, relay, upstream, silent));
        }
        silent.wait();
        inside.jump(SILENCE);
    });
}

fn one(n: usize, row: Row, inside: &Inside, relay: &Relay, upstream: &Upstream, silent: &Barrier) {
    let (op, word, point, act) = row;
    let client = || inside.daemon.client_of(&format!("{}@example.org", user(n)));
    let mut stage = Stage::set(n, op, client(), client(), upstream.straight(n));
    relay.set_trap(Trap::new(word, point, Place::Before, act));
    let sent = stage.start();
    let sprung = relay.sprung(PATIENCE);
    relay.go_on();
    silent.wait();
    assert!(sprung, "{row:?}: the step never came");
    let answer = stage.answer(sent);
    if act == Act::Late {
        relay.deliver_late();
    }
    let is_done = stage.is_done(Meanwhile::Nothing).unwrap_or_else(|half| panic!("{row:?}: {}: {half}", answer.text));
    let is_ok = answer.status == Status::Ok;
    let unseen = answer.text.contains("cannot be seen");
    assert!(
        is_ok == is_done || (is_done && unseen),
        "{row:?}: done: {is_done}, and told {:?} {}",
        answer.status,
        answer.text
    );
    if !is_done {
        stage.again();
        assert_eq!(stage.is_done(Meanwhile::Nothing), Ok(true), "{row:?}, once more");
    }
    stage.settle();
}

#[test]
fn stalled() {
    play(Kind::Full, FULL_ROWS);
}

#[test]
fn stalled_bare() {
    play(Kind::Bare, BARE_ROWS);
}
