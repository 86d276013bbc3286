//! What stands between a provider's socket and its session: counts, locks out, and changes what passes, as the [`Scenario`] says.
//!
//! Two tasks a connection, one each way, line by line with literals passed untouched. A command that the scenario refuses never reaches
//! the session: its answer is put in between two of the session's own. Lines are bounded; what is longer ends the connection.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::time::{Duration, Instant, sleep};

use super::scenario::Scenario;
use crate::net::{Stream, Tap};

/// Longest line either way.
const LINE_MOST: u64 = 8 << 20;
/// How often an idling connection is looked at that is to be dropped.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// While it trickles (less than a kilobyte a second): so many octets,
const DROP: usize = 100;
/// so often.
const DROP_EVERY: Duration = Duration::from_millis(100);

/// A provider's state of mind, of all its connections.
#[derive(Debug, Default)]
pub(super) struct Weather {
    /// Octets let out and taken in, at the socket.
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    /// Commands refused because the day was spent, and because they came too fast.
    pub(super) locked: AtomicU64,
    pub(super) throttled: AtomicU64,
    /// Commands that would switch QRESYNC on.
    pub(super) qresync: AtomicU64,
    /// Answers come drop by drop.
    pub(super) trickles: AtomicBool,
    /// Connections that idle.
    pub(super) idling: AtomicUsize,
    /// Added to every UIDVALIDITY.
    pub(super) validity: AtomicI64,
    pace: Mutex<Option<(Instant, u32)>>,
}

impl Tap for Weather {
    fn received(&self, octets: u64) {
        self.received.fetch_add(octets, Ordering::Relaxed);
    }

    fn sent(&self, octets: u64) {
        self.sent.fetch_add(octets, Ordering::Relaxed);
    }
}

impl Weather {
    fn is_spent(&self, scenario: &Scenario) -> bool {
        let over =
            |count: &AtomicU64, limit: Option<u64>| limit.is_some_and(|most| count.load(Ordering::Relaxed) > most);
        over(&self.sent, scenario.download_per_day) || over(&self.received, scenario.upload_per_day)
    }

    fn is_too_fast(&self, most: u32, now: Instant) -> bool {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) =
            pace.filter(|(since, _)| now.saturating_duration_since(*since).as_secs() < 1).unwrap_or((now, 0));
        *pace = Some((since, count + 1));
        count >= most
    }
}

/// One connection.
#[derive(Debug)]
struct Wire {
    scenario: Arc<Scenario>,
    weather: Arc<Weather>,
    /// Since when the client idles.
    idles: Mutex<Option<Instant>>,
    is_in: AtomicBool,
}

/// Passes everything between a client and its session until either ends.
pub(super) async fn pass(scenario: Arc<Scenario>, weather: Arc<Weather>, client: Stream, session: Stream) {
    let wire = Arc::new(Wire { scenario, weather, idles: Mutex::default(), is_in: AtomicBool::new(false) });
    let (from_client, to_client) = tokio::io::split(client);
    let (from_session, to_session) = tokio::io::split(session);
    let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
    let (up, answers) = (Arc::clone(&wire), Arc::clone(&to_client));
    tokio::select! {
        // An end from the client is passed on, and the session's last words are waited for.
        () = async {
            // A connection that breaks is an end like any other.
            let _ = up.up(from_client, to_session, &answers).await;
            std::future::pending::<()>().await;
        } => {}
        _ = wire.down(from_session, &to_client) => {}
        () = wire.dropped() => {}
    }
    let _ = to_client.lock().await.shutdown().await;
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.set_idle(false);
    }
}

type Out = tokio::sync::Mutex<WriteHalf<Stream>>;

impl Wire {
    async fn up(&self, from: ReadHalf<Stream>, mut to: WriteHalf<Stream>, answers: &Out) -> std::io::Result<()> {
        let mut from = BufReader::new(from);
        let mut is_begun = false;
        loop {
            let line = read_line(&mut from).await?;
            if line.is_empty() {
                return to.shutdown().await;
            }
            if !is_begun && let Some(refusal) = self.refusal(&line) {
                let mut out = answers.lock().await;
                out.write_all(refusal.as_bytes()).await?;
                out.flush().await?;
                continue;
            }
            let line = self.named_as_ours(line);
            to.write_all(&line).await?;
            to.flush().await?;
            is_begun = false;
            if let Some(octets) = literal(&line) {
                tokio::io::copy(&mut (&mut from).take(octets), &mut to).await?;
                to.flush().await?;
                is_begun = true;
            }
        }
    }

