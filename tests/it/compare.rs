//! The same commands, side by side, to Dovecot and to the daemon in front of it: answers normalised and compared.
//!
//! Every difference of a run is told, not the first. What may rightly differ is normalised away here and nowhere else:
//! `\Recent`, the order of flags and of untagged responses, words after a status, HIGHESTMODSEQ (ours), and letters'
//! case where MIME does not care.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::answer::{self, Answer, Value};
use crate::harness::client::Client;
use crate::harness::mail::{self, Sizes};
use crate::harness::world::{Kind, World};
use crate::over_dovecot;

over_dovecot!(fetch_items_of_mime_samples, searches, lists, errors);

/// An answer in a form that two servers can agree on.
#[derive(Debug, PartialEq)]
struct Plain {
    status: answer::Status,
    fetches: BTreeMap<u32, BTreeMap<String, Value>>,
    search: BTreeSet<u32>,
    rest: BTreeSet<String>,
}

fn plain(answer: &Answer) -> Plain {
    let mut fetches: BTreeMap<u32, BTreeMap<String, Value>> = BTreeMap::new();
    for (n, items) in answer.fetches() {
        fetches.entry(n).or_default().extend(items.into_iter().map(|(k, v)| (k.clone(), normal(&k, v))));
    }
    let mut rest = BTreeSet::new();
    for line in &answer.untagged {
        if let Some((attributes, delimiter, name)) =
            answer::listed(line, "LIST").or_else(|| answer::listed(line, "LSUB"))
        {
            let attributes: Vec<_> =
                attributes.iter().filter(|a| !matches!(a.as_str(), "\\marked" | "\\unmarked")).collect();
            rest.insert(format!("{attributes:?} {delimiter:?} {name}"));
        }
    }
    Plain { status: answer.status, fetches, search: answer.search().into_iter().collect(), rest }
}

fn normal(item: &str, value: Value) -> Value {
    match (item, value) {
        ("FLAGS", Value::List(flags)) => {
            let mut flags: Vec<_> = flags.into_iter().filter(|f| f.text() != "\\Recent").collect();
            flags.sort();
            Value::List(flags)
        }
        // The grammar has a blank before a day of one digit (RFC 3501, date-day-fixed); Dovecot writes a nought.
        ("INTERNALDATE", Value::Text(date)) if date.first() == Some(&b' ') => Value::Text([b"0", &date[1..]].concat()),
        ("BODYSTRUCTURE" | "BODY", value) => lower(value),
        // A part that is not there is NIL to some servers and empty to others.
        (section, Value::Nil) if section.starts_with("BODY[") => Value::Text(Vec::new()),
        (_, value) => value,
    }
}

fn lower(value: Value) -> Value {
    match value {
        Value::List(items) => Value::List(items.into_iter().map(lower).collect()),
        Value::Text(text) => Value::Text(text.to_ascii_lowercase()),
        other => other,
    }
}

