//! When an account may connect and speak: backoff after failures, the provider's own words, the lowered maximum.
//!
//! [`GateState`] is pure (Law 9: `now` and jitter are arguments) and tested as a table; [`Gate`] is it behind a lock, shared by the pool and
//! its sessions. Three things can stand in the way, and they are kept apart:
//!
//! - *connecting* waits after a fresh connection failed, with jitter, 1 s to 5 min; much longer when the user is needed;
//! - *speaking* waits when the provider told us to slow down, on every session of the account;
//! - the *maximum* of sessions is lowered when the provider says there are too many and some are ours, and grows again one by one;
//! - *background* work waits while the provider lets answers through drop by drop; each session there is by then is given up once for a new
//!   one, since it may be the session alone that is slow. One opened since that is slow, too, tells that it is the account.
//!
//! A refusal that needs the user is a *stop*: nothing is tried again until he acts ([`GateState::kick`]). A wrong password alone is
//! tried again, twice and hours apart, as providers have said so of right ones on a bad day.
//!
//! A session lost after a long life is no failure: the next is opened at once. One lost young is: a server that drops us right after
//! login must not be logged in to once a second.

#[cfg(test)]
mod tests;
mod woke;

use std::time::Duration;

use tokio::time::Instant;

use super::error::Error;
use super::words::Meaning;

pub(super) use woke::Gate;

/// The first wait after a failure.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest wait after ordinary failures: a user who mends the network waits at most this long even if nobody kicks.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// Too many connections and none of them ours: half-dead ones take minutes to time out at the provider.
const TOO_MANY_WAIT: Duration = Duration::from_secs(30);
/// Throttled without a time told.
const THROTTLED_WAIT: Duration = Duration::from_secs(30);
/// The day's bandwidth is spent: Gmail's lock lasts up to 24 h, often less. In half hours.
const BANDWIDTH_WAIT: [Duration; 4] = hours([2, 4, 8, 16]);
/// A wrong password: more frequent refusals than this lock accounts. In half hours.
const REFUSED_WAIT: [Duration; 4] = hours([1, 2, 4, 8]);
/// The third wrong answer is the last.
const WRONG_MOST: usize = 3;
/// How long the lowered maximum holds before one more is tried.
const LOWERED_FOR: Duration = Duration::from_secs(15 * 60);
/// Background work rests so long after answers came drop by drop.
const TRICKLE_REST: Duration = Duration::from_secs(10 * 60);
/// What is added to the reason of a stop.
const STOPPED: &str =
    "mailweir does not try again by itself: when this is mended, reload it (SIGHUP) or start it again";
/// A session that lives this long has proven that connecting works.
const YOUNG: Duration = Duration::from_secs(60);
/// Sessions that logged in and were lost early, in a row, before the waits grow: a train ride, not a provider that throws us out.
const BAD_LINE: u32 = 20;
/// A kick ends a wait that the provider asked for, but no more often than this.
const KICK_SPACING: Duration = Duration::from_secs(60);

const fn hours(halves: [u64; 4]) -> [Duration; 4] {
    const HALF: u64 = 30 * 60;
    [
        Duration::from_secs(halves[0] * HALF),
        Duration::from_secs(halves[1] * HALF),
        Duration::from_secs(halves[2] * HALF),
        Duration::from_secs(halves[3] * HALF),
    ]
}

/// The wait after the `failures`-th failure in a row (from 1): 1 s doubling to 5 min, a quarter more or less by `jitter`
/// (0 to 1), so that accounts that failed together do not come back together.
pub fn backoff(failures: u32, jitter: f64) -> Duration {
    let doubled = SHORTEST.saturating_mul(1u32.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(u32::MAX));
    let wait = doubled.min(LONGEST).mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 2.0);
    wait.clamp(SHORTEST, LONGEST)
}

#[derive(Clone, Debug)]
struct Wait {
    until: Instant,
    reason: String,
    /// The login was refused: told as [`Error::Login`].
    refused: bool,
    /// The provider asked for it: a kick ends it only once a minute.
    told: bool,
}

