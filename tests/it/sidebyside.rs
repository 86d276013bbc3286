//! Transcripts played twice: to Dovecot itself, and to the daemon in front of a second Dovecot with the same mail.
//!
//! A transcript (`tests/transcripts/*.txt`) is a list of commands; what both servers answer is brought into one form
//! (`plain.rs`) and compared line by line. A difference that is meant stands below its command and has its reason; any other one
//! fails the test, and so does one that is listed and no longer there:
//!
//! ```text
//! # a remark
//! == a name                    new connections for what follows
//! FETCH 1 FLAGS                connection 1, with a tag of the runner's
//! 2: NOOP                      connection 2
//! APPEND x {5}                 a literal: the runner waits for the continuation
//! + hello                      and sends this; \r \n \0 \\ and \xHH are bytes
//! 1! tag NOOP\r\n              sent as it is, tag and all
//! 1: @connect                  a new connection that is not logged in (@login: logged in)
//! ~ why it differs
//! > only mailweir says this
//! < only Dovecot says this
//! ```
//!
//! `MAILWEIR_TEST_BLESS=DIRECTORY` writes there what the transcripts look like with today's differences; reasons are for the
//! author to give.

mod plain;
mod script;

use std::collections::BTreeMap;

use crate::harness::client::Client;
use crate::harness::mail::{self, Sizes};
use crate::harness::world::{Kind, World};
use crate::harness::{UPSTREAM_PASSWORD, UPSTREAM_USER};

use script::{Player, Script};

macro_rules! transcripts {
    ($($name:ident),+ $(,)?) => {$(
        #[test]
        fn $name() {
            play(stringify!($name));
        }
    )+};
}

transcripts!(fetch, search, extended_search, mailboxes, changes, states, syntax, connections);

/// What every transcript begins with: odd messages in `INBOX`, 12 usual ones in `Usual`, none in `Empty`.
fn fill(c: &mut Client) {
    for name in ["Usual", "Empty", "Tree", "Tree/Low", "Tree/Low/Lower", "A&AOk-"] {
        c.cmd_ok(&format!("CREATE \"{name}\""));
    }
    c.cmd_ok("SUBSCRIBE Tree/Low");
    for (n, sample) in SAMPLES.iter().enumerate() {
        let (flags, date) = SETTINGS[n % SETTINGS.len()];
        let tag = c.tag();
        let head = format!("{tag} APPEND INBOX ({flags}) \"{date}\" {{{}+}}\r\n", sample.len());
        c.raw(head.as_bytes()).raw(sample).raw(b"\r\n");
        assert!(c.finish(&tag).expect("APPEND").is_ok());
    }
    mail::load(c, "Usual", 91, 12, Sizes::Usual);
}

fn play(name: &str) {
    let path = format!("{}/tests/transcripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let script = Script::parse(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")));
    let ours = World::new(Kind::Dovecot, fill);
    let theirs = World::new(Kind::Straight, fill);
    let mut players =
        [Player::new(Box::new(|login| connect(&ours, login))), Player::new(Box::new(|login| connect(&theirs, login)))];
    let mut found = BTreeMap::new();
    for step in script.steps() {
        let [ours, theirs] = players.each_mut().map(|player| player.play(step));
        if let Some(difference) = script::Difference::between(&ours, &theirs) {
            found.insert(step.line, difference);
        }
    }
    if let Some(dir) = std::env::var_os("MAILWEIR_TEST_BLESS") {
        std::fs::write(std::path::Path::new(&dir).join(format!("{name}.txt")), script.with(&found)).unwrap();
    }
    let faults = script.faults(&found);
    assert!(faults.is_empty(), "{name}: {} places of {}\n{}", faults.len(), script.steps().len(), faults.join("\n"));
}

fn connect(world: &World, login: bool) -> Client {
    match (login, world.is_straight()) {
        (true, true) => world.connection().login(UPSTREAM_USER, UPSTREAM_PASSWORD),
        (true, false) => world.client(),
        (false, _) => world.connection(),
    }
}

