//! Every write against a provider in memory, with a fault at every one of its commands: cut before it, cut after it, refused, and the
//! program gone for good. Whatever happens, no message is lost, none is doubled, and what the client is told is true.

mod append;
mod flags;
mod identity;
mod keywords;
mod model;
mod moves;
mod refusals;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use self::model::{Fault, Provider, mail};
use super::*;
use crate::engine::account::{Disk, Options};
use crate::engine::allowance::Unlimited;
use crate::engine::cache::Cache;
use crate::metrics::Metrics;
use crate::model::UidSet;
use crate::provider::Quirk;
use crate::secret::Secret;
use crate::state;
use crate::store::{self, Store, StorePool};
use crate::upstream::{Config, Credentials, Pacing, Pool, Quirks};

/// The engine in front of a provider, with nothing that runs by itself.
struct Bench {
    provider: Arc<Provider>,
    account: Arc<Inner>,
    dir: TempDir,
}

impl Bench {
    async fn new(provider: Arc<Provider>) -> Self {
        Self::with(provider, &[]).await
    }

    async fn with(provider: Arc<Provider>, quirks: &[Quirk]) -> Self {
        // In memory where that can be had: hundreds of stores are made, and each is flushed.
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let dir = dir.unwrap();
        let account = begin(&provider, &dir, "0", quirks);
        let bench = Self { provider, account, dir };
        account_reads(&bench.account, &bench.provider).await;
        bench
    }

    /// Ends the program in the middle of whatever it does, and starts it anew with an empty cache.
    async fn restart(self) -> Self {
        let Self { provider, account, dir } = self;
        drop(account);
        provider.account().is_down = false;
        let account = begin(&provider, &dir, "1", &[]);
        Self { provider, account, dir }
    }

    async fn state(&self, name: &str) -> Arc<State> {
        self.account.state(&name.into()).await.unwrap()
    }

    async fn move_all(&self, from: &str, uids: &str, to: &str) -> Result<Option<Copied>, Error> {
        let state = self.state(from).await;
        self.account.copy(&state, &set(uids), to, CopyMode::Move).await
    }

    async fn pending(&self) -> Vec<String> {
        let pending = self.account.durable(|state, key| state.journal_pending(key)).await.unwrap();
        pending.into_iter().map(|entry| entry.kind).collect()
    }
}

fn begin(provider: &Arc<Provider>, dir: &TempDir, run: &str, quirks: &[Quirk]) -> Arc<Inner> {
    let options = Options {
        address: "ann".into(),
        prefetch: None,
        cache_size: 1 << 20,
        append_limit: 1 << 20,
        connections: 1,
        parts: false,
        allowance: Arc::new(Unlimited),
        upstream: "ann@test:143".into(),
        window: 200,
        quirks: quirks.to_vec(),
        english_names: false,
        refresh: Duration::from_secs(660),
        unsent: None,
        audit: None,
    };
    let config = Config {
        lowered: None,
        label: "ann".into(),
        dial: Arc::clone(provider) as Arc<dyn upstream::Dial>,
        username: "ann".into(),
        credentials: Credentials::Password(Secret::new(*b"pw")),
        connections: 1,
        quirks: Quirks {
            single_moves: quirks.contains(&Quirk::MoveOneAtATime),
            line_limit: provider.account().line_limit,
            ..Quirks::default()
        },
        meter: Arc::new(()),
        permits: Arc::new(Pacing::default()),
    };
    let store = Store::open(&dir.path().join(run), &store::Options { page_cache: 16 << 20, disk_reserve: 0 }).unwrap();
    let state = state::State::open(&dir.path().join("state.db")).unwrap();
    let threads = StorePool::new(2);
    let disk = Disk { cache: Cache::new(store, threads.clone()), state, threads };
    Inner::new(options, Pool::new(config), disk, Metrics::default())
}

/// The mirror reads every mailbox, as if a client had opened it.
async fn account_reads(account: &Arc<Inner>, provider: &Provider) {
    account.current_folders().await.unwrap();
    let names: Vec<String> = provider.account().folders.keys().cloned().collect();
    for name in names {
        let state = account.state(&name.as_str().into()).await.unwrap();
        account.freshen(&state, Instant::now(), Class::Interactive).await.unwrap();
    }
    provider.arm(None);
}

fn set(text: &str) -> UidSet {
    UidSet::parse(text).unwrap()
}

