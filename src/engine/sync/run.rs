//! Carries out a [`Plan`]: asks upstream, believes only completed answers, commits (Law 1).
//!
//! Everything here runs with the mailbox's turn held, so that what is read is committed in the order it was read. An expunge is
//! believed only if upstream said it outright, or from a set of all UIDs whose count agrees with EXISTS.

use std::sync::Arc;

use tokio::time::{Duration, Instant};
use tracing::{Instrument as _, Span, warn};

use super::facts::recent_from;
use super::plan::{FlagsPlan, Known, Ladder, Plan, plan};
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::looks::{Look, Outcome};
use crate::engine::mailbox::{State, Turn};
use crate::engine::snapshot::Snapshot;
use crate::model::UidSet;
use crate::upstream::{self, Class, Lease, Selected};

/// How often the flags of the whole of a large mailbox are swept where the server keeps no mod-sequences: 100,000 messages
/// are some 4 MB of answer.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Octets of answer that are set aside beforehand: for SELECT, for the flags of a message, and for all that is told of it.
const SELECT_OCTETS: u64 = 1500;
const FLAGS_OCTETS: u64 = 64;
const MESSAGE_OCTETS: u64 = 160;

impl Inner {
    /// Brings a mailbox in step, unless somebody has done so since `since`; shared with all who wish the same ([`Looks`]). Runs to its
    /// end even if the caller goes away.
    ///
    /// [`Looks`]: crate::engine::looks::Looks
    pub(crate) async fn freshen(
        self: &Arc<Self>,
        state: &Arc<State>,
        since: Instant,
        class: Class,
    ) -> Result<(), Error> {
        if state.checked().is_some_and(|checked| checked >= since) {
            return Ok(());
        }
        self.wish_look(state, since, class).wait().await
    }

    /// The same without waiting for it.
    pub(crate) fn wish_look(self: &Arc<Self>, state: &Arc<State>, since: Instant, class: Class) -> Outcome<()> {
        let (outcome, look) = state.looks.wish(since, class);
        if let Some(look) = look {
            let (account, state) = (Arc::clone(self), Arc::clone(state));
            // Somebody waits: in his span. What goes on behind is nobody's, and would keep a span open long after its session.
            let span = if class == Class::Interactive { Span::current() } else { Span::none() };
            let looking = async move {
                let done = match class {
                    Class::Interactive => account.look_at_once(&look, &state).await,
                    class => account.look_behind(&look, &state, class).await,
                };
                look.end(done);
            };
            self.tasks.spawn(looking.instrument(span));
        }
        outcome
    }

    /// A look somebody waits for: turn, then lease, as a write does. Whoever waits for the turn meanwhile is of no higher standing, and
    /// would have waited for a session behind us in any case.
    async fn look_at_once(self: &Arc<Self>, look: &Look<()>, state: &Arc<State>) -> Result<(), Error> {
        let mut turn = state.turn.lock().await;
        if look.is_answered(state.checked()) {
            return Ok(());
        }
        let lease = self.pool.lease(Class::Interactive, Some(&state.name)).await?;
        look.begin();
        self.sync_over(lease, state, &mut turn).await
    }

    /// A look in the background: lease, then turn, because a lease of its class may take minutes, and a client's STORE must not wait
    /// so long for the turn.
    ///
    /// No deadlock, though the order is the other way round: we wait for the turn only as long as nobody wants our session. Whoever
    /// holds the turn and waits for a session is Interactive, and the pool serves such a one or asks a lower lease to give way (`queue`),
    /// which we do at once. No starvation beyond what the classes mean: each round lost has served a person, and the wait for a lease is
    /// bounded.
    async fn look_behind(self: &Arc<Self>, look: &Look<()>, state: &Arc<State>, class: Class) -> Result<(), Error> {
        let mut was_dead = false;
        loop {
            let mut lease = tokio::select! {
                lease = self.pool.lease(class, Some(&state.name)) => lease?,
                () = self.stop.cancelled() => return Err(Error::Unavailable("The account is being closed".into())),
            };
            let mut turn = tokio::select! {
                turn = state.turn.lock() => turn,
                () = lease.wanted() => continue,
            };
            if look.is_answered(state.checked()) {
                return Ok(());
            }
            look.begin();
            match self.sync_on(&mut lease, state, &mut turn).await {
                // The session was dead before we used it: a new one may do. It is waited for without the turn.
                Err(Error::Unavailable(_)) if !lease.is_usable() && !was_dead => was_dead = true,
                done => return done,
            }
        }
    }

    /// Brings a mailbox in step over a session of its own. The holder of a turn waits for a session as Interactive only, see
    /// [`Self::look_behind`].
    pub(crate) async fn sync(self: &Arc<Self>, state: &Arc<State>, turn: &mut Turn) -> Result<(), Error> {
        let lease = self.pool.lease(Class::Interactive, Some(&state.name)).await?;
        self.sync_over(lease, state, turn).await
    }

    async fn sync_over(self: &Arc<Self>, mut lease: Lease, state: &Arc<State>, turn: &mut Turn) -> Result<(), Error> {
        let done = self.sync_on(&mut lease, state, turn).await;
        match done {
            // The session was dead before we used it: a new one may do.
            Err(Error::Unavailable(_)) if !lease.is_usable() => {
                drop(lease);
                let mut lease = self.pool.lease(Class::Interactive, Some(&state.name)).await?;
                self.sync_on(&mut lease, state, turn).await
            }
            done => done,
        }
    }