const SETTINGS: &[(&str, &str)] = &[
    ("\\Seen", " 1-Jan-2020 00:00:00 +0000"),
    ("", "31-Dec-2019 23:59:59 -0500"),
    ("\\Flagged $Forwarded", "29-Feb-2024 12:00:00 +1400"),
    ("\\Deleted \\Answered", "15-Jul-1999 01:02:03 -1200"),
    ("\\Draft NonJunk \\Seen", " 1-Jan-2025 00:00:00 +0530"),
];

const SAMPLES: &[&[u8]] = &[
    // 1: as plain as can be.
    b"From: Ann <ann@example.org>\r\nTo: bob@example.net\r\nSubject: plain\r\nDate: Tue, 4 Mar 2025 10:00:00 +0000\r\nMessage-ID: <1@x>\r\n\r\nfirst line\r\nsecond line\r\n",
    // 2: mixed, with an attachment, preamble and epilogue.
    b"From: a@x.example\r\nSubject: Re: plain\r\nDate: Tue, 4 Mar 2025 23:30:00 -0800\r\nIn-Reply-To: <1@x>\r\nReferences: <1@x>\r\nMessage-ID: <2@x>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\npre\r\n--a\r\n\r\none\r\n--a\r\nContent-Type: image/png; name=\"x.png\"\r\nContent-Disposition: attachment; filename=\"x.png\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--a--\r\npost\r\n",
    // 3: a message in a message with two parts.
    b"Subject: fwd\r\nDate: 5 Mar 2025 01:00:00 +0900\r\nMessage-ID: <3@x>\r\nReferences: <2@x> <1@x>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=e\r\n\r\n--e\r\nContent-Type: text/plain\r\n\r\nsee below\r\n--e\r\nContent-Type: message/rfc822\r\nContent-Description: inner\r\n\r\nMIME-Version: 1.0\r\nSubject: deep\r\nFrom: deep@x.example\r\nContent-Type: multipart/alternative; boundary=f\r\n\r\n--f\r\n\r\nx\r\n--f\r\nContent-Type: text/html\r\nX-Part: yes\r\n\r\n<p>y</p>\r\n--f--\r\n--e--\r\n",
    // 4: a message as the whole body.
    b"Subject: whole\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nDate: Wed, 32 Foo 2025 99:00:00\r\n\r\nSubject: inner\r\nFrom: i@x.example\r\n\r\ninner body\r\n",
    // 5: no date, no from, words in 8-bit and encoded.
    b"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= und\r\n =?iso-8859-1?Q?_K=FCsse?=\r\nTo: =?utf-8?B?w4RubmU=?= <Anne@EXAMPLE.de>, undisclosed: ;, \"Q, R\" <q@r.example>\r\nCc: g: a@b.example, c@d.example;\r\nX-Eight: gr\xc3\xbcn\r\nX-Empty:\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nSch=C3=B6ne Gr=C3=BC=C3=9Fe, soft=\r\nbreak\r\n",
    // 6: an empty body.
    b"Subject: empty\r\nMessage-ID: <6@x>\r\n\r\n",
    // 7: no blank line.
    b"Subject: no body\r\n",
    // 8: fields twice, folded, with odd names.
    b"Received: from a\r\n\tby b; Tue, 4 Mar 2025 09:00:00 +0000\r\nReceived: from c\r\n by d\r\nX-Long: 1\r\n 2\r\n\t3\r\nSubject: a\r\nSubject: b\r\nX_under.dot: z\r\nTo: one@x.example\r\nTo: two@x.example\r\nDate: Mon, 3 Mar 2025 10:00:00 +0000 (comment)\r\n\r\nbase64\r\n",
    // 9: base64 text.
    b"Subject: coded\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: base64\r\nDate: 4 Mar 25 10:00 EST\r\n\r\nR3L832UgdmVyc3RlY2t0\r\n",
    // 10: a digest.
    b"Subject: [list] plain (fwd)\r\nMIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=d\r\nMessage-ID: <10@x>\r\n\r\n--d\r\n\r\nSubject: first\r\n\r\n1\r\n--d\r\n\r\nSubject: second\r\n\r\n2\r\n--d--\r\n",
    // 11: only in the header, and longer.
    b"Subject: long\r\nX-Token: needle\r\n\r\n0123456789012345678901234567890123456789\r\n\r\n\r\n",
    // 12: no header.
    b"\r\nbody alone\r\n",
];
