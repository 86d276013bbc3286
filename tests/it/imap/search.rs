//! SEARCH and UID SEARCH: every rev1 key gives what the upstream gives; ESEARCH forms (RFC 3501 §6.4.4, RFC 4731).

use crate::everywhere;
use crate::harness::answer::Status;
use crate::harness::client::Client;
use crate::harness::mail::{self, Sizes};
use crate::harness::world::{Kind, World};

everywhere!(keys_find_what_upstream_finds, esearch);

fn fill(c: &mut Client) {
    mail::load(c, "INBOX", 11, 60, Sizes::Usual);
    c.append(
        "INBOX",
        "\\Flagged $Work",
        "Subject: =?utf-8?B?0J/RgNC40LLQtdGC?=\r\nFrom: x@example.org\r\nDate: 4 Mar 2025 10:00:00 +0000\r\nX-Note: yes\r\n\r\nword \"quoted\" end\r\n"
            .as_bytes(),
    );
}

/// Programs every server understands alike. Dates are of days that no message is within a time zone of.
const PROGRAMS: &[&str] = &[
    "ALL",
    "ANSWERED",
    "DELETED",
    "DRAFT",
    "FLAGGED",
    "SEEN",
    "UNANSWERED",
    "UNDELETED",
    "UNDRAFT",
    "UNFLAGGED",
    "UNSEEN",
    "KEYWORD $Work",
    "KEYWORD $Forwarded",
    "UNKEYWORD $Forwarded",
    "KEYWORD Nothing",
    "1:10",
    "5,7,50:*",
    "*",
    "UID 1:5",
    "UID 900:*",
    "UID 3,70000",
    "LARGER 5000",
    "SMALLER 3000",
    "SUBJECT thread",
    "SUBJECT \"re: THREAD\"",
    "FROM bob",
    "FROM example.org",
    "TO jane",
    "CC list",
    "BCC x",
    "TEXT weir",
    "BODY winter",
    "BODY nothing-at-all",
    "HEADER X-Note yes",
    "HEADER X-Note \"\"",
    "HEADER Message-ID <11.5@example.org>",
    "HEADER References 11.4@",
    "BODY \"\\\"quoted\\\"\"",
    "NOT SEEN",
    "NOT NOT SEEN",
    "OR SEEN FLAGGED",
    "OR (SEEN FLAGGED) (UNSEEN DELETED)",
    "SEEN FLAGGED",
    "(SEEN) (UNDELETED)",
    "OR FROM bob OR FROM ann TO jane",
    "NOT (FROM bob SEEN)",
    "SINCE 1-Jan-2000",
    "BEFORE 1-Jan-2000",
    "BEFORE 1-Jan-2099",
    "ON 1-Jan-1999",
    "SENTSINCE 1-Jan-2020",
    "SENTBEFORE 1-Jan-2020",
    "SENTON 1-Jan-1999",
    "SINCE 1-Jan-2020 BEFORE 1-Jan-2023",
    "CHARSET UTF-8 SUBJECT weir",
    "CHARSET US-ASCII ALL",
];

fn keys_find_what_upstream_finds(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("EXAMINE INBOX");
    up.cmd_ok("EXAMINE INBOX");
    let mut differences = Vec::new();
    for program in PROGRAMS {
        for verb in ["SEARCH", "UID SEARCH"] {
            let command = format!("{verb} {program}");
            let (ours, theirs) = (c.cmd(&command), up.cmd_ok(&command));
            if !ours.is_ok() || sorted(ours.search()) != sorted(theirs.search()) {
                differences.push(format!(
                    "{command}: {:?} {:?}, upstream {:?}",
                    ours.text,
                    ours.search(),
                    theirs.search()
                ));
            }
        }
    }
    // By literal, in UTF-8: the word in an encoded subject is found decoded.
    let word = "Привет";
    for client in [&mut c, &mut up] {
        client.raw(format!("u SEARCH CHARSET UTF-8 SUBJECT {{{}+}}\r\n{word}\r\n", word.len()).as_bytes());
        let lines = client.until("u <*>");
        if !lines.contains(&"* SEARCH 61".to_owned()) {
            differences.push(format!("SUBJECT {word}: {lines:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    for bad in
        ["SEARCH NONSENSE", "SEARCH SINCE yesterday", "SEARCH LARGER x", "SEARCH (ALL", "SEARCH OR SEEN", "SEARCH NOT"]
    {
        assert_eq!(c.cmd(bad).status, Status::Bad, "{bad}");
    }
}

fn sorted(mut numbers: Vec<u32>) -> Vec<u32> {
    numbers.sort_unstable();
    numbers
}

fn esearch(kind: Kind) {
    let world = World::new(kind, fill);
    let mut c = world.client();
    c.cmd_ok("EXAMINE INBOX");
    let seen = c.cmd_ok("SEARCH SEEN").search();
    let tag = c.start("SEARCH RETURN (MIN MAX COUNT) SEEN").unwrap();
    let answer = c.finish(&tag).unwrap();
    let line = answer.lines().into_iter().find(|l| l.starts_with("* ESEARCH")).expect("ESEARCH");
    assert!(line.contains(&format!("(TAG \"{tag}\")")), "{line}");
    for part in [format!("MIN {}", seen[0]), format!("MAX {}", seen[seen.len() - 1]), format!("COUNT {}", seen.len())] {
        assert!(line.contains(&part), "{part} in {line}");
    }
    let line = c.cmd_ok("UID SEARCH RETURN (ALL) 1:3").lines().join("\n");
    assert!(line.contains(" UID ") && line.contains("ALL 1:3"), "{line}");
    let line = c.cmd_ok("SEARCH RETURN () 1:3").lines().join("\n");
    assert!(line.contains("ALL 1:3"), "an empty list means ALL: {line}");
    let line = c.cmd_ok("SEARCH RETURN (MIN COUNT) SUBJECT nothing-at-all").lines().join("\n");
    assert!(line.contains("COUNT 0") && !line.contains("MIN"), "{line}");
}
