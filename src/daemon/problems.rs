//! What went wrong lately with an account, for its owner: the last few, in plain words, each with its mend.
//!
//! Kept in memory only: it is a help in mending, and no record. The log has everything.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::mend::trouble_of;
use super::status::Problem;
use crate::upstream::Meaning;

/// Problems remembered of an account.
const MOST: usize = 20;
/// Characters of a problem that are kept: a provider's own words may be among them.
const WORDS_MOST: usize = 400;

/// The last problems of one account.
#[derive(Default)]
pub(super) struct Problems(Mutex<VecDeque<Noted>>);

struct Noted {
    what: String,
    mend: Option<String>,
    at: SystemTime,
    times: u64,
}

impl Problems {
    /// Takes note of a problem. One that was there before only counts.
    pub(super) fn note(&self, what: &str, now: SystemTime) {
        let mend = trouble_of(what).map(|trouble| trouble.mend.to_owned());
        self.keep(what, mend, now);
    }

    /// Takes note of what the provider means; what needs the user comes with words of its own, and is noted by these.
    pub(super) fn meant(&self, meaning: Meaning, now: SystemTime) {
        let what = match meaning {
            Meaning::TooMany => "The provider says that there are too many connections",
            Meaning::Throttled(_) => "The provider asks for a pause",
            Meaning::Bandwidth(_) => "The provider's limit for the day is reached",
            Meaning::Trickle => "The provider sends very slowly",
            Meaning::Ordinary
            | Meaning::Consent
            | Meaning::Credentials
            | Meaning::AppPassword
            | Meaning::WebLogin
            | Meaning::Forbidden => return,
        };
        self.keep(what, Some(meaning.advice().to_owned()), now);
    }

    fn keep(&self, what: &str, mend: Option<String>, now: SystemTime) {
        let what: String = what.chars().filter(|c| !c.is_control()).take(WORDS_MOST).collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Two troubles that take turns do not push all others out.
        let before = all.iter().position(|noted| gist(&noted.what) == gist(&what)).and_then(|at| all.remove(at));
        let times = before.map_or(1, |before| before.times + 1);
        all.push_back(Noted { what, mend, at: now, times });
        while all.len() > MOST {
            all.pop_front();
        }
    }

    /// All of them, the newest first.
    pub(super) fn told(&self, now: SystemTime) -> Vec<Problem> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = all.iter().rev().map(|noted| Problem {
            ago_seconds: now.duration_since(noted.at).map_or(0, |ago| ago.as_secs()),
            times: noted.times,
            what: noted.what.clone(),
            mend: noted.mend.clone(),
        });
        told.collect()
    }
}

/// What is said, whatever times and counts it is said with.
fn gist(words: &str) -> String {
    words.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Notes what an account says of itself when it changes.
#[derive(Default)]
pub(super) struct Watch([Option<String>; 3]);

impl Watch {
    /// `now` is what is wrong at this moment, each kind in its own place.
    pub(super) fn look(&mut self, now: [Option<String>; 3], problems: &Problems) {
        for (before, now) in self.0.iter_mut().zip(now) {
            if let Some(words) = now.as_deref().filter(|_| before.as_deref().map(gist) != now.as_deref().map(gist)) {
                problems.note(words, SystemTime::now());
            }
            *before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_last_ones_are_told_with_their_mend() {
        let problems = Problems::default();
        problems.meant(Meaning::TooMany, at(1));
        problems.meant(Meaning::Credentials, at(2));
        problems.note("the provider says: Invalid credentials (Failure)\r\n", at(3));
        problems.note("the provider says: Invalid credentials (Failure)\r\n", at(5));
        let told = problems.told(at(10));
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!((told[0].ago_seconds, told[0].times), (5, 2));
        assert!(told[0].mend.as_deref().is_some_and(|mend| mend.contains("application password")), "{told:?}");
        assert!(!told[0].what.contains('\n'));
        for n in 0..100 {
            problems.note(&"x".repeat(n as usize + 1), at(n));
        }
        let told = problems.told(at(100));
        assert_eq!((told.len(), told[0].ago_seconds), (MOST, 1));
        assert!(told.iter().all(|problem| problem.what.len() <= WORDS_MOST));
    }

    #[test]
    fn what_lasts_is_noted_once() {
        let (mut watch, problems) = (Watch::default(), Problems::default());
        let fault = |words: &str| [Some(words.to_owned()), None, None];
        watch.look(fault("a"), &problems);
        watch.look(fault("a"), &problems);
        watch.look([None, None, None], &problems);
        assert_eq!(problems.told(at(0)).len(), 1);
        watch.look(fault("opens again in 59 min"), &problems);
        watch.look(fault("opens again in 8 min"), &problems);
        assert_eq!(problems.told(at(0)).len(), 2);
    }
}