impl Wait {
    fn error(&self, now: Instant) -> Error {
        if self.refused {
            return Error::Login(self.reason.clone());
        }
        Error::Unavailable { reason: self.reason.clone(), retry_after: self.until.saturating_duration_since(now) }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct GateState {
    connecting: Option<Wait>,
    speaking: Option<Wait>,
    /// Needs the user: why, in words.
    stopped: Option<String>,
    /// Since when, and how long that is believed.
    trickling: Option<(Instant, Instant)>,
    lowered: Option<(usize, Instant)>,
    failures: u32,
    refusals: usize,
    bandwidth: usize,
    kicked: Option<Instant>,
}

impl GateState {
    /// Why no connection may be opened now.
    pub(super) fn may_connect(&mut self, now: Instant) -> Result<(), Error> {
        self.may_speak(now)?;
        if let Some(reason) = &self.stopped {
            return Err(Error::Login(reason.clone()));
        }
        still(&mut self.connecting, now)
    }

    /// How long until a connection is tried again.
    pub(super) fn connecting_in(&self, now: Instant) -> Option<Duration> {
        self.connecting.as_ref().map(|wait| wait.until.saturating_duration_since(now))
    }

    /// What needs the user, if anything does.
    pub(super) fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Why the login was refused, as long as that keeps us from connecting.
    pub(super) fn refused(&self, now: Instant) -> Option<String> {
        let waits = self.connecting.as_ref().filter(|wait| wait.refused && wait.until > now);
        self.stopped.clone().or_else(|| waits.map(|wait| wait.reason.clone()))
    }

    /// Why work that nobody waits for may not go on now.
    pub(super) fn may_work_behind(&mut self, now: Instant) -> Result<(), Error> {
        match self.trickling {
            Some((_, until)) if until > now => Err(Error::Unavailable {
                reason: Meaning::Trickle.advice().into(),
                retry_after: until.saturating_duration_since(now),
            }),
            _ => {
                self.trickling = None;
                Ok(())
            }
        }
    }

    /// Answers come at less than a kilobyte a second, on a session opened then. Whether a new one is to be tried.
    pub(super) fn trickles(&mut self, opened: Instant, now: Instant) -> bool {
        let since = self.trickling.filter(|(_, until)| *until > now).map_or(now, |(since, _)| since);
        self.trickling = Some((since, now + TRICKLE_REST));
        opened < since
    }

    /// Why nothing may be said now, on no session.
    pub(super) fn may_speak(&mut self, now: Instant) -> Result<(), Error> {
        still(&mut self.speaking, now)
    }

    /// How many sessions may be open, of `configured`.
    pub(super) fn maximum(&mut self, configured: usize, now: Instant) -> usize {
        let configured = configured.max(1);
        // One more at a time: whoever had pressed us down may still be there.
        while let Some((maximum, until)) = self.lowered
            && until <= now
        {
            self.lowered = (maximum + 1 < configured).then_some((maximum + 1, until + LOWERED_FOR));
        }
        self.lowered.map_or(configured, |(maximum, _)| maximum.clamp(1, configured))
    }

    /// Begins with a maximum that the provider's words had brought it down to before.
    pub(super) fn lower(&mut self, maximum: usize, now: Instant) {
        self.lowered = Some((maximum.max(1), now + LOWERED_FOR));
    }

    /// The maximum the provider's words have brought it down to, to be remembered.
    pub(super) fn lowered(&self) -> Option<usize> {
        self.lowered.map(|(maximum, _)| maximum)
    }

    /// Login succeeded. Failures are forgotten only by [`Self::settled`].
    pub(super) fn connected(&mut self) {
        self.connecting = None;
        self.stopped = None;
        self.refusals = 0;
    }

    /// A session has lived long enough, or works.
    pub(super) fn settled(&mut self, age: Duration) {
        if age >= YOUNG {
            (self.failures, self.bandwidth) = (0, 0);
        }
    }

    /// A connection could not be opened or logged in. `others`: sessions of ours that are open.
    pub(super) fn connect_failed(&mut self, meaning: Meaning, reason: &str, others: usize, now: Instant, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        let usual = backoff(self.failures, jitter);
        let wait = match meaning {
            Meaning::Ordinary => usual,
            Meaning::TooMany if others > 0 => {
                // Not a failure of the account: what waits is served by the sessions there are.
                self.lower(others, now);
                self.failures -= 1;
                return;
            }
            Meaning::TooMany => usual.max(TOO_MANY_WAIT),
            Meaning::Throttled(_) | Meaning::Bandwidth(_) => return self.slow_down(meaning, reason, now, jitter),
            // Noticed while a command is under way ([`Self::trickles`]); no words mean it.
            Meaning::Trickle => usual,
            Meaning::Credentials => {
                self.refusals += 1;
                if self.refusals >= WRONG_MOST {
                    return self.stop(reason);
                }
                step(&REFUSED_WAIT, self.refusals)
            }
            // Nothing was asked of the provider; the authorization server was.
            Meaning::Consent => step(&REFUSED_WAIT, self.failures as usize),
            Meaning::AppPassword | Meaning::WebLogin | Meaning::Forbidden => return self.stop(reason),
        };
        self.connecting = Some(Wait {
            until: now + wait,
            reason: reason.into(),
            refused: meaning.is_hard(),
            // Without a consent nothing was asked of the provider: a kick, which comes with the consent, ends the wait each time.
            told: !matches!(meaning, Meaning::Ordinary | Meaning::Consent),
        });
    }

    fn stop(&mut self, reason: &str) {
        self.connecting = None;
        self.stopped = Some(format!("{}. {STOPPED}", reason.trim_end_matches('.')));
    }

    /// A session ended that we did not close, `age` after its login.
    pub(super) fn lost(&mut self, age: Duration, reason: &str, now: Instant, jitter: f64) {
        if age >= YOUNG {
            return self.settled(age);
        }
        self.failures = self.failures.saturating_add(1);
        // The first early loss is taken for chance. The login worked, so a bad line is likelier than an angry provider: the next ones
        // wait a second or two, and only a line that goes on failing climbs the ladder.
        if self.failures > 1 {
            let step =
                if self.failures <= BAD_LINE { (self.failures - 1).min(2) } else { self.failures - BAD_LINE + 2 };
            let until = now + backoff(step, jitter);
            self.connecting = Some(Wait { until, reason: reason.into(), refused: false, told: false });
        }
    }

    /// The provider said, at any place, that it is too much. Gives the wait.
    pub(super) fn slow_down(&mut self, meaning: Meaning, reason: &str, now: Instant, jitter: f64) {
        let wait = match meaning {
            Meaning::Throttled(Some(told)) => told.max(SHORTEST),
            Meaning::Throttled(None) => THROTTLED_WAIT.max(backoff(self.failures, jitter)),
            Meaning::Bandwidth(told) => {
                self.bandwidth += 1;
                told.unwrap_or_else(|| step(&BANDWIDTH_WAIT, self.bandwidth))
            }
            _ => return,
        };
        self.speaking = Some(Wait { until: now + wait, reason: reason.into(), refused: false, told: true });
    }

    /// Ends the waits and a stop: the user asks. What the provider asked for is overridden once a minute at most; a stop that
    /// comes sooner becomes a wait until then, as nobody may come to kick again.
    pub(super) fn kick(&mut self, now: Instant) {
        let may_override = self.kicked.is_none_or(|at| now.saturating_duration_since(at) >= KICK_SPACING);
        let stopped = self.stopped.take();
        let mut overridden = may_override && stopped.is_some();
        self.trickling = None;
        for wait in [&mut self.connecting, &mut self.speaking] {
            match wait {
                Some(told) if told.told && !may_override => {}
                Some(told) => {
                    overridden |= told.told;
                    *wait = None;
                }
                None => {}
            }
        }
        if overridden {
            self.kicked = Some(now);
        } else if let Some((reason, kicked)) = stopped.zip(self.kicked) {
            let reason = reason.strip_suffix(STOPPED).unwrap_or(&reason).trim_end_matches(". ").into();
            self.connecting = Some(Wait { until: kicked + KICK_SPACING, reason, refused: true, told: true });
        }
    }
}

fn still(wait: &mut Option<Wait>, now: Instant) -> Result<(), Error> {
    match wait {
        Some(waiting) if waiting.until > now => Err(waiting.error(now)),
        _ => {
            *wait = None;
            Ok(())
        }
    }
}

fn step(ladder: &[Duration; 4], times: usize) -> Duration {
    let [.., last] = ladder;
    ladder.get(times.saturating_sub(1)).copied().unwrap_or(*last)
}

/// A random number from 0 to 1 for [`backoff`].
pub(super) fn jitter() -> f64 {
    rand::random()
}
