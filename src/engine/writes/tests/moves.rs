//! MOVE on upstreams that have none.

use super::*;

fn provider(caps: &'static str) -> Arc<Provider> {
    let provider = Provider::new(caps, &["INBOX", "Kept"]);
    let mut account = provider.account();
    for subject in ["a", "b", "c", "d"] {
        let flags: &[&str] = if matches!(subject, "b" | "d") { &["\\Deleted"] } else { &[] };
        account.folders.get_mut("INBOX").unwrap().put(flags, &mail(subject));
    }
    account.folders.get_mut("Kept").unwrap().put(&[], &mail("old"));
    drop(account);
    provider
}

/// What both mailboxes hold when the move of a, b and c was made, and when it was not. Flags of the moved ones do not matter.
const MOVED: (&[&str], &[&str]) = (&["d \\Deleted"], &["a", "b", "c", "old"]);
const BACK: (&[&str], &[&str]) = (&["a", "b \\Deleted", "c", "d \\Deleted"], &["old"]);

fn shown(provider: &Provider) -> (Vec<String>, Vec<String>) {
    let bare = |text: String| text.split(' ').next().unwrap().to_owned();
    (provider.shown("INBOX"), provider.shown("Kept").into_iter().map(bare).collect())
}

/// Moved whole or where it was, never both, never neither; and the client is told which.
#[tokio::test(start_paused = true)]
async fn a_move_by_copy_ends_in_one_of_two_ways() {
    for caps in ["UIDPLUS", ""] {
        let commands = {
            let bench = Bench::new(provider(caps)).await;
            let told = bench.move_all("INBOX", "1:3", "Kept").await.unwrap();
            let pairs = told.map(|copied| copied.pairs.iter().map(|(from, to)| (from.0, to.0)).collect::<Vec<_>>());
            assert_eq!(pairs, (caps == "UIDPLUS").then(|| vec![(1, 2), (2, 3), (3, 4)]));
            assert_eq!(shown(&bench.provider), owned(MOVED), "{caps}");
            bench.provider.account().said.clone()
        };
        for (at, command) in commands.iter().enumerate() {
            for fault in [Fault::CutBefore, Fault::CutAfter, Fault::Refused("[OVERQUOTA] full")] {
                for killed in [false, true] {
                    let mut bench = Bench::new(provider(caps)).await;
                    let what = format!("{caps:?}: {fault:?} at {at} {command}, killed {killed}");
                    bench.provider.account().goes_down = killed;
                    bench.provider.arm(Some((at, fault)));
                    let told = bench.move_all("INBOX", "1:3", "Kept").await;
                    if killed {
                        bench = bench.restart().await;
                    }
                    bench.account.settle_left(&["INBOX"]).await.unwrap();
                    assert_eq!(bench.pending().await, [""; 0], "{what}");
                    let now = shown(&bench.provider);
                    let (is_moved, is_back) = (now == owned(MOVED), now == owned(BACK));
                    // Copies cannot be taken back safely without UIDPLUS: after a refusal of STORE or EXPUNGE they stay, and it is said.
                    let words = told.as_ref().err().map(ToString::to_string).unwrap_or_default();
                    let doubled = caps.is_empty() && words.contains("in both mailboxes");
                    assert!(is_moved || is_back || doubled, "{what}: {now:?}, told {told:?}");
                    if told.is_ok() {
                        assert!(is_moved, "{what}: {now:?}");
                    } else {
                        assert!(!is_moved || killed, "{what}: moved, and told {told:?}");
                    }
                    // The next one finds nothing in its way.
                    if is_back {
                        account_reads(&bench.account, &bench.provider).await;
                        bench.move_all("INBOX", "1:3", "Kept").await.unwrap();
                        assert_eq!(shown(&bench.provider), owned(MOVED), "{what}, and again");
                    }
                }
            }
        }
    }
}

fn owned((from, to): (&[&str], &[&str])) -> (Vec<String>, Vec<String>) {
    let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    (own(from), own(to))
}
