//! What the provider refuses, and how it says so.

use bytes::Bytes;

use super::*;
use crate::model::{FlagOp, Flags};

fn provider(caps: &'static str) -> Arc<Provider> {
    let provider = Provider::new(caps, &["INBOX", "Kept"]);
    for subject in ["a", "b", "c"] {
        provider.account().folders.get_mut("INBOX").unwrap().put(&["\\Deleted"], &mail(subject));
    }
    provider
}

/// A write and the command it stands and falls with.
const WRITES: [(&str, &str); 5] = [
    ("store", "STORE +FLAGS"),
    ("expunge", "UID EXPUNGE"),
    ("copy", "UID COPY"),
    ("move", "UID MOVE"),
    ("append", "APPEND"),
];

async fn write(bench: &Bench, which: &str) -> Result<(), Error> {
    let inbox = bench.state("INBOX").await;
    let account = &bench.account;
    match which {
        "store" => {
            let seen = Flags::parse(["\\Seen"]);
            account.store_flags(&inbox, &set("1:3"), FlagOp::Add, &seen, None).await.map(|_| ())
        }
        "expunge" => account.expunge(&inbox, None).await,
        "copy" => account.copy(&inbox, &set("1:3"), "Kept", CopyMode::Copy).await.map(|_| ()),
        "move" => account.copy(&inbox, &set("1:3"), "Kept", CopyMode::Move).await.map(|_| ()),
        _ => {
            let message = Append { flags: Flags::default(), date: None, body: Bytes::from(mail("new")), memory: None };
            account.append("INBOX", vec![message]).await.map(|_| ())
        }
    }
}

/// Upstream's own code and words reach the client, and nothing has changed.
#[tokio::test(start_paused = true)]
async fn codes_are_handed_on() {
    let codes = [
        "TRYCREATE",
        "OVERQUOTA",
        "LIMIT",
        "CANNOT",
        "NOPERM",
        "EXPUNGEISSUED",
        "TOOBIG",
        "INUSE",
        "SERVERBUG",
        "CONTACTADMIN",
        "X-OWN 5",
    ];
    for (which, command) in WRITES {
        let bench = Bench::new(provider("MOVE UIDPLUS")).await;
        let before = (bench.provider.shown("INBOX"), bench.provider.shown("Kept"));
        for code in codes {
            let words: &'static str = Box::leak(format!("[{code}] these words").into_boxed_str());
            bench.provider.refuse(command, words);
            let told = write(&bench, which).await;
            let want = Error::Refused { code: Some(code.to_owned()), text: "these words".to_owned() };
            assert_eq!(told, Err(want), "{which}");
            assert_eq!((bench.provider.shown("INBOX"), bench.provider.shown("Kept")), before, "{which} {code}");
        }
    }
}

/// A COPY in several commands, one of which is refused: the others are taken back where that is safe, and told where not.
#[tokio::test(start_paused = true)]
async fn a_copy_in_pieces_is_all_or_nothing() {
    let quirks = &[Quirk::MoveOneAtATime];
    let bench = Bench::with(provider("UIDPLUS"), quirks).await;
    let inbox = bench.state("INBOX").await;
    let told = bench.account.copy(&inbox, &set("1:3"), "Kept", CopyMode::Copy).await.unwrap().unwrap();
    let pairs: Vec<_> = told.pairs.iter().map(|(from, to)| (from.0, to.0)).collect();
    assert_eq!(pairs, [(1, 1), (2, 2), (3, 3)], "COPYUID of the pieces is joined");

    for (caps, kept, words) in [
        ("UIDPLUS", &["x"][..], "full"),
        ("", &["a \\Deleted", "c \\Deleted", "x"], "full (2 of 3 messages were copied)"),
    ] {
        let provider = provider(caps);
        provider.account().folders.get_mut("Kept").unwrap().put(&[], &mail("x"));
        let bench = Bench::with(provider, quirks).await;
        let said = {
            // The second COPY of the three.
            bench.provider.refuse_nth("UID COPY", 2, "[OVERQUOTA] full");
            let inbox = bench.state("INBOX").await;
            bench.account.copy(&inbox, &set("1:3"), "Kept", CopyMode::Copy).await
        };
        let want = Error::Refused { code: Some("OVERQUOTA".into()), text: words.into() };
        assert_eq!(said, Err(want), "{caps}");
        assert_eq!(bench.provider.shown("Kept"), kept, "{caps}");
    }
}
