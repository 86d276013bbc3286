//! A year of sample mail, made up by code: the same for the same moment, and with something of everything that mail programs
//! stumble over. Nobody in it exists: all names are under example domains (RFC 2606).

use bytes::Bytes;
use encoding_rs::{ISO_2022_JP, KOI8_R, UTF_8};

use super::account::{DRAFTS, IMPORTANT, INBOX, SENT, SPAM, TRASH};
use super::compose::{Part, Transfer, date, filename, pdf, png, words, zip};
use crate::model::{Flags, InternalDate};

/// One message and where it is.
pub(super) struct Sample {
    pub(super) raw: Bytes,
    pub(super) date: InternalDate,
    pub(super) flags: Flags,
    pub(super) labels: Vec<&'static str>,
}

/// Ordinary messages, besides the special ones.
const ORDINARY: u32 = 288;
const DAY: i64 = 86_400;
const ME: &str = "Demo <demo@example.org>";
/// Octets of the big attachment: base64 makes a message of about 5 MB of it.
const BIG: usize = 3_700_000;

const PEOPLE: [&str; 8] = [
    "Ann Miller <ann@example.org>",
    "Boris Weber <boris@example.com>",
    "Chiara Rossi <chiara@example.net>",
    "Daniel Okafor <daniel@example.org>",
    "Eva Lindqvist <eva@example.com>",
    "Farid Haddad <farid@example.net>",
    "Grace Kim <grace@example.org>",
    "The Weekly Weir <news@example.com>",
];

const SUBJECTS: [&str; 12] = [
    "Lunch on Thursday?",
    "Minutes of the meeting",
    "Your invoice",
    "Photos from the lake",
    "Train times",
    "The garden fence",
    "Draft of chapter three",
    "Reading list",
    "Water level report",
    "Parcel on its way",
    "Quarterly figures",
    "A question about the boat",
];

const SENTENCES: [&str; 10] = [
    "The weir was opened a hand's breadth this morning.",
    "I have put the papers on your desk.",
    "Could you look at it before the end of the week?",
    "The river is low for the season, but nobody worries.",
    "Tickets are booked; the seats are by the window.",
    "Please bring the blue folder and the long ruler.",
    "It took three tries, and then it worked at once.",
    "We will be six, or seven if Farid can come.",
    "The figures of last month are attached to the other message.",
    "Thank you again for the plums.",
];

/// The mail of the year before `now` (seconds since 1970), the oldest first.
pub(super) fn year(now: i64) -> Vec<Sample> {
    let mut dice = Dice(0x5eed);
    let mut samples: Vec<Sample> = (0..ORDINARY).map(|number| ordinary(number, now, &mut dice)).collect();
    samples.extend(special(now));
    samples.extend(thread(now));
    samples.sort_by_key(|sample| sample.date);
    samples
}

/// A message that comes in at `now`.
pub(super) fn fresh(number: u64, now: i64) -> Bytes {
    let at = InternalDate { seconds: now, zone: 0 };
    let (from, subject, text) = match number % 4 {
        0 => {
            (PEOPLE[0].to_owned(), "News from the lock keeper".to_owned(), "The gate is open, and the water is coming.")
        }
        1 => (address("Юрий Волков", "yuri@example.net"), words(UTF_8, "Привет с Волги"), "Вода поднялась на ладонь."),
        2 => (address("山田 花子", "hanako@example.com"), words(UTF_8, "新しい写真"), "写真を送ります。"),
        _ => (
            PEOPLE[7].to_owned(),
            "The Weekly Weir: how rivers are held back".to_owned(),
            "All you wanted to know about sluices.",
        ),
    };
    let text = format!("{text}\n\nThis is new message number {}.\n", number + 1);
    let headers = head(&from, ME, &subject, &format!("fresh-{number}-{now}"), at);
    Part::text("plain", UTF_8, Transfer::QuotedPrintable, &text).message(&headers).into()
}