    /// Brings a mailbox in step over this session, which then has it selected. [`Error::Gone`] when the UIDVALIDITY has changed: the
    /// state is dead then and a new one is to be opened.
    pub(crate) async fn sync_on(
        self: &Arc<Self>,
        lease: &mut Lease,
        state: &Arc<State>,
        turn: &mut Turn,
    ) -> Result<(), Error> {
        let started = Instant::now();
        let snapshot = state.snapshot();
        if snapshot.dead {
            return Err(Error::Gone);
        }
        if lease.class() != Class::Interactive {
            drop(self.options.allowance.download(SELECT_OCTETS, lease.class())?);
        }
        // What was heard until now is covered by what we are going to ask.
        lease.take_events();
        let ladder = match Ladder::of(lease.caps()) {
            // Offered and not confirmed: SELECT tells no changes then, and they have to be asked for.
            Ladder::Qresync if !lease.has_qresync() => Ladder::Condstore,
            ladder => ladder,
        };
        let ask_qresync = ladder == Ladder::Qresync && turn.complete && turn.upstream_modseq > 0;
        let qresync = ask_qresync.then_some((snapshot.uid_validity, turn.upstream_modseq));
        self.count_all(lease, state, turn).await?;
        let mut selected = match lease.reselect(&state.name, qresync).await {
            Ok(selected) => selected,
            Err(upstream::Error::No { code, text, .. }) => {
                // Perhaps deleted or renamed by somebody: the list of mailboxes will tell.
                self.folders_suspect();
                return Err(if code.as_deref() == Some("NONEXISTENT") {
                    Error::NoSuchMailbox(state.name.to_string())
                } else {
                    Error::Refused { code, text }
                });
            }
            Err(error) => return Err(error.into()),
        };
        if qresync.is_none() {
            // Nobody asked for changes: what came is some late word, perhaps of the mailbox that was selected before.
            (selected.vanished, selected.changed) = (UidSet::new(), Vec::new());
        }
        let known = Known {
            uid_validity: snapshot.uid_validity,
            uid_next: snapshot.uid_next,
            upstream_modseq: turn.upstream_modseq,
            complete: turn.complete,
            sweep_due: turn.swept.is_none_or(|swept| swept.elapsed() >= SWEEP_EVERY),
            recent_from: recent_from(&snapshot),
        };
        let plan = plan(known, &selected, ladder);
        let begun = turn.reading.as_ref().filter(|reading| reading.uid_validity == selected.uid_validity);
        let begun = begun.map(|reading| (reading.messages(), FlagsPlan::since_begun(ladder, reading.upstream_modseq)));
        let octets = octets_of(plan, &selected, &snapshot, begun);
        let _grant = self.options.allowance.download(octets, lease.class())?;
        match plan {
            Plan::Reset => {
                warn!(account = %self.label(), mailbox = %state.name, "UIDVALIDITY changed upstream");
                self.replace(state).await;
                return Err(Error::Gone);
            }
            Plan::Whole => {
                if let Some(modseq) = self.read_whole(lease, state, turn, &selected).await? {
                    let flags = FlagsPlan::since_begun(ladder, modseq);
                    self.read_changes(lease, state, turn, &selected, flags, None).await?;
                }
            }
            Plan::Changes { flags, new_from } => {
                self.read_changes(lease, state, turn, &selected, flags, new_from).await?;
            }
        }
        lease.has_seen(state.snapshot().uid_next);
        state.set_checked(started);
        self.seen_upstream();
        Ok(())
    }
}

/// About how many octets of answer a plan costs. `begun`: messages that an earlier attempt at reading everything has brought, and what is asked
/// after the rest.
fn octets_of(plan: Plan, selected: &Selected, snapshot: &Snapshot, begun: Option<(u64, FlagsPlan)>) -> u64 {
    let exists = u64::from(selected.exists);
    match plan {
        Plan::Reset => 0,
        Plan::Whole => {
            let (read, flags) = begun.unwrap_or((0, FlagsPlan::Known));
            let swept = if matches!(flags, FlagsPlan::From(_)) { exists } else { 0 };
            exists.saturating_sub(read) * MESSAGE_OCTETS + swept * FLAGS_OCTETS
        }
        Plan::Changes { flags, new_from } => {
            let swept = match flags {
                FlagsPlan::Known | FlagsPlan::Since(_) => 0,
                FlagsPlan::From(uid) => u64::from(snapshot.messages.len() - snapshot.messages.lower_bound(uid)),
            };
            let new = new_from.map_or(0, |_| exists.saturating_sub(u64::from(snapshot.messages.len())).max(1));
            swept * FLAGS_OCTETS + new * MESSAGE_OCTETS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Uid;

    #[test]
    fn what_was_read_is_not_set_aside_again() {
        let snapshot = Snapshot::empty("INBOX".into());
        let selected = Selected { exists: 1000, ..Selected::default() };
        let table = [
            ("from the beginning", None, 1000 * MESSAGE_OCTETS),
            ("the rest, and changes told by mod-sequence", Some((900, FlagsPlan::Since(5))), 100 * MESSAGE_OCTETS),
            ("the rest, and a sweep", Some((900, FlagsPlan::From(Uid(1)))), 100 * MESSAGE_OCTETS + 1000 * FLAGS_OCTETS),
            ("more was read than is left", Some((2000, FlagsPlan::Since(5))), 0),
        ];
        for (name, begun, want) in table {
            assert_eq!(octets_of(Plan::Whole, &selected, &snapshot, begun), want, "{name}");
        }
    }
}
