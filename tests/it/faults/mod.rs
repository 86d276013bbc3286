//! The connection to the provider breaks at every step of every write: what the client is told is so, nothing is lost or doubled, no other
//! message is touched, every view stays right, and the next command works.
//!
//! The tables say where in the talk (`harness/trap.rs`) and what may come of it; `stage.rs` is what each row is played on. Each row of a run
//! has mailboxes of its own, each lane of rows an account and a relay of its own, so that lanes run side by side.

mod killed;
mod stage;
mod stalled;
mod steps;
mod upstream;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::answer::Status;
use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, Setup};
use crate::harness::dovecot::user;
use crate::harness::relay::Relay;
use crate::harness::trap::{Act, Place, Point, Trap};
use crate::harness::{PATIENCE, straight_run};
use stage::{Meanwhile, Op, Stage};
use steps::{
    APPEND, APPEND_ASKING, COPY, EXPUNGE, EXPUNGE_BARE, Expect, FLAG, MOVE, MOVE_BY_COPY, MOVE_UNTOLD, MULTIAPPEND,
    MULTIAPPEND_BARE, SPARING, Step,
};
use upstream::{Kind, Upstream};

/// A fault at a step of a command.
#[derive(Clone, Copy, Debug)]
struct Row {
    op: Op,
    step: Step,
    act: Act,
    meanwhile: Meanwhile,
}

/// Each step of a command with what can break the line there.
fn rows(op: Op, steps: &[Step]) -> Vec<Row> {
    let of = |step: &Step, act| Row { op, step: *step, act, meanwhile: Meanwhile::Nothing };
    let acts = |place| match place {
        Place::Before => &[Act::Cut, Act::Reset, Act::CutAll][..],
        Place::Middle => &[Act::Reset],
        Place::After => &[Act::Cut],
    };
    let mut rows: Vec<Row> = steps.iter().flat_map(|step| acts(step.2).iter().map(move |act| of(step, *act))).collect();
    for step in steps {
        let (word, point, place, _) = *step;
        if (point, place) == (Point::Command, Place::Before) {
            // Slow is not broken. And what goes out on a line that is closed the other way arrives.
            rows.push(of(&(word, point, place, Expect::Done), Act::Trickle));
            rows.push(of(&(word, point, place, step.3), Act::HalfClose));
        }
    }
    rows
}

/// For a server that differs in what it says and does, and not in how a line to it breaks: before each line once.
fn few_rows(op: Op, steps: &[Step]) -> Vec<Row> {
    let is_whole = |step: &&Step| step.2 == Place::Before && !matches!(step.1, Point::Octet(_));
    let between = steps.iter().filter(is_whole);
    between.map(|step| Row { op, step: *step, act: Act::Cut, meanwhile: Meanwhile::Nothing }).collect()
}

/// The same faults, before and behind the deed, while another program is at work.
fn rows_with(meanwhile: Meanwhile, op: Op, word: &'static str, points: &[(Point, Place)]) -> Vec<Row> {
    let step = |(point, place): &(Point, Place)| (word, *point, *place, Expect::True);
    points.iter().map(|at| Row { op, step: step(at), act: Act::Cut, meanwhile }).collect()
}