/// Sends each command to both and tells what differs.
fn side_by_side(ours: &mut Client, theirs: &mut Client, commands: &[String]) {
    let mut differences = Vec::new();
    for command in commands {
        let (a, b) = (plain(&ours.cmd(command)), plain(&theirs.cmd(command)));
        if a.status != b.status {
            differences.push(format!("{command}\n  ours {:?}, theirs {:?}", a.status, b.status));
        }
        if a.search != b.search {
            differences.push(format!("{command}\n  ours   {:?}\n  theirs {:?}", a.search, b.search));
        }
        for line in a.rest.symmetric_difference(&b.rest) {
            differences.push(format!(
                "{command}\n  {} {line}",
                if a.rest.contains(line) { "only ours" } else { "only theirs" }
            ));
        }
        for n in a.fetches.keys().chain(b.fetches.keys()).collect::<BTreeSet<_>>() {
            let (Some(x), Some(y)) = (a.fetches.get(n), b.fetches.get(n)) else {
                differences.push(format!(
                    "{command}\n  message {n}: ours {:?}, theirs {:?}",
                    a.fetches.get(n),
                    b.fetches.get(n)
                ));
                continue;
            };
            for item in x.keys().chain(y.keys()).collect::<BTreeSet<_>>() {
                if x.get(item) != y.get(item) {
                    differences.push(format!(
                        "{command}\n  message {n} {item}\n  ours   {:?}\n  theirs {:?}",
                        x.get(item),
                        y.get(item)
                    ));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

fn commands(list: &[&str]) -> Vec<String> {
    list.iter().map(|c| (*c).to_owned()).collect()
}

/// Well-formed mail in many shapes. The ill-formed kind is for the message layer's own golden files: there servers
/// rightly differ.
const SAMPLES: &[&str] = &[
    "Subject: no mime\r\n\r\nplain body\r\n",
    "Subject: empty body\r\n\r\n",
    "Subject: no blank line\r\n",
    "From: a@b.example\r\nTo: \"Q, R\" <q@r.example>, s@t.example\r\nCc: group: m@n.example, o@p.example;\r\nBcc: x@y.example\r\nReply-To: z@z.example\r\nSender: w@w.example\r\nSubject: addresses\r\nIn-Reply-To: <q@x>\r\nMessage-ID: <m@x>\r\nDate: Tue, 4 Mar 2025 10:00:00 +0000\r\n\r\nx\r\n",
    "Subject: =?utf-8?Q?=C3=BC?=\r\n =?utf-8?Q?=C3=B6?=\r\nFrom: =?utf-8?B?w7w=?= <u@example.de>\r\n\r\nx\r\n",
    "MIME-Version: 1.0\r\nContent-Type: text/html; charset=\"UTF-8\"; format=flowed\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-ID: <c@x>\r\nContent-Description: a page\r\nContent-Language: de, en\r\nContent-Location: http://x.example/\r\nContent-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r\n\r\n<p>=C3=BC</p>\r\n",
    "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\npre\r\n--a\r\n\r\none\r\n--a\r\nContent-Type: image/png; name=\"x.png\"\r\nContent-Disposition: attachment; filename=\"x.png\"; size=3\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--a--\r\npost\r\n",
    "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"b b\"\r\n\r\n--b b\r\nContent-Type: text/plain\r\n\r\np\r\n--b b\r\nContent-Type: multipart/related; boundary=c\r\n\r\n--c\r\nContent-Type: text/html\r\n\r\n<img>\r\n--c\r\nContent-Type: image/gif\r\nContent-ID: <i@x>\r\nContent-Disposition: inline\r\n\r\nGIF\r\n--c--\r\n\r\n--b b--\r\n",
    "MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: first\r\n\r\n1\r\n--d\r\n\r\nSubject: second\r\n\r\n2\r\n--d--\r\n",
    "MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nFrom: i@x.example\r\n\r\ninner body\r\n",
    "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=e\r\n\r\n--e\r\nContent-Type: message/rfc822\r\n\r\nMIME-Version: 1.0\r\nSubject: deep\r\nContent-Type: multipart/mixed; boundary=f\r\n\r\n--f\r\n\r\nx\r\n--f\r\nContent-Type: message/rfc822\r\n\r\nSubject: deeper\r\n\r\ny\r\n--f--\r\n--e--\r\n",
    "MIME-Version: 1.0\r\nContent-Type: multipart/signed; micalg=pgp-sha256; protocol=\"application/pgp-signature\"; boundary=g\r\n\r\n--g\r\nContent-Type: text/plain\r\n\r\nsigned\r\n--g\r\nContent-Type: application/pgp-signature; name=\"s.asc\"\r\n\r\n-----BEGIN\r\n--g--\r\n",
    "MIME-Version: 1.0\r\nContent-Type: application/pdf;\r\n\tname*0*=utf-8''%D1%81;\r\n\tname*1*=%D1%87.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n",
    "X-Long: a\r\n b\r\n c\r\nSubject: folded\r\n\tby a tab\r\n\r\nbody\r\n\r\n",
    "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=h\r\n\r\n--h\r\n\r\nnot delivered\r\n--h\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n--h\r\nContent-Type: text/rfc822-headers\r\n\r\nSubject: back\r\n\r\n--h--\r\n",
];

fn fetch_items_of_mime_samples(kind: Kind) {
    let world = World::new(kind, |c| {
        for sample in SAMPLES {
            c.append("INBOX", "\\Seen", sample.as_bytes());
        }
        mail::load(c, "INBOX", 67, 40, Sizes::Usual);
    });
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("EXAMINE INBOX");
    up.cmd_ok("EXAMINE INBOX");
    let mut list = commands(&[
        "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)",
        "FETCH 1:* ENVELOPE",
        "FETCH 1:* BODYSTRUCTURE",
        "FETCH 1:* BODY",
        "FETCH 1:* BODY.PEEK[]",
        "FETCH 1:* BODY.PEEK[HEADER]",
        "FETCH 1:* BODY.PEEK[TEXT]",
        "FETCH 1:* RFC822.HEADER",
        "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (From Subject DATE)])",
        "FETCH 1:* (BODY.PEEK[HEADER.FIELDS.NOT (Received)])",
        "FETCH 1:* (BODY.PEEK[]<0.10> BODY.PEEK[TEXT]<3.4>)",
        "UID FETCH 1:* (FLAGS)",
        "UID FETCH 3:5,900 (UID RFC822.SIZE)",
    ]);
    let parts = [
        "1",
        "1.MIME",
        "2",
        "2.MIME",
        "1.1",
        "1.2",
        "1.HEADER",
        "1.TEXT",
        "2.1",
        "2.2",
        "2.1.MIME",
        "1.2.1",
        "1.2.HEADER",
        "3",
        "4",
    ];
    list.extend(parts.iter().map(|p| format!("FETCH 1:* (BODY.PEEK[{p}])")));
    side_by_side(&mut c, &mut up, &list);
}

fn searches(kind: Kind) {
    let world = World::new(kind, |c| mail::load(c, "INBOX", 71, 80, Sizes::Usual));
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("EXAMINE INBOX");
    up.cmd_ok("EXAMINE INBOX");
    let keys = [
        "SEEN",
        "UNFLAGGED",
        "KEYWORD $Forwarded",
        "1:40",
        "UID 20:60",
        "LARGER 4000",
        "SMALLER 9000",
        "SUBJECT weir",
        "FROM example.net",
        "TO irina",
        "BODY copper",
        "TEXT harbour",
        "HEADER References @example.org",
        "SENTSINCE 1-Jan-2019",
        "SENTBEFORE 1-Jul-2022",
        "SINCE 1-Feb-2018",
        "BEFORE 20-Aug-2023",
        "DELETED",
    ];
    // Every key alone, every pair by AND and by OR, and each under NOT.
    let mut list = Vec::new();
    for (n, a) in keys.iter().enumerate() {
        list.push(format!("SEARCH {a}"));
        list.push(format!("UID SEARCH NOT {a}"));
        for b in &keys[n + 1..] {
            list.push(format!("SEARCH {a} {b}"));
            list.push(format!("SEARCH OR ({a}) (NOT {b})"));
        }
    }
    side_by_side(&mut c, &mut up, &list);
}

fn lists(kind: Kind) {
    let world = World::new(kind, |c| {
        for name in ["A", "A/B", "A/B/C", "AB", "A&AOk-", "Z/Y", "\\\"q\\\""] {
            c.cmd_ok(&format!("CREATE \"{name}\""));
        }
        c.cmd_ok("SUBSCRIBE A/B");
    });
    let (mut c, mut up) = (world.client(), world.straight());
    let mut list = Vec::new();
    for reference in ["", "A", "A/", "Z"] {
        for pattern in ["*", "%", "B", "A%", "*B*", "%/%", "INBOX", "%B%"] {
            list.push(format!("LIST \"{reference}\" \"{pattern}\""));
        }
    }
    list.extend(commands(&[
        "LIST \"\" \"\"",
        "LIST (SUBSCRIBED) \"\" *",
        "LIST \"\" (A% Z%)",
        "LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %",
    ]));
    side_by_side(&mut c, &mut up, &list);
}

fn errors(kind: Kind) {
    let world = World::new(kind, |c| mail::load(c, "INBOX", 73, 5, Sizes::Small));
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("EXAMINE INBOX");
    up.cmd_ok("EXAMINE INBOX");
    let list = commands(&[
        "FETCH 6 FLAGS",
        "FETCH 1:6 UID",
        "FETCH 0 FLAGS",
        "FETCH 1,x FLAGS",
        "FETCH 1 NONSENSE",
        "FETCH 1 BODY.PEEK[",
        "FETCH 1 BODY[1.]",
        "FETCH 1 (BODY.PEEK[]<0.0>)",
        "UID FETCH 900 FLAGS",
        "UID FETCH 900:* UID",
        "FETCH * UID",
        "FETCH *:1 UID",
        "SEARCH",
        "SEARCH 7",
        "SEARCH UID 900",
        "SEARCH BEFORE x",
        "SEARCH KEYWORD",
        "STATUS INBOX",
        "STATUS Nowhere (MESSAGES)",
        "SELECT",
        "EXAMINE \"\"",
        "NOSUCH",
        "LIST",
        "LSUB \"\"",
        "UID NOOP",
        "EXAMINE Nowhere",
        "FETCH 1 FLAGS",
    ]);
    side_by_side(&mut c, &mut up, &list);
}