    async fn down(&self, from: ReadHalf<Stream>, to: &Out) -> std::io::Result<()> {
        let mut from = BufReader::new(from);
        let mut late: Vec<u8> = Vec::new();
        loop {
            let mut line = read_line(&mut from).await?;
            if line.is_empty() {
                return Ok(());
            }
            // Held to the end of the response, so that no refusal is put into its middle.
            let mut out = to.lock().await;
            if let Some(since) = *self.idles.lock().unwrap_or_else(PoisonError::into_inner) {
                let is_deaf = self.scenario.idle_deaf_after.is_some_and(|after| since.elapsed() >= after);
                if is_deaf && line.starts_with(b"* ") {
                    continue;
                }
                if self.scenario.expunges_late && line.ends_with(b" EXPUNGE\r\n") {
                    late.extend_from_slice(&line);
                    continue;
                }
            } else if !late.is_empty() {
                out.write_all(&late).await?;
                late.clear();
            }
            loop {
                let octets = literal(&line);
                self.write(&mut out, &self.told(line)).await?;
                let Some(octets) = octets else { break };
                tokio::io::copy(&mut (&mut from).take(octets), &mut *out).await?;
                line = read_line(&mut from).await?;
            }
            if from.buffer().is_empty() {
                out.flush().await?;
            }
        }
    }

    /// Resolves when an idling client is dropped.
    async fn dropped(&self) {
        let Some(after) = self.scenario.idle_dropped_after else { return std::future::pending().await };
        let is_over = || {
            let since = *self.idles.lock().unwrap_or_else(PoisonError::into_inner);
            since.is_some_and(|since| since.elapsed() >= after)
        };
        while !is_over() {
            sleep(LOOK_EVERY).await;
        }
    }

    async fn write(&self, out: &mut WriteHalf<Stream>, line: &[u8]) -> std::io::Result<()> {
        if !self.weather.trickles.load(Ordering::Relaxed) {
            return out.write_all(line).await;
        }
        for drop in line.chunks(DROP) {
            out.write_all(drop).await?;
            out.flush().await?;
            sleep(DROP_EVERY).await;
        }
        Ok(())
    }

    /// The answer to a command the provider does not carry out.
    fn refusal(&self, line: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(line);
        let mut words = text.trim_end().split(' ');
        let (tag, name) = (words.next()?, words.next().unwrap_or_default().to_ascii_uppercase());
        if tag.eq_ignore_ascii_case("DONE") {
            self.set_idle(false);
            return None;
        }
        if name.is_empty() || name == "LOGOUT" {
            return None;
        }
        let scenario = &*self.scenario;
        if self.weather.is_spent(scenario) {
            self.weather.locked.fetch_add(1, Ordering::Relaxed);
            return Some(format!("{tag} {}\r\n", scenario.locked));
        }
        if let Some((most, words)) = scenario.commands_per_second
            && self.weather.is_too_fast(most, Instant::now())
        {
            self.weather.throttled.fetch_add(1, Ordering::Relaxed);
            return Some(format!("{tag} {words}\r\n"));
        }
        if scenario.line_limit.is_some_and(|most| line.len() > most + 2) {
            return Some(format!("{tag} BAD [CLIENTBUG] {name} Command line too long\r\n"));
        }
        let upper = text.to_ascii_uppercase();
        if upper.contains("QRESYNC") {
            self.weather.qresync.fetch_add(1, Ordering::Relaxed);
        }
        if scenario.no_rfc822 && upper.contains("FETCH ") && asks_for_rfc822(&upper) {
            return Some(format!("{tag} OK FETCH completed\r\n"));
        }
        if name == "AUTHENTICATE" && scenario.no_sasl_ir && words.count() > 1 {
            return Some(format!("{tag} BAD AUTHENTICATE Command syntax error. sc=abc\r\n"));
        }
        if name == "IDLE" {
            if !scenario.offers("IDLE") {
                return Some(format!("{tag} BAD [CLIENTBUG] IDLE Unrecognised command\r\n"));
            }
            self.set_idle(true);
        }
        None
    }