/// What another program has marked `\Deleted` is not ours to expunge, whatever happens on the way.
#[tokio::test(start_paused = true)]
async fn others_marks_outlive_a_plain_expunge() {
    const DELETED: &[&str] = &["\\Deleted"];
    let provider = || {
        let provider = Provider::new("", &["INBOX"]);
        let mut account = provider.account();
        let inbox = account.folders.get_mut("INBOX").unwrap();
        for (subject, flags) in [("a", DELETED), ("b", DELETED), ("c", &[]), ("d", DELETED)] {
            inbox.put(flags, &mail(subject));
        }
        drop(account);
        provider
    };
    let commands = {
        let bench = Bench::new(provider()).await;
        let inbox = bench.state("INBOX").await;
        bench.account.expunge(&inbox, Some(&set("1"))).await.unwrap();
        assert_eq!(bench.provider.shown("INBOX"), ["b \\Deleted", "c", "d \\Deleted"]);
        bench.provider.account().said.clone()
    };
    assert!(commands.windows(5).any(|w| w == ["UID SEARCH", "STORE -FLAGS", "UID SEARCH", "EXPUNGE", "STORE +FLAGS"]));
    for (at, command) in commands.iter().enumerate() {
        for fault in [Fault::CutBefore, Fault::CutAfter, Fault::Refused("[SERVERBUG] sorry")] {
            for killed in [false, true] {
                let mut bench = Bench::new(provider()).await;
                let what = format!("{fault:?} at {at} {command}, killed {killed}");
                bench.provider.account().goes_down = killed;
                bench.provider.arm(Some((at, fault)));
                let inbox = bench.state("INBOX").await;
                let told = bench.account.expunge(&inbox, Some(&set("1"))).await;
                if killed {
                    bench = bench.restart().await;
                }
                bench.account.settle_left(&["INBOX"]).await.unwrap();
                let shown = bench.provider.shown("INBOX");
                assert_eq!(shown[shown.len() - 3..], ["b \\Deleted", "c", "d \\Deleted"], "{what}");
                assert!(told.is_err() || shown.len() == 3, "{what}: {shown:?}");
                assert!(killed || told.is_ok() == (shown.len() == 3), "{what}: {told:?}");
                assert_eq!(bench.pending().await, [""; 0], "{what}");
            }
        }
    }
}

/// Marked by another program between our look and our EXPUNGE: seen by the second search.
#[tokio::test(start_paused = true)]
async fn a_mark_that_comes_late_is_seen() {
    let provider = Provider::new("", &["INBOX"]);
    {
        let mut account = provider.account();
        for subject in ["a", "b", "c"] {
            account.folders.get_mut("INBOX").unwrap().put(&["\\Deleted"], &mail(subject));
        }
        account.folders.get_mut("INBOX").unwrap().put(&[], &mail("d"));
    }
    let bench = Bench::new(provider).await;
    bench.provider.account().meanwhile = Some(("STORE -FLAGS", |account| {
        let inbox = account.folders.get_mut("INBOX").unwrap();
        inbox.messages.last_mut().unwrap().flags.insert("\\Deleted".into());
    }));
    let inbox = bench.state("INBOX").await;
    bench.account.expunge(&inbox, Some(&set("1"))).await.unwrap();
    assert_eq!(bench.provider.shown("INBOX"), ["b \\Deleted", "c \\Deleted", "d \\Deleted"]);
}

/// What the provider refuses "for the moment" is waited for a day and no longer; then it is forgotten, and nothing is done.
#[tokio::test(start_paused = true)]
async fn an_unfinished_write_does_not_block_a_mailbox_for_ever() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let payload = r#"{"version":1,"upstream":"ann@test:143","write":"move","mailbox":"INBOX","uid_validity":100,"uids":"1","marked":"","to":"Kept","to_validity":101,"to_next":1,"told":[[1,1]],"copied":true}"#;
    for (age, is_forgotten) in [(DAY / 2, false), (DAY + Duration::from_secs(1), true)] {
        let provider = Provider::new("UIDPLUS", &["INBOX", "Kept"]);
        provider.account().folders.get_mut("INBOX").unwrap().put(&["\\Deleted"], &mail("a"));
        provider.account().folders.get_mut("Kept").unwrap().put(&[], &mail("a"));
        let bench = Bench::new(provider).await;
        let created = SystemTime::now() - age;
        let add = move |state: &state::State, key: &str| state.journal_add(key, "move", payload.as_bytes(), created);
        bench.account.durable(add).await.unwrap();
        bench.provider.account().always_refuses = Some(("SELECT", "[INUSE] some other program has it"));
        let mut refused = 0;
        while refused < 20 && bench.account.settle_left(&["INBOX"]).await.is_err() {
            refused += 1;
        }
        if is_forgotten {
            // Not at the first word: the day may have gone by while nobody asked.
            assert!((2..20).contains(&refused), "{refused}");
            assert_eq!(bench.pending().await, [""; 0]);
        } else {
            assert_eq!((refused, bench.pending().await), (20, vec!["move".to_owned()]));
        }
        let said = bench.provider.account().said.clone();
        assert!(said.iter().all(|name| name == "SELECT" || name == "NOOP"), "{said:?}");
        assert_eq!(bench.provider.shown("INBOX"), ["a \\Deleted"]);
        assert_eq!(bench.provider.shown("Kept"), ["a"]);
        if !is_forgotten {
            bench.provider.account().always_refuses = None;
            bench.account.settle_left(&["INBOX"]).await.unwrap();
            assert_eq!(bench.provider.shown("INBOX"), [""; 0], "and finished when it may be");
        }
    }
}