fn ordinary(number: u32, now: i64, dice: &mut Dice) -> Sample {
    let age = i64::from(ORDINARY - number) * 365 * DAY / i64::from(ORDINARY) - i64::from(dice.below(DAY as u32 - 7200));
    let at = InternalDate { seconds: now - age.max(3600), zone: if number.is_multiple_of(3) { 120 } else { 0 } };
    let person = dice.pick(&PEOPLE);
    let subject = format!("{} ({})", dice.pick(&SUBJECTS), number + 1);
    let mut text = String::from("Hello,\n\n");
    for _ in 0..2 + dice.below(9) {
        text.push_str(dice.pick(&SENTENCES));
        text.push(if dice.below(3) == 0 { '\n' } else { ' ' });
    }
    text.push_str("\n\nYours\n");
    let sent = number % 12 == 5;
    let (from, to) = if sent { (ME, person) } else { (person, ME) };
    let headers = head(from, to, &subject, &format!("ordinary-{number}-{now}"), at);
    let plain = Part::text("plain", UTF_8, Transfer::Plain, &text);
    let raw = match number % 6 {
        0 | 3 => {
            let html = format!("<html><body><p>{}</p></body></html>\n", text.replace('\n', "<br>\n"));
            let html = Part::text("html", UTF_8, Transfer::QuotedPrintable, &html);
            Part::multipart("alternative", &[plain, html]).message(&headers)
        }
        1 if number % 24 == 1 => {
            let colour = [dice.byte(), dice.byte(), dice.byte()];
            let picture = Part::file("image/png", "filename=\"colour.png\"", &png(64, colour));
            Part::multipart("mixed", &[plain, picture]).message(&headers)
        }
        _ => plain.message(&headers),
    };
    let labels = match number {
        _ if sent => vec![SENT],
        number if number % 40 == 7 => vec![SPAM],
        number if number % 40 == 9 => vec![TRASH],
        number if number % 9 == 2 => vec![INBOX, IMPORTANT],
        // Archived: in All Mail alone.
        number if number % 5 == 4 => vec!["[Gmail]/All Mail"],
        _ => vec![INBOX],
    };
    // The newest are unread.
    let seen = number + 20 < ORDINARY;
    let flags = match (seen, number % 30) {
        (true, 3) => "\\Seen \\Flagged",
        (true, 8) => "\\Seen \\Answered",
        (true, _) => "\\Seen",
        (false, _) => "",
    };
    Sample { raw: raw.into(), date: at, flags: Flags::parse(flags.split(' ')), labels }
}

/// One of everything that is hard.
fn special(now: i64) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |days: i64, from: &str, subject: &str, id: &str, labels: &[&'static str], part: Part| {
        let at = InternalDate { seconds: now - days * DAY + 1800, zone: 60 };
        let headers = head(from, ME, subject, &format!("{id}-{now}"), at);
        let raw = part.message(&headers).into();
        samples.push(Sample { raw, date: at, flags: Flags::default(), labels: labels.to_vec() });
    };
    let quoted = Transfer::QuotedPrintable;
    add(
        2,
        &format!("{} <yuri@example.net>", words(KOI8_R, "Юрий Волков")),
        &words(KOI8_R, "Отчёт об уровне воды в реке за прошлую неделю"),
        "koi8",
        &[INBOX],
        Part::text(
            "plain",
            KOI8_R,
            Transfer::Plain,
            "Здравствуйте!\n\nУровень воды поднялся на ладонь, плотина держит.\n",
        ),
    );
    add(
        3,
        &format!("{} <hanako@example.com>", words(ISO_2022_JP, "山田花子")),
        &words(ISO_2022_JP, "堰の写真をお送りします"),
        "jp",
        &[INBOX],
        Part::text("plain", ISO_2022_JP, Transfer::Plain, "こんにちは。\n\n川の水位は安定しています。\n"),
    );
    add(
        4,
        &address("李小龙", "li@example.org"),
        &words(UTF_8, "关于水坝的会议记录"),
        "zh",
        &[INBOX],
        Part::text("plain", UTF_8, Transfer::Base64, "您好:\n\n会议记录见附件,请查收。\n"),
    );
    add(
        5,
        &address("فريد حداد", "farid@example.net"),
        &words(UTF_8, "صور من النهر"),
        "ar",
        &[INBOX],
        Part::text("plain", UTF_8, quoted, "مرحبا\n\nمستوى المياه مستقر هذا الأسبوع.\n"),
    );
    let report =
        Part::file("application/pdf", &filename("Ежемесячный отчёт за первый квартал.pdf"), &pdf("Water levels"));
    let archive = Part::file(
        "application/zip",
        "filename=\"levels.zip\"",
        &zip("levels.csv", b"day,level\r\n1,120\r\n2,118\r\n"),
    );
    let picture = Part::file("image/png", &filename("Fluß im Mai.png"), &png(96, [40, 110, 180]));
    let note = Part::text("plain", UTF_8, quoted, "Three files: a report, an archive and a picture.\n");
    add(
        6,
        PEOPLE[1],
        &words(UTF_8, "Anhänge: Bericht, Archiv und Bild"),
        "files",
        &[INBOX, IMPORTANT],
        Part::multipart("mixed", &[note, report, archive, picture]),
    );
    add(7, PEOPLE[4], "Invitation: walk along the river", "invite", &[INBOX, IMPORTANT], invitation(now));
    let old =
        head(PEOPLE[3], "Eva Lindqvist <eva@example.com>", "The old mill", &format!("mill-{now}"), at(now - 40 * DAY));
    let old = Part::text("plain", UTF_8, Transfer::Plain, "The old mill is for sale.\n").message(&old);
    let note = Part::text("plain", UTF_8, Transfer::Plain, "For your information, see below.\n");
    add(
        8,
        PEOPLE[4],
        "Fwd: The old mill",
        "forward",
        &[INBOX],
        Part::multipart("mixed", &[note, Part::forwarded(&old)]),
    );
    let note = Part::text("plain", UTF_8, Transfer::Plain, "The film of the flood, five megabytes of it.\n");
    let film = Part::file("application/octet-stream", "filename=\"flood.bin\"", &noise(BIG));
    add(9, PEOPLE[2], "The film (5 MB)", "big", &[INBOX], Part::multipart("mixed", &[note, film]));
    add(
        1,
        ME,
        "To be continued",
        "draft",
        &[DRAFTS],
        Part::text("plain", UTF_8, Transfer::Plain, "Dear all,\n\nI wanted to\n"),
    );
    for draft in samples.iter_mut().filter(|sample| sample.labels == [DRAFTS]) {
        draft.flags = Flags::parse(["\\Draft", "\\Seen"]);
    }
    samples
}

