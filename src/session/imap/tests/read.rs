//! SELECT, FETCH, SEARCH, LIST, STATUS: one client that reads.

use super::*;
use crate::model::FlagOp;

fn filled() -> Bench {
    let bench = Bench::new();
    let inbox = bench.account.mailbox("INBOX");
    inbox.deliver(MESSAGE);
    inbox.deliver("Subject: Second\r\nFrom: bob@example.org\r\n\r\nText of two\r\n");
    inbox.deliver(
        "Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n\
         Content-Type: text/html\r\n\r\n<p>two</p>\r\n--b--\r\n",
    );
    inbox.flag(1, FlagOp::Add, "\\Seen");
    bench
}

#[tokio::test(start_paused = true)]
async fn select_and_examine() {
    let bench = filled();
    bench.account.mailbox("INBOX").flag(2, FlagOp::Add, "$Work");
    bench
        .play(
            "",
            r#"
            C: a SELECT inbox
            S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work)
            S: * OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work \*)] Flags permitted
            S: * 3 EXISTS
            S: * 0 RECENT
            S: * OK [UNSEEN 2] First unseen
            S: * OK [UIDVALIDITY 101] UIDs valid
            S: * OK [UIDNEXT 4] Predicted next UID
            S: * OK [HIGHESTMODSEQ 6] Highest
            S: a OK [READ-WRITE] Select completed
            C: b EXAMINE Sent
            S: * OK [CLOSED] Previous mailbox is now closed
            S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft)
            S: * OK [PERMANENTFLAGS ()] Read-only mailbox
            S: * 0 EXISTS
            S: * 0 RECENT
            S: * OK [UIDVALIDITY 102] UIDs valid
            S: * OK [UIDNEXT 1] Predicted next UID
            S: * OK [HIGHESTMODSEQ 1] Highest
            S: b OK [READ-ONLY] Examine completed
            C: c FETCH 1:* FLAGS
            S: c BAD Error in IMAP command FETCH: Invalid messageset
            C: d UID FETCH 1:* FLAGS
            S: d OK Fetch completed
            C: e SELECT nowhere
            S: * OK [CLOSED] Previous mailbox is now closed
            S: e NO [NONEXISTENT] Mailbox does not exist
            C: f CHECK
            S: f BAD No mailbox selected
            C: g SELECT INBOX (QRESYNC (1 1))
            S: g BAD QRESYNC is not enabled
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn fetch_items() {
    let bench = filled();
    bench
        .play(
            "INBOX",
            r#"
            C: a FETCH 1 (FLAGS UID RFC822.SIZE INTERNALDATE)
            S: * 1 FETCH (FLAGS (\Seen) UID 1 RFC822.SIZE 142 INTERNALDATE "17-Jul-2026 02:44:25 +0200")
            S: a OK Fetch completed
            C: b UID FETCH 2:* FLAGS
            S: * 2 FETCH (UID 2 FLAGS ())
            S: * 3 FETCH (UID 3 FLAGS ())
            S: b OK Fetch completed
            C: c FETCH 1 ENVELOPE
            S: * 1 FETCH (ENVELOPE ("Fri, 17 Jul 2026 02:44:25 +0200" "Weir" (("Ann" NIL "ann" "example.org")) (("Ann" NIL "ann" "example.org")) (("Ann" NIL "ann" "example.org")) ((NIL NIL "bob" "example.org")) NIL NIL NIL "<1@example.org>"))
            S: c OK Fetch completed
            C: d FETCH 2 BODY.PEEK[HEADER.FIELDS (subject)]
            S: * 2 FETCH (BODY[HEADER.FIELDS (subject)] {19}
            S: Subject: Second
            S: 
            S: )
            S: d OK Fetch completed
            C: e FETCH 2 BODY.PEEK[TEXT]<5.2>
            S: * 2 FETCH (BODY[TEXT]<5> {2}
            S: of)
            S: e OK Fetch completed
            C: f FETCH 2 BODY.PEEK[]<40.100>
            S: * 2 FETCH (BODY[]<40> {15}
            S: 
            S: Text of two
            S: )
            S: f OK Fetch completed
            C: g FETCH 3 (BODY.PEEK[2] BODY.PEEK[2.MIME] BODY.PEEK[7])
            S: * 3 FETCH (BODY[2] {10}
            S: <p>two</p> BODY[2.MIME] {27}
            S: Content-Type: text/html
            S: 
            S:  BODY[7] "")
            S: g OK Fetch completed
            C: h FETCH 2 (UID RFC822.PEEK)
            S: * 2 FETCH (UID 2 RFC822 {55}
            S: Subject: Second
            S: From: bob@example.org
            S: 
            S: Text of two
            S: )
            S: h OK Fetch completed
            C: i FETCH 2 (RFC822.HEADER RFC822.SIZE)
            S: * 2 FETCH (RFC822.HEADER {42}
            S: Subject: Second
            S: From: bob@example.org
            S: 
            S:  RFC822.SIZE 55)
            S: i OK Fetch completed
            C: j FETCH 4 FLAGS
            S: j BAD Error in IMAP command FETCH: Invalid messageset
            C: k FETCH 1:* (UID BODYSTRUCTURE)
            S: * 1 FETCH (UID 1 BODYSTRUCTURE ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 7 1 NIL NIL NIL NIL))
            S: * 2 FETCH (UID 2 BODYSTRUCTURE …
            S: * 3 FETCH (UID 3 BODYSTRUCTURE (…
            S: k OK Fetch completed
            C: l FETCH 2 BODY[TEXT]
            S: * 2 FETCH (BODY[TEXT] {13}
            S: Text of two
            S: )
            S: * 2 FETCH (FLAGS (\Seen))
            S: l OK Fetch completed
            C: m UID FETCH 3 BODY[]<0.0>
            S: * 3 FETCH (UID 3 BODY[]<0> {0}
            S: )
            S: * 3 FETCH (UID 3 FLAGS (\Seen))
            S: m OK Fetch completed
            C: n FETCH * (UID)
            S: * 3 FETCH (UID 3)
            S: n OK Fetch completed
            C: o UID FETCH 77 (FLAGS BODY.PEEK[])
            S: o OK Fetch completed
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn examine_sets_nothing_seen() {
    let bench = filled();
    bench
        .play(
            "",
            r#"
            C: a EXAMINE INBOX
            S: * FLAGS …
            S: * OK [PERMANENTFLAGS ()] …
            S: * 3 EXISTS
            S: * 0 RECENT
            S: * OK [UNSEEN 2] First unseen
            S: * OK …
            S: * OK …
            S: * OK …
            S: a OK [READ-ONLY] Examine completed
            C: b FETCH 2 RFC822.TEXT
            S: * 2 FETCH (RFC822.TEXT {13}
            S: Text of two
            S: )
            S: b OK Fetch completed
            C: c STORE 2 FLAGS (\Seen)
            S: c NO [READ-ONLY] Mailbox is open read-only
            C: d EXPUNGE
            S: d NO [READ-ONLY] Mailbox is open read-only
            C: e CLOSE
            S: e OK Close completed
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn search_keys() {
    let bench = filled();
    let inbox = bench.account.mailbox("INBOX");
    inbox.flag(2, FlagOp::Add, "\\Flagged $Work");
    bench
        .play(
            "INBOX",
            r#"
            C: a SEARCH ALL
            S: * SEARCH 1 2 3
            S: a OK Search completed
            C: b UID SEARCH UNSEEN
            S: * SEARCH 2 3
            S: b OK Search completed
            C: c SEARCH KEYWORD $work FLAGGED 1:2
            S: * SEARCH 2
            S: c OK Search completed
            C: d SEARCH SUBJECT grüße
            S: * SEARCH 3
            S: d OK Search completed
            C: e SEARCH OR FROM bob HEADER Message-ID ""
            S: * SEARCH 1 2
            S: e OK Search completed
            C: f SEARCH BODY hello
            S: * SEARCH 1
            S: f OK Search completed
            C: g SEARCH NOT TEXT "text of" UNSEEN
            S: * SEARCH 3
            S: g OK Search completed
            C: h SEARCH NEW
            S: * SEARCH
            S: h OK Search completed
            C: i SEARCH SENTON 17-Jul-2026 ON 17-Jul-2026 OLD
            S: * SEARCH 1
            S: i OK Search completed
            C: j SEARCH CHARSET ISO-8859-1 SUBJECT {5}
            S: + OK
            C: gr\xfce
            S: * SEARCH
            S: j OK Search completed
            C: k SEARCH CHARSET X-NONE SUBJECT x
            S: k NO [BADCHARSET (US-ASCII UTF-8)] Charset is not known
            C: l SEARCH RETURN (MIN MAX COUNT) UNSEEN
            S: * ESEARCH (TAG "l") MIN 2 MAX 3 COUNT 2
            S: l OK Search completed
            C: m UID SEARCH RETURN () ALL
            S: * ESEARCH (TAG "m") UID ALL 1:3
            S: m OK Search completed
            C: n SEARCH RETURN (ALL COUNT) DRAFT
            S: * ESEARCH (TAG "n") COUNT 0
            S: n OK Search completed
            C: o SEARCH RETURN (SAVE) UNSEEN
            S: o OK Search completed
            C: p FETCH $ UID
            S: * 2 FETCH (UID 2)
            S: * 3 FETCH (UID 3)
            S: p OK Search completed
            "#
            .replace("p OK Search", "p OK Fetch")
            .replace("{5}", "{4}")
            .replace("gr\\xfce", "gr..")
            .as_str(),
            |_| {},
        )
        .await;
    bench
        .play(
            "INBOX",
            r#"
            C: a SEARCH RETURN (SAVE MIN) UNSEEN
            S: * ESEARCH (TAG "a") MIN 2
            S: a OK Search completed
            C: b SEARCH $
            S: * SEARCH 2
            S: b OK Search completed
            C: c SEARCH RETURN (SAVE) CHARSET X-NONE SUBJECT x
            S: c NO [BADCHARSET (US-ASCII UTF-8)] Charset is not known
            C: d UID STORE $ +FLAGS (\Seen)
            S: d OK Store completed
            C: e SEARCH RETURN (COUNT MODSEQ) ALL
            S: e BAD …
            C: f SEARCH MODSEQ 6
            S: * SEARCH 2 (MODSEQ 6)
            S: * OK [HIGHESTMODSEQ 6] Highest
            S: f OK Search completed
            C: g SEARCH RETURN (MIN) MODSEQ 3
            S: * ESEARCH (TAG "g") MIN 1 MODSEQ 5
            S: g OK Search completed
            C: h SEARCH 2:9
            S: * SEARCH 2 3
            S: h OK Search completed
            C: i SEARCH SMALLER 60 LARGER 53 YOUNGER 1
            S: * SEARCH
            S: i OK Search completed
            C: j SEARCH UID 2:* SINCE 1-Jan-2026 BEFORE 1-Jan-2027
            S: * SEARCH 2 3
            S: j OK Search completed
            "#,
            |_| {},
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn search_asks_only_what_is_open() {
    let bench = filled();
    let inbox = bench.account.mailbox("INBOX");
    let mut client = bench.selected("INBOX").await;
    inbox.asked_summaries();
    assert_eq!(client.command("a", "SEARCH UNSEEN SUBJECT second TEXT two").await[0], "* SEARCH 2");
    let headers: Vec<u32> = inbox.asked_summaries().into_iter().flat_map(|(uids, _)| uids).map(|uid| uid.0).collect();
    assert_eq!(headers, [2, 3]);
    assert_eq!(inbox.text_searches().iter().map(ToString::to_string).collect::<Vec<_>>(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_charset_is_decoded() {
    let bench = filled();
    let mut client = bench.selected("INBOX").await;
    client.stream.write_all(b"a SEARCH CHARSET ISO-8859-1 SUBJECT {4+}\r\ngr\xfc\xdf\r\n").await.unwrap();
    assert_eq!(client.line().await, "* SEARCH 3");
    assert_eq!(client.line().await, "a OK Search completed");
}

#[tokio::test(start_paused = true)]
async fn folders() {
    let bench = filled();
    bench
        .play(
            "",
            r#"
            C: a LIST "" ""
            S: * LIST (\Noselect) "/" ""
            S: a OK List completed
            C: b LIST "" "*" RETURN (SPECIAL-USE)
            S: * LIST () "/" INBOX
            S: * LIST (\Sent) "/" Sent
            S: b OK List completed
            C: c LIST "" % RETURN (STATUS (MESSAGES UNSEEN UIDNEXT))
            S: * LIST () "/" INBOX
            S: * STATUS INBOX (MESSAGES 3 UNSEEN 2 UIDNEXT 4)
            S: * LIST () "/" Sent
            S: * STATUS Sent (MESSAGES 0 UNSEEN 0 UIDNEXT 1)
            S: c OK List completed
            C: d CREATE A/B/
            S: d OK Create completed
            C: e CREATE INBOX
            S: e NO [ALREADYEXISTS] Mailbox exists already
            C: f LIST "" %
            S: * LIST (\HasNoChildren) "/" INBOX
            S: * LIST (\Noselect \HasChildren) "/" A
            S: * LIST (\HasNoChildren \Sent) "/" Sent
            S: f OK List completed
            C: g SUBSCRIBE A/B
            S: g OK Subscribe completed
            C: h LSUB "" *
            S: * LSUB () "/" INBOX
            S: * LSUB () "/" A/B
            S: h OK Lsub completed
            C: i RENAME A/B C
            S: i OK Rename completed
            C: j RENAME nowhere D
            S: j NO [NONEXISTENT] Mailbox does not exist
            C: k STATUS INBOX (MESSAGES RECENT UIDVALIDITY SIZE)
            S: * STATUS INBOX (MESSAGES 3 RECENT 0 UIDVALIDITY 101 SIZE 343)
            S: k OK Status completed
            C: l DELETE INBOX
            S: l NO [CANNOT] INBOX cannot be deleted
            C: m DELETE C
            S: m OK Delete completed
            C: n STATUS C (MESSAGES)
            S: n NO [NONEXISTENT] Mailbox does not exist
            C: o LIST (RECURSIVEMATCH) "" *
            S: o BAD Recursivematch…
            C: p GETQUOTAROOT INBOX
            S: * QUOTAROOT INBOX ""
            S: * QUOTA "" (STORAGE 10 512)
            S: p OK Getquotaroot completed
            C: q CREATE {7+}
            C: a"b\c{ x
            S: q OK Create completed
            C: r STATUS "a\"b\\c{ x" (MESSAGES)
            S: * STATUS "a\"b\\c{ x" (MESSAGES 0)
            S: r OK Status completed
            "#
            .replace("BAD Recursivematch…", "BAD …")
            .replace("{7+}", "{8+}")
            .as_str(),
            |_| {},
        )
        .await;
}

/// More than is put in order at once.
#[tokio::test(start_paused = true)]
async fn many_are_put_in_order() {
    const MANY: u32 = 1500;
    let bench = Bench::new();
    let inbox = bench.account.mailbox("INBOX");
    for n in 1..=MANY {
        let longer = if n == 700 { "longer" } else { "" };
        inbox.deliver(&format!("{MESSAGE}{longer}"));
    }
    let mut client = bench.selected("INBOX").await;
    let all = |first: Option<u32>| {
        let numbers = first.into_iter().chain((1..=MANY).filter(|n| first != Some(*n)));
        numbers.map(|n| n.to_string()).collect::<Vec<_>>()
    };
    for (command, want) in [
        ("SORT (REVERSE SIZE) UTF-8 ALL", format!("* SORT {}", all(Some(700)).join(" "))),
        ("UID SORT (SUBJECT) UTF-8 ALL", format!("* SORT {}", all(None).join(" "))),
        ("THREAD REFERENCES UTF-8 ALL", format!("* THREAD (({}))", all(None).join(")("))),
    ] {
        let lines = client.command("a", command).await;
        assert_eq!(lines[0], want, "{command}");
        assert!(lines[1].starts_with("a OK"), "{lines:?}");
    }
}