/// One upstream, one daemon, and as many accounts as there are lanes.
fn play(kind: Kind, rows: &[Row]) {
    if straight_run() {
        return;
    }
    let lanes = rows.len().div_ceil(ROWS_IN_A_LANE);
    let upstream = Upstream::start(kind);
    let relays: Vec<Relay> = (0..lanes).map(|_| upstream.relay()).collect();
    upstream.fill((0..rows.len()).map(|row| (row % lanes, row)));
    let accounts = relays.iter().enumerate().map(|(n, relay)| upstream.account(n, relay)).collect();
    let daemon = Daemon::start(Setup { accounts, ..Setup::new(Account::at(upstream.addr())) });
    let failures = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // As many at once as keep two processors busy while some wait.
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let lane = next.fetch_add(1, Ordering::Relaxed);
                    if lane >= lanes {
                        return;
                    }
                    for n in (lane..rows.len()).step_by(lanes) {
                        let straight = upstream.straight(lane);
                        let played =
                            catch_unwind(AssertUnwindSafe(|| one(n, rows[n], &daemon, &relays[lane], lane, straight)));
                        if let Err(why) = played {
                            failures.lock().unwrap().push((n, rows[n], words(&*why)));
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    for (n, row, why) in &failures {
        println!("--- row {n}: {row:?}\n{why}\n");
    }
    assert!(failures.is_empty(), "{} of {} rows failed", failures.len(), rows.len());
}

/// More would wait for connections: a daemon that loses one young session after another rightly dials more seldom.
const ROWS_IN_A_LANE: usize = 1;
const AT_ONCE: usize = 6;

fn one(n: usize, row: Row, daemon: &Daemon, relay: &Relay, lane: usize, straight: Client) {
    let Row { op, step: (word, point, place, expect), act, meanwhile } = row;
    let client = || daemon.client_of(&format!("{}@example.org", user(lane)));
    let mut stage = Stage::set(n, op, client(), client(), straight);
    relay.set_trap(Trap::new(word, point, place, act));
    let sent = stage.start();
    assert!(relay.sprung(PATIENCE / 3), "the step never came");
    stage.meanwhile(meanwhile);
    relay.go_on();
    let answer = stage.answer(sent);
    let ended = Instant::now();
    if expect == Expect::InPart && answer.status == Status::No {
        let stored = stage.stored_in_part().expect("nothing else has changed");
        assert!(stored > 0, "none is stored: {}", answer.text);
        assert!(
            answer.text.contains(&format!("{stored} of 3 messages are stored")),
            "{stored} stored, and told {}",
            answer.text
        );
        return;
    }
    if op == Op::MultiAppend && act == Act::CutAll && answer.text.contains("messages may be stored") {
        // Nobody could look: what is known to be ours is taken back when the network is there again, and of the rest it was said.
        stage.stored_in_part().expect("each once, and nothing else has changed");
        return;
    }
    let is_done = loop {
        match stage.is_done(meanwhile) {
            Ok(is_done) => break is_done,
            // What was begun is ended when the network is back: others' marks are put back, a move is ended or taken back.
            Err(_) if ended.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(50)),
            Err(half) => panic!("{:?} {}: {half}", answer.status, answer.text),
        }
    };
    let expect = if act == Act::CutAll { Expect::Open } else { expect };
    // In a mailbox never seen before nothing can be told to be new: that is said too.
    let unseen = expect == Expect::True && answer.text.contains("cannot be seen");
    let left_open = unseen || (expect == Expect::Open && !says_undone(&answer.text));
    let is_ok = answer.status == Status::Ok;
    assert!(
        is_ok == is_done || (is_done && left_open),
        "done: {is_done}, and told {:?} {}",
        answer.status,
        answer.text
    );
    assert!(is_done || expect != Expect::Done, "not done: {}", answer.text);
    stage.check_told(&answer);
    if !is_done {
        // A person tries again, and then it is done, once.
        let answer = stage.again();
        assert_eq!(stage.is_done(meanwhile), Ok(true), "{}", answer.text);
        stage.check_told(&answer);
    }
    stage.settle();
}

/// Whether these words say outright that nothing has changed.
fn says_undone(text: &str) -> bool {
    ["nothing", "not been", "where they were"].iter().any(|words| text.contains(words))
}

fn words(why: &(dyn std::any::Any + Send)) -> String {
    let text = why.downcast_ref::<String>().map(String::as_str).or_else(|| why.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// One test a line: which commands, over an upstream that says it can do this.
macro_rules! table {
    ($($name:ident: $kind:ident => [$($rows:expr),+ $(,)?]),+ $(,)?) => {$(
        #[test]
        fn $name() {
            play(Kind::$kind, &[$($rows),+].concat());
        }
    )+};
}

table! {
    appends: Full => [rows(Op::Append, APPEND)],
    appends_bare: Bare => [rows(Op::Append, APPEND), rows(Op::Append, APPEND_ASKING)],
    flags: Full => [rows(Op::Flag, FLAG), rows(Op::FlagIf, FLAG)],
    flags_bare: Bare => [rows(Op::Flag, FLAG), rows(Op::FlagIf, FLAG)],
    copies: Full => [rows(Op::Copy, COPY)],
    copies_bare: Bare => [rows(Op::Copy, COPY)],
    moves: Full => [rows(Op::Move, MOVE)],
    moves_bare: Bare => [rows(Op::Move, MOVE_BY_COPY)],
    moves_uidplus: Uidplus => [rows(Op::Move, MOVE_BY_COPY)],
    expunges: Full => [rows(Op::UidExpunge, EXPUNGE), rows(Op::Expunge, EXPUNGE), rows(Op::Close, EXPUNGE)],
    uid_expunges_bare: Bare => [rows(Op::UidExpunge, EXPUNGE_BARE), rows(Op::UidExpunge, SPARING)],
    expunges_bare: Bare => [rows(Op::Expunge, EXPUNGE_BARE), rows(Op::Close, EXPUNGE_BARE)],
    multiappends: Full => [rows(Op::MultiAppend, MULTIAPPEND)],
    multiappends_bare: Bare => [rows(Op::MultiAppend, MULTIAPPEND_BARE)],
    moves_without_uidplus: MoveOnly => [rows(Op::Move, MOVE_UNTOLD)],
    cyrus: Cyrus => [
        few_rows(Op::Append, APPEND),
        few_rows(Op::MultiAppend, MULTIAPPEND),
        few_rows(Op::Copy, COPY),
        few_rows(Op::Move, MOVE),
        few_rows(Op::Flag, FLAG),
        few_rows(Op::FlagIf, FLAG),
        few_rows(Op::UidExpunge, EXPUNGE),
        few_rows(Op::Expunge, EXPUNGE),
        few_rows(Op::Close, EXPUNGE),
        rows_with(Meanwhile::LookalikesArrive, Op::Append, "APPEND ", BOTH_ENDS),
        rows_with(Meanwhile::LookalikesArrive, Op::Move, "UID MOVE", BOTH_ENDS),
        rows_with(Meanwhile::ChangesB, Op::FlagIf, "UID STORE", &BOTH_ENDS[..1]),
    ],
    others_at_work: Full => [
        rows_with(Meanwhile::LookalikesArrive, Op::Append, "APPEND ", BOTH_ENDS),
        rows_with(Meanwhile::LookalikesArrive, Op::Copy, "UID COPY", BOTH_ENDS),
        rows_with(Meanwhile::LookalikesArrive, Op::Move, "UID MOVE", BOTH_ENDS),
        rows_with(Meanwhile::ChangesB, Op::FlagIf, "UID STORE", &BOTH_ENDS[..1]),
    ],
    others_at_work_bare: Bare => [
        rows_with(Meanwhile::LookalikesArrive, Op::Append, "APPEND ", BOTH_ENDS),
        rows_with(Meanwhile::LookalikesArrive, Op::Copy, "UID COPY", BOTH_ENDS),
        rows_with(Meanwhile::LookalikesArrive, Op::Move, "UID COPY", BOTH_ENDS),
        rows_with(Meanwhile::ChangesB, Op::FlagIf, "UID STORE", &BOTH_ENDS[..1]),
    ],
}

/// Before the deed, and behind it.
const BOTH_ENDS: &[(Point, Place)] = &[(Point::Command, Place::Before), (Point::Answer, Place::Before)];