/// A conversation: every message names the one it answers and all before it.
fn thread(now: i64) -> Vec<Sample> {
    let turns: [(usize, &str); 6] = [
        (0, "Shall we repair the fence before winter?"),
        (8, "Yes. I have boards, and no nails."),
        (3, "Nails I have."),
        (0, "Saturday then, at ten."),
        (8, "At ten. I bring coffee."),
        (4, "And I bring cake."),
    ];
    let mut references = String::new();
    let mut samples = Vec::new();
    for (number, (who, text)) in (0..).zip(turns) {
        let from = PEOPLE.get(who).copied().unwrap_or(ME);
        let at = at(now - 12 * DAY + number * 7200);
        let subject = if number == 0 { "The fence, again" } else { "Re: The fence, again" };
        let id = format!("fence-{number}-{now}");
        let mut headers = head(from, ME, subject, &id, at);
        if let Some(last) = references.split(' ').next_back().filter(|last| !last.is_empty()) {
            headers.push_str(&format!("In-Reply-To: {last}\r\nReferences: {}\r\n", references.replace(' ', "\r\n ")));
        }
        if !references.is_empty() {
            references.push(' ');
        }
        references.push_str(&format!("<{id}@example.org>"));
        let raw = Part::text("plain", UTF_8, Transfer::Plain, &format!("{text}\n")).message(&headers).into();
        let labels = if from == ME { vec![SENT] } else { vec![INBOX] };
        samples.push(Sample { raw, date: at, flags: Flags::parse(["\\Seen"]), labels });
    }
    samples
}

fn invitation(now: i64) -> Part {
    let stamp = |seconds: i64| {
        let text = at(seconds).to_string();
        let (day, clock) = text.trim_start().split_once(' ').unwrap_or_default();
        let mut parts = day.split('-');
        let (day, month, year) =
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = months.iter().position(|name| *name == month).unwrap_or(0) + 1;
        format!("{year}{month:02}{day:0>2}T{}00Z", clock.get(..5).unwrap_or("00:00").replace(':', ""))
    };
    let calendar = format!(
        "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//mailweir//demo//EN\nMETHOD:REQUEST\nBEGIN:VEVENT\nUID:walk-{now}@example.org\n\
         DTSTAMP:{}\nDTSTART:{}\nDTEND:{}\nSUMMARY:Walk along the river\nLOCATION:At the weir\n\
         ORGANIZER;CN=Eva Lindqvist:mailto:eva@example.com\n\
         ATTENDEE;ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:mailto:demo@example.org\n\
         END:VEVENT\nEND:VCALENDAR\n",
        stamp(now),
        stamp(now + 5 * DAY),
        stamp(now + 5 * DAY + 7200),
    );
    let text = Part::text("plain", UTF_8, Transfer::Plain, "Come along for a walk on the river bank.\n");
    let request = Part::text("calendar; method=REQUEST", UTF_8, Transfer::Base64, &calendar);
    let file = Part::file("application/ics; name=\"invite.ics\"", "filename=\"invite.ics\"", calendar.as_bytes());
    Part::multipart("mixed", &[Part::multipart("alternative", &[text, request]), file])
}

fn at(seconds: i64) -> InternalDate {
    InternalDate { seconds, zone: 0 }
}

fn address(name: &str, mailbox: &str) -> String {
    format!("{} <{mailbox}>", words(UTF_8, name))
}

fn head(from: &str, to: &str, subject: &str, id: &str, at: InternalDate) -> String {
    format!(
        "Date: {}\r\nFrom: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{id}@example.org>\r\n",
        date(at)
    )
}

/// Octets that do not compress, like a film's.
fn noise(len: usize) -> Vec<u8> {
    let mut dice = Dice(0xf11f);
    let mut noise = Vec::with_capacity(len + 8);
    while noise.len() < len {
        noise.extend_from_slice(&dice.next().to_le_bytes());
    }
    noise.truncate(len);
    noise
}

/// A small generator (xorshift64*), so that the mail is the same at every start.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.next() >> 33).unwrap_or(0) % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        let index = self.below(u32::try_from(from.len()).unwrap_or(1)) as usize;
        from.get(index).copied().unwrap_or_default()
    }
}
