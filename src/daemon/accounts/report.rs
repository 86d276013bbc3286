//! An account at a glance, for the status page and `mailweir status`.

use std::time::SystemTime;

use super::Running;
use crate::budget::Direction;
use crate::daemon::mend::trouble_of;
use crate::daemon::programs::shown;
use crate::daemon::status::{AccountStatus, MailboxStatus, Reading, Reads, State, Waiting};
use crate::engine::Allowance;
use crate::metrics;
use crate::upstream::{Blocked, Meaning, Standing};

/// Mailboxes that are told by name; of more there is only the number.
const MAILBOXES_MOST: usize = 500;

impl Running {
    pub(in crate::daemon) fn status(&self) -> AccountStatus {
        let settings = self.settings();
        let (downloaded, download_allowed) = self.spending.used(Direction::Download);
        let (uploaded, upload_allowed) = self.spending.used(Direction::Upload);
        let standing = self.account.standing();
        let overview = self.account.overview();
        let reads = self.account.reads();
        let ((messages_sent, recipients_sent), sends) = self.spending.sent_today();
        let mut status = AccountStatus {
            messages_sent,
            messages_allowed: sends.messages_per_day,
            recipients_sent,
            recipients_allowed: sends.recipients_per_day,
            upstream: format!("{}:{}", settings.imap.host, settings.imap.port),
            connections: self.spending.open() as u64,
            connections_allowed: u64::from(settings.limits.connections),
            connections_lowered: standing.lowered.map(|lowered| lowered as u64),
            downloaded,
            download_allowed,
            uploaded,
            upload_allowed,
            hours: self.spending.hours(),
            seen_seconds: self.account.upstream_seen().map(|since| since.as_secs()),
            needs_login: self.account.alert().map(|words| words.to_string()),
            fault: self.account.upstream_fault(),
            notice: self.account.notice(),
            readings: self.readings(),
            mailbox_count: overview.len() as u64,
            mailboxes_read: overview.iter().filter(|mailbox| mailbox.known).count() as u64,
            messages: overview.iter().map(|mailbox| mailbox.messages).sum(),
            mailboxes: overview
                .into_iter()
                .take(MAILBOXES_MOST)
                .map(|mailbox| MailboxStatus {
                    name: shown(&mailbox.mailbox),
                    messages: mailbox.messages,
                    known: mailbox.known,
                    live: mailbox.live,
                    checked_seconds: mailbox.checked.map(|since| since.as_secs()),
                })
                .collect(),
            cache_bytes: self.cache_bytes(),
            reads: Reads { hit: reads.hit, filled: reads.filled, joined: reads.joined, refused: reads.refused },
            problems: self.spending.problems().told(SystemTime::now()),
            id: metrics::account_id(&settings.address),
            ready_within_seconds: self.ready_within.as_secs(),
            disk_fault: self.account.disk_fault(),
            outbox: self.outbox.status(),
            address: settings.address,
            ..AccountStatus::default()
        };
        status.state = status.judge(standing.blocked.as_ref().is_some_and(|blocked| blocked.needs_user));
        if matches!(status.state, State::NeedsYou | State::Waiting) {
            let trouble = trouble_of(&status.explanation());
            status.mend = trouble.map(|trouble| trouble.mend.to_owned());
        }
        status.waiting = self.waiting(&standing, &status);
        name_account(&mut status);
        status
    }

    fn readings(&self) -> Vec<Reading> {
        let readings = self.account.readings().into_iter();
        let told = readings.map(|progress| Reading {
            mailbox: shown(&progress.mailbox),
            messages: progress.messages,
            of: progress.of,
            left_seconds: progress.left.map(|left| left.as_secs()),
        });
        told.collect()
    }

    fn waiting(&self, standing: &Standing, status: &AccountStatus) -> Vec<Waiting> {
        let mut all = waiting(standing, status.connections_allowed);
        let mut add = |what: &str, why: &str, seconds: Option<u64>| {
            all.push(Waiting { what: what.into(), why: why.into(), seconds });
        };
        if let Some(outbox) = &status.outbox {
            add(
                &outbox.what(),
                outbox.words.as_deref().unwrap_or("They are sent one after the other."),
                outbox.next_seconds,
            );
        }
        // A stop of the pool's is told as the state.
        if let Some(words) = status.notice.as_deref().filter(|_| status.state != State::NeedsYou) {
            add("Mail that is not here yet", words, None);
        }
        if let Some(rest) = self.spending.prefetch_rests() {
            let why = "Its part of the day's download allowance is spent; the rest is for people.";
            add("Fetching mail ahead of time", why, Some(rest.as_secs()));
        }
        if Allowance::is_slow(&*self.spending) {
            add("Looking for changes", "Most of the day's allowance is spent, so it is done less often.", None);
        }
        all
    }
}