    fn set_idle(&self, idles: bool) {
        let mut since = self.idles.lock().unwrap_or_else(PoisonError::into_inner);
        match (since.is_some(), idles) {
            (false, true) => drop(self.weather.idling.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.weather.idling.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        *since = idles.then(Instant::now);
    }

    /// A client's line with the session's names of mailboxes.
    fn named_as_ours(&self, line: Vec<u8>) -> Vec<u8> {
        if self.scenario.names.is_empty() {
            return line;
        }
        let Ok(mut text) = String::from_utf8(line.clone()) else { return line };
        for (ours, theirs) in self.scenario.names {
            text = text.replace(&format!("\"{theirs}\""), &format!("\"{ours}\""));
        }
        text.into_bytes()
    }

    /// A session's line as this provider tells it.
    fn told(&self, line: Vec<u8>) -> Vec<u8> {
        let Ok(mut text) = String::from_utf8(line.clone()) else { return line };
        let scenario = &*self.scenario;
        if !self.is_in.load(Ordering::Relaxed) && !text.starts_with('*') {
            if text.contains(" OK [CAPABILITY ") {
                self.is_in.store(true, Ordering::Relaxed);
            } else if let Some((tag, _)) = text.split_once(" NO [AUTHENTICATIONFAILED]") {
                text = format!("{tag} NO {}\r\n", scenario.wrong_password);
            }
        }
        if let Some((before, after)) = scenario.capability {
            let list = if self.is_in.load(Ordering::Relaxed) { after } else { before };
            text = capabilities(text, list);
        }
        for (ours, theirs) in scenario.names {
            text = text.replace(&format!("\"{ours}\""), &format!("\"{theirs}\""));
        }
        if !scenario.names.is_empty() && text.starts_with("* LIST ") && text.ends_with("\"[Gmail]\"\r\n") {
            return Vec::new();
        }
        if scenario.size_factor != 1 {
            text = numbers_after(text, "RFC822.SIZE ", |size| size * scenario.size_factor);
        }
        if scenario.no_keywords && text.contains("[PERMANENTFLAGS (") {
            text = text.replace(" \\*)", ")").replace("(\\*)", "()");
        }
        if scenario.enable_silent && text.starts_with("* ENABLED") {
            return Vec::new();
        }
        if scenario.spaced_addresses
            && let Some((before, envelope)) = text.split_once("ENVELOPE (")
        {
            text = format!("{before}ENVELOPE ({}", envelope.replace(")(", ") ("));
        }
        if scenario.wrong_structure {
            text = floats(text);
        }
        if scenario.beyond_window > 0 && text.starts_with("* STATUS ") {
            text = numbers_after(text, "MESSAGES ", |count| count + scenario.beyond_window);
        }
        if let Some(most) = scenario.search_most
            && text.starts_with("* SEARCH ")
        {
            let kept: Vec<&str> = text.trim_end().split(' ').take(2 + most).collect();
            text = format!("{}\r\n", kept.join(" "));
        }
        let shift = self.weather.validity.load(Ordering::Relaxed);
        if shift != 0 {
            for key in ["UIDVALIDITY ", "APPENDUID ", "COPYUID "] {
                text = numbers_after(text, key, |validity| validity.saturating_add_signed(shift));
            }
        }
        text.into_bytes()
    }
}

/// Whether a FETCH asks for RFC822, RFC822.HEADER or RFC822.TEXT. The size is answered.
fn asks_for_rfc822(line: &str) -> bool {
    let mut items = line.split(['(', ')', ' ', '\r', '\n']);
    items.any(|item| matches!(item, "RFC822" | "RFC822.HEADER" | "RFC822.TEXT"))
}

/// The next line with its end; empty at the end of the stream.
async fn read_line(from: &mut BufReader<ReadHalf<Stream>>) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    (&mut *from).take(LINE_MOST).read_until(b'\n', &mut line).await?;
    if !line.is_empty() && line.last() != Some(&b'\n') && line.len() as u64 >= LINE_MOST {
        return Err(std::io::Error::other("a line without an end"));
    }
    Ok(line)
}

/// Octets of the literal a line announces at its end.
fn literal(line: &[u8]) -> Option<u64> {
    let text = line.strip_suffix(b"}\r\n")?;
    let open = text.iter().rposition(|octet| *octet == b'{')?;
    let digits = std::str::from_utf8(text.get(open + 1..)?).ok()?;
    digits.strip_suffix('+').unwrap_or(digits).parse().ok()
}

/// Another list of capabilities, wherever one is told.
fn capabilities(text: String, list: &str) -> String {
    let key = if text.starts_with("* CAPABILITY ") { "CAPABILITY " } else { "[CAPABILITY " };
    let Some((before, rest)) = text.split_once(key) else { return text };
    let end = rest.find([']', '\r']).unwrap_or(rest.len());
    let after = rest.get(end..).unwrap_or_default();
    format!("{before}{key}{list}{after}")
}

/// Every number that stands behind `key`, changed.
fn numbers_after(text: String, key: &str, change: impl Fn(u64) -> u64) -> String {
    if !text.contains(key) {
        return text;
    }
    let mut parts = text.split(key);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(key);
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(digits);
        match number.parse::<u64>() {
            Ok(number) => out.push_str(&change(number).to_string()),
            Err(_) => out.push_str(number),
        }
        out.push_str(rest);
    }
    out
}

