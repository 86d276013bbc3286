//! The daemon is killed (-9) at a step of a write. After the restart the write is done or undone as a whole, without anybody asking again.

use std::time::{Duration, Instant};

use super::stage::{Meanwhile, Op, Stage};
use super::steps::{APPEND, COPY, EXPUNGE_BARE, FLAG, MOVE, MOVE_BY_COPY, SPARING, Step};
use super::upstream::{Kind, Upstream};
use crate::harness::client::Client;
use crate::harness::daemon::{Daemon, Setup};
use crate::harness::dovecot::user;
use crate::harness::relay::Relay;
use crate::harness::trap::{Act, Place, Trap};
use crate::harness::{PATIENCE, straight_run};

/// Daemons side by side, each with its own rows.
const LANES: usize = 3;

fn play(kind: Kind, rows: &[(Op, Step)]) {
    if straight_run() {
        return;
    }
    let upstream = Upstream::start(kind);
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let upstream = &upstream;
            scope.spawn(move || {
                let mine: Vec<usize> = (lane..rows.len()).step_by(LANES).collect();
                upstream.fill(mine.iter().map(|row| (lane, *row)));
                let relay = upstream.relay();
                let mut daemon = Daemon::start(Setup::new(upstream.account(lane, &relay)));
                for n in mine {
                    one(n, rows[n], &mut daemon, &relay, lane, upstream.straight(lane));
                }
            });
        }
    });
}

fn one(n: usize, (op, step): (Op, Step), daemon: &mut Daemon, relay: &Relay, lane: usize, straight: Client) {
    let (word, point, place, _) = step;
    let client = |daemon: &Daemon| daemon.client_of(&format!("{}@example.org", user(lane)));
    let mut stage = Stage::set(n, op, client(daemon), client(daemon), straight);
    relay.set_trap(Trap::new(word, point, place, Act::CutAll));
    let _never_answered = stage.start();
    assert!(relay.sprung(PATIENCE), "row {n}, {op:?} {step:?}: the step never came");
    daemon.kill();
    relay.go_on();
    daemon.restart();
    stage.reopen(client(daemon), client(daemon));
    let start = Instant::now();
    let is_done = loop {
        match stage.is_done(Meanwhile::Nothing) {
            Ok(is_done) => break is_done,
            Err(half) => assert!(start.elapsed() < PATIENCE, "row {n}, {op:?} {step:?}: {half}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if !is_done {
        stage.again();
        assert_eq!(stage.is_done(Meanwhile::Nothing), Ok(true), "row {n}, {op:?} {step:?}, once more");
    }
    stage.settle();
}

/// A kill looks alike in the middle of a line and before it.
fn rows(op: Op, steps: &[Step]) -> Vec<(Op, Step)> {
    steps.iter().filter(|step| step.2 != Place::Middle).map(|step| (op, *step)).collect()
}

#[test]
fn killed_in_a_write() {
    play(
        Kind::Full,
        &[rows(Op::Append, APPEND), rows(Op::Copy, COPY), rows(Op::Move, MOVE), rows(Op::Flag, FLAG)].concat(),
    );
}

#[test]
fn killed_in_a_move_by_copy() {
    play(Kind::Bare, &rows(Op::Move, MOVE_BY_COPY));
}

#[test]
fn killed_in_a_move_by_copy_with_uidplus() {
    play(Kind::Uidplus, &rows(Op::Move, MOVE_BY_COPY));
}

#[test]
fn killed_in_a_bare_expunge() {
    play(Kind::Bare, &[rows(Op::UidExpunge, EXPUNGE_BARE), rows(Op::UidExpunge, SPARING)].concat());
}