/// Commands as they are to be typed for this account. In a provider's words only what we have added ourselves.
fn name_account(status: &mut AccountStatus) {
    let address = status.address.clone();
    let command = format!("account login {address}`");
    let mends = status.problems.iter_mut().filter_map(|problem| problem.mend.as_mut()).chain(&mut status.mend);
    mends.for_each(|mend| *mend = mend.replace("ADDRESS", &address));
    let told = [&mut status.fault, &mut status.notice].into_iter().flatten();
    let told = told.chain(status.waiting.iter_mut().map(|waiting| &mut waiting.why));
    let told = told.chain(status.problems.iter_mut().map(|problem| &mut problem.what));
    told.for_each(|words| *words = words.replace("account login`", &command));
}

/// What waits by the pool's account.
fn waiting(standing: &Standing, allowed: u64) -> Vec<Waiting> {
    let mut all = Vec::new();
    let mut add = |what: String, why: &str, seconds: Option<u64>| {
        all.push(Waiting { what, why: why.to_owned(), seconds });
    };
    if let Some(Blocked { why, wait: Some(wait), needs_user }) = &standing.blocked {
        let what = if *needs_user { "The next login at the provider" } else { "Everything asked of the provider" };
        add(what.into(), why, Some(wait.as_secs().max(1)));
    }
    let requests = |count: usize, one: &str, more: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {more}"),
    };
    let waits = standing.waits;
    let busy = "All connections are in use; people go first.";
    for (count, one, more) in [
        (waits.people, "request of a mail program", "requests of mail programs"),
        (waits.bulk, "download of a whole mailbox", "downloads of whole mailboxes"),
        (waits.sync, "look for changes", "looks for changes"),
        (waits.prefetch, "fetch ahead of time", "fetches ahead of time"),
    ] {
        if count > 0 {
            add(requests(count, one, more), busy, None);
        }
    }
    if let Some(rest) = standing.resting {
        add("Fetching mail ahead of time".into(), Meaning::Trickle.advice(), Some(rest.as_secs().max(1)));
    }
    if let Some(lowered) = standing.lowered {
        let why =
            format!("The provider bears {lowered} of {allowed} for now; one more is tried every quarter of an hour.");
        add("Further connections".into(), &why, None);
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::Waits;

    #[test]
    fn what_waits_is_told_with_its_reason() {
        assert_eq!(waiting(&Standing::default(), 3), []);
        let standing = Standing {
            waits: Waits { people: 1, sync: 3, ..Waits::default() },
            lowered: Some(1),
            blocked: Some(Blocked {
                why: "the network is away".into(),
                wait: Some(Duration::from_millis(10)),
                needs_user: false,
            }),
            resting: Some(Duration::from_secs(9)),
        };
        let told = waiting(&standing, 3);
        let what: Vec<&str> = told.iter().map(|waiting| waiting.what.as_str()).collect();
        let want = [
            "Everything asked of the provider",
            "1 request of a mail program",
            "3 looks for changes",
            "Fetching mail ahead of time",
            "Further connections",
        ];
        assert_eq!(what, want);
        assert_eq!(told[0].seconds, Some(1), "not none, which would mean unknown");
        assert!(told[4].why.contains("1 of 3"));
        let login = Blocked { why: "log in".into(), wait: None, needs_user: true };
        let later = Blocked { wait: Some(Duration::from_secs(60)), ..login.clone() };
        let told = waiting(&Standing { blocked: Some(later), ..Standing::default() }, 3);
        assert_eq!((told[0].what.as_str(), told[0].seconds), ("The next login at the provider", Some(60)));
        let stopped = Standing { blocked: Some(login), ..Standing::default() };
        assert_eq!(waiting(&stopped, 3), [], "that is the state, and no waiting");
    }
}