/// Sizes in a BODYSTRUCTURE as floats, as one provider writes them.
fn floats(text: String) -> String {
    let Some((before, structure)) = text.split_once("BODYSTRUCTURE (") else { return text };
    let words = structure.split(' ').map(|word| {
        let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
        match digits.parse::<u64>() {
            Ok(number) if number >= 1000 => {
                format!("{:e}{}", number as f64, word.get(digits.len()..).unwrap_or_default()).replace('e', "e+0")
            }
            _ => word.to_owned(),
        }
    });
    format!("{before}BODYSTRUCTURE ({}", words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(scenario: Scenario) -> Wire {
        Wire {
            scenario: Arc::new(scenario),
            weather: Arc::default(),
            idles: Mutex::default(),
            is_in: AtomicBool::new(false),
        }
    }

    #[test]
    fn lines_are_told_as_the_provider_tells_them() {
        let named = |name| Scenario::named(name).unwrap();
        let table = [
            ("gmail", "* CAPABILITY IMAP4rev1 IDLE\r\n", "* CAPABILITY IMAP4rev1 IDLE\r\n"),
            (
                "mailru",
                "* OK [CAPABILITY IMAP4rev1 IDLE] hi\r\n",
                "* OK [CAPABILITY IMAP4rev1 ID XLIST UIDPLUS UNSELECT MOVE LIST-STATUS SASL-IR AUTH=PLAIN AUTH=XOAUTH2] hi\r\n",
            ),
            (
                "mailru",
                "a OK [CAPABILITY IDLE] in\r\n",
                "a OK [CAPABILITY IMAP4rev1 ID XLIST UIDPLUS UNSELECT MOVE LIST-STATUS] in\r\n",
            ),
            ("mailru", "a NO [AUTHENTICATIONFAILED] no\r\n", &format!("a NO {}\r\n", MAIL_RU_WORDS)),
            (
                "mailru",
                "* 1 FETCH (UID 1 BODYSTRUCTURE (\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 93736 12))\r\n",
                "* 1 FETCH (UID 1 BODYSTRUCTURE (\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 9.3736e+04 12))\r\n",
            ),
            (
                "mailru",
                "* LIST (\\Sent) \"/\" \"[Gmail]/Sent Mail\"\r\n",
                "* LIST (\\Sent) \"/\" \"&BB4EQgQ,BEAEMAQyBDsENQQ9BD0ESwQ1-\"\r\n",
            ),
            ("mailru", "* LIST (\\Noselect) \"/\" \"[Gmail]\"\r\n", ""),
            (
                "outlook",
                "* 7 FETCH (UID 7 RFC822.SIZE 100 FLAGS ())\r\n",
                "* 7 FETCH (UID 7 RFC822.SIZE 300 FLAGS ())\r\n",
            ),
            ("icloud", "* ENABLED CONDSTORE\r\n", ""),
            (
                "icloud",
                "* 1 FETCH (ENVELOPE (NIL \"s\" ((NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"d\"))))\r\n",
                "* 1 FETCH (ENVELOPE (NIL \"s\" ((NIL NIL \"a\" \"b\") (NIL NIL \"c\" \"d\"))))\r\n",
            ),
            ("outlook", "* OK [PERMANENTFLAGS (\\Seen \\*)] x\r\n", "* OK [PERMANENTFLAGS (\\Seen)] x\r\n"),
            (
                "yahoo",
                "* STATUS \"INBOX\" (MESSAGES 10 UIDNEXT 11)\r\n",
                "* STATUS \"INBOX\" (MESSAGES 5010 UIDNEXT 11)\r\n",
            ),
        ];
        for (name, line, want) in table {
            assert_eq!(String::from_utf8(wire(named(name)).told(line.into())).unwrap(), want, "{name}: {line}");
        }
        let many: String = (0..3000).map(|n| format!(" {n}")).collect();
        let told = wire(named("yahoo")).told(format!("* SEARCH{many}\r\n").into_bytes());
        assert_eq!(String::from_utf8(told).unwrap().split(' ').count(), 1002);
        let flipped = wire(named("gmail"));
        flipped.weather.validity.store(5, Ordering::Relaxed);
        assert_eq!(flipped.told(b"* OK [UIDVALIDITY 10] x\r\n".to_vec()), b"* OK [UIDVALIDITY 15] x\r\n");
    }

    const MAIL_RU_WORDS: &str = "[AUTHENTICATIONFAILED] NEOBHODIM parol prilozheniya https://help.mail.ru/mail/security/protection/external / Application password is REQUIRED";

    #[tokio::test(start_paused = true)]
    async fn commands_are_refused_in_the_providers_words() {
        let named = |name| wire(Scenario::named(name).unwrap());
        let refused = |wire: &Wire, line: &str| wire.refusal(line.as_bytes());
        assert_eq!(refused(&named("mailru"), "a IDLE\r\n").unwrap(), "a BAD [CLIENTBUG] IDLE Unrecognised command\r\n");
        assert!(refused(&named("yandex"), "a AUTHENTICATE PLAIN AAAA\r\n").unwrap().starts_with("a BAD "));
        assert_eq!(refused(&named("yandex"), "a AUTHENTICATE PLAIN\r\n"), None);
        let long = format!("a UID FETCH {} FLAGS\r\n", "1,".repeat(600));
        assert!(refused(&named("yahoo"), &long).unwrap().contains("too long"));
        assert_eq!(refused(&named("gmail"), &long), None);
        let outlook = named("outlook");
        let answers: Vec<_> = (0..31).map(|_| refused(&outlook, "a NOOP\r\n")).collect();
        assert_eq!(answers.iter().flatten().count(), 1);
        assert!(answers[30].as_ref().unwrap().contains("Suggested Backoff Time: 1000 milliseconds"));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(refused(&outlook, "a NOOP\r\n"), None);
        let icloud = named("icloud");
        assert_eq!(refused(&icloud, "a UID FETCH 1 (UID RFC822.HEADER)\r\n").unwrap(), "a OK FETCH completed\r\n");
        assert_eq!(refused(&icloud, "a UID FETCH 1 (RFC822.SIZE BODY.PEEK[])\r\n"), None);
        assert_eq!(refused(&icloud, "a ENABLE QRESYNC\r\n"), None);
        assert_eq!(icloud.weather.qresync.load(Ordering::Relaxed), 1);
        let gmail = wire(Scenario { download_per_day: Some(100), ..Scenario::gmail() });
        gmail.weather.sent.store(101, Ordering::Relaxed);
        assert!(refused(&gmail, "a NOOP\r\n").unwrap().starts_with("a NO [OVERQUOTA] "));
        assert_eq!(refused(&gmail, "a LOGOUT\r\n"), None);
        assert_eq!([literal(b"x {12}\r\n"), literal(b"x {3+}\r\n"), literal(b"x\r\n")], [Some(12), Some(3), None]);
    }
}
