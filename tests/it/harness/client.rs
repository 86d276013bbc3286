//! A mail client for transcripts: sends exactly the bytes it is told and shows exactly the lines it gets.
//!
//! Two ways of use. `c("A1 NOOP").s("* 1 EXPUNGE").ok("A1")` follows a transcript line by line; `cmd("NOOP")` collects
//! an [`Answer`]. Whatever goes wrong ends the test with the last part of the conversation.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::answer::{Answer, Status};
use super::{PATIENCE, ca};

/// How much of a conversation is kept for the message of a failing test.
const KEPT_LINES: usize = 60;

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// While it is being changed; any use is a fault of the harness.
    None,
}

/// One connection to a mail server.
pub struct Client {
    stream: Stream,
    /// Received and not yet read: `input[at..]`.
    input: Vec<u8>,
    at: usize,
    next_tag: u32,
    spoken: VecDeque<String>,
    /// The greeting, without CRLF.
    pub greeting: String,
    /// All bytes received, before decryption is not counted: plaintext.
    pub received: u64,
    quick_ack: bool,
    chunk: Vec<u8>,
}

impl Client {
    /// Connects and reads the greeting.
    pub fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).unwrap_or_else(|e| panic!("connect to {addr}: {e}"))
    }

    pub fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        let mut client = Self::over(Stream::Plain(dial(addr)?));
        client.greet()?;
        Ok(client)
    }

    /// Connects with implicit TLS, trusting only `ca_file`, for the name `localhost`.
    pub fn connect_tls(addr: SocketAddr, ca_file: &Path) -> Self {
        Self::try_connect_tls(addr, ca::trusting(ca_file), "localhost").unwrap_or_else(|e| panic!("TLS to {addr}: {e}"))
    }

    pub fn try_connect_tls(addr: SocketAddr, config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let mut client = Self::over(Stream::Tls(Box::new(handshake(dial(addr)?, config, name)?)));
        client.greet()?;
        Ok(client)
    }

    fn over(stream: Stream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            at: 0,
            next_tag: 0,
            spoken: VecDeque::new(),
            greeting: String::new(),
            received: 0,
            quick_ack: false,
            chunk: vec![0; 64 * 1024],
        }
    }

    fn greet(&mut self) -> io::Result<()> {
        self.greeting = String::from_utf8_lossy(&self.try_line()?).into_owned();
        Ok(())
    }

    /// STARTTLS and the handshake; what came before it is thrown away, as a client must.
    pub fn starttls(&mut self, ca_file: &Path) {
        assert!(self.cmd("STARTTLS").is_ok(), "{}", self.transcript());
        assert_eq!(self.at, self.input.len(), "bytes in clear after the answer to STARTTLS");
        let Stream::Plain(tcp) = std::mem::replace(&mut self.stream, Stream::None) else {
            panic!("STARTTLS inside TLS")
        };
        let tls = handshake(tcp, ca::trusting(ca_file), "localhost").expect("handshake after STARTTLS");
        self.stream = Stream::Tls(Box::new(tls));
    }

    /// LOGIN, which must succeed.
    pub fn login(mut self, user: &str, password: &str) -> Self {
        self.cmd_ok(&format!("LOGIN {} {}", quoted(user), quoted(password)));
        self
    }

    /// How long a read may take.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.tcp().set_read_timeout(Some(timeout)).unwrap();
    }

    /// Acknowledge every segment at once: measures the server and not the kernel's 40 ms.
    pub fn quick_ack(mut self) -> Self {
        self.quick_ack = true;
        self
    }

    pub fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref(),
            Stream::None => panic!("no stream"),
        }
    }

    // --- by transcript ---

    /// Sends one line; CRLF is added.
    pub fn c(&mut self, line: &str) -> &mut Self {
        self.try_send_line(line).unwrap_or_else(|e| self.fail(&format!("sending {line:?}: {e}")));
        self
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.note("C", bytes);
        self.try_send(bytes).unwrap_or_else(|e| self.fail(&format!("sending: {e}")));
        self
    }

    /// The next line must look like `pattern`, in which `<*>` stands for anything.
    pub fn s(&mut self, pattern: &str) -> &mut Self {
        let line = self.line();
        let text = String::from_utf8_lossy(&line);
        if !like(&text, pattern) {
            self.fail(&format!("expected {pattern:?}\n     got {text:?}"));
        }
        self
    }

    /// Untagged lines up to the tagged one, which must be OK; the lines must be these in any order.
    pub fn s_any_order(&mut self, tag: &str, patterns: &[&str]) -> &mut Self {
        let mut left: Vec<_> = patterns.to_vec();
        loop {
            let text = String::from_utf8_lossy(&self.line()).into_owned();
            if text.starts_with(&format!("{tag} OK")) {
                break;
            }
            match left.iter().position(|p| like(&text, p)) {
                Some(at) => {
                    left.remove(at);
                }
                None => self.fail(&format!("unexpected {text:?}, still waiting for {left:?}")),
            }
        }
        if !left.is_empty() {
            self.fail(&format!("never came: {left:?}"));
        }
        self
    }

    pub fn ok(&mut self, tag: &str) -> &mut Self {
        self.s(&format!("{tag} OK<*>"))
    }

    pub fn no(&mut self, tag: &str) -> &mut Self {
        self.s(&format!("{tag} NO<*>"))
    }

    pub fn bad(&mut self, tag: &str) -> &mut Self {
        self.s(&format!("{tag} BAD<*>"))
    }

    // --- by command ---

    /// Sends a command with a tag of its own and collects the answer.
    pub fn cmd(&mut self, command: &str) -> Answer {
        self.try_cmd(command).unwrap_or_else(|e| self.fail(&format!("{command:?}: {e}")))
    }

    /// The same, and the answer must be OK. A CREATE may also find the mailbox there: Dovecot 2.3 says so, once in some two thousand, of
    /// one it has just made itself, when another session (the daemon's) asks for its STATUS while it is being made.
    pub fn cmd_ok(&mut self, command: &str) -> Answer {
        let answer = self.cmd(command);
        let is_there = command.starts_with("CREATE ") && answer.text.starts_with("[ALREADYEXISTS]");
        if !answer.is_ok() && !is_there {
            self.fail(&format!("{command:?} was not OK but {:?} {}", answer.status, answer.text));
        }
        answer
    }

    pub fn try_cmd(&mut self, command: &str) -> io::Result<Answer> {
        let tag = self.start(command)?;
        self.finish(&tag)
    }

    /// Sends a command without waiting; the tag to give to [`Self::finish`].
    pub fn start(&mut self, command: &str) -> io::Result<String> {
        let tag = self.tag();
        self.try_send_line(&format!("{tag} {command}"))?;
        Ok(tag)
    }

    /// A tag not used before.
    pub fn tag(&mut self) -> String {
        self.next_tag += 1;
        format!("t{}", self.next_tag)
    }

    /// Collects until the tagged line of `tag`. A BYE on the way is an error unless LOGOUT asked for it.
    pub fn finish(&mut self, tag: &str) -> io::Result<Answer> {
        let mut untagged = Vec::new();
        loop {
            let line = self.try_line()?;
            if line.starts_with(b"* ") {
                untagged.push(line);
                continue;
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            if text.starts_with('+') {
                return Err(io::Error::other(format!("a continuation nobody asked for: {text}")));
            }
            let mut words = text.splitn(3, ' ');
            if words.next() != Some(tag) {
                return Err(io::Error::other(format!("not the answer to {tag}: {text}")));
            }
            let status = match words.next() {
                Some("OK") => Status::Ok,
                Some("NO") => Status::No,
                Some("BAD") => Status::Bad,
                _ => return Err(io::Error::other(format!("no status: {text}"))),
            };
            return Ok(Answer { untagged, status, text: words.next().unwrap_or("").to_owned() });
        }
    }

    /// APPEND by a synchronising literal. The UID from APPENDUID, where it is told.
    pub fn append(&mut self, mailbox: &str, flags: &str, message: &[u8]) -> Option<u32> {
        let tag = self.tag();
        self.c(&format!("{tag} APPEND {} ({flags}) {{{}}}", quoted(mailbox), message.len()));
        self.until_continue();
        self.raw(message).raw(b"\r\n");
        let answer = self.finish(&tag).unwrap_or_else(|e| self.fail(&format!("APPEND: {e}")));
        if !answer.is_ok() {
            self.fail(&format!("APPEND was not OK: {}", answer.text));
        }
        answer.code("APPENDUID")?.split_whitespace().nth(1)?.parse().ok()
    }

    /// Reads untagged lines up to the continuation.
    pub fn until_continue(&mut self) -> Vec<Vec<u8>> {
        let mut before = Vec::new();
        loop {
            let line = self.line();
            if line.starts_with(b"+") {
                return before;
            }
            if !line.starts_with(b"* ") {
                self.fail("a continuation was expected");
            }
            before.push(line);
        }
    }

    /// IDLE, up to the continuation; the tag for [`Self::done`].
    pub fn idle(&mut self) -> String {
        let tag = self.tag();
        self.c(&format!("{tag} IDLE"));
        self.until_continue();
        tag
    }

    /// DONE, and everything said up to the end of IDLE.
    pub fn done(&mut self, tag: &str) -> Answer {
        self.c("DONE");
        self.finish(tag).unwrap_or_else(|e| self.fail(&format!("after DONE: {e}")))
    }

    /// Reads untagged lines until one looks like `pattern`; all of them, that one last.
    pub fn until(&mut self, pattern: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let line = String::from_utf8_lossy(&self.line()).into_owned();
            let found = like(&line, pattern);
            seen.push(line);
            if found {
                return seen;
            }
        }
    }

    /// One response line without CRLF, its literals inside.
    pub fn line(&mut self) -> Vec<u8> {
        self.try_line().unwrap_or_else(|e| self.fail(&format!("waiting for a line: {e}")))
    }

    /// The next line if one comes within `patience`, `None` if none does.
    pub fn line_within(&mut self, patience: Duration) -> Option<Vec<u8>> {
        if self.at == self.input.len() {
            self.set_timeout(patience);
            let got = self.fill();
            self.set_timeout(PATIENCE);
            match got {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return None,
                Err(e) => self.fail(&format!("waiting for a line: {e}")),
            }
        }
        Some(self.line())
    }

    pub fn try_line(&mut self) -> io::Result<Vec<u8>> {
        let start = self.at;
        let mut from = start;
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.input[from..]).map(|n| from + n) else {
                // The front is cut off only between lines, so that what was found stays where it is.
                from = self.input.len();
                self.fill()?;
                continue;
            };
            let line_end = end + 1;
            if end == 0 || self.input[end - 1] != b'\r' {
                return Err(io::Error::other("a line that ends in a bare LF"));
            }
            if let Some(size) = literal_size(&self.input[start..end - 1]) {
                while self.input.len() < line_end + size {
                    self.fill()?;
                }
                from = line_end + size;
                continue;
            }
            let line = self.input[start..end - 1].to_vec();
            self.at = line_end;
            if self.at == self.input.len() {
                self.input.clear();
                self.at = 0;
            } else if self.at > 1 << 20 {
                self.input.drain(..self.at);
                self.at = 0;
            }
            self.note("S", &line);
            return Ok(line);
        }
    }

    /// Reads and drops `count` bytes, for measuring.
    pub fn skip(&mut self, count: u64) -> io::Result<()> {
        let mut left = count;
        loop {
            let here = (self.input.len() - self.at) as u64;
            let take = here.min(left);
            self.at += take as usize;
            left -= take;
            if left == 0 {
                return Ok(());
            }
            self.input.clear();
            self.at = 0;
            self.fill()?;
        }
    }

    /// Reads until the tagged answer without looking at what comes before; how many bytes, and when the first came.
    /// The last line only is looked at, so the tag must not begin a line of a message.
    pub fn drain_answer(&mut self, tag: &str) -> io::Result<(u64, Instant)> {
        let mut total = 0;
        let mut first = None;
        let mark = format!("{tag} ");
        loop {
            let have = &self.input[self.at..];
            if !have.is_empty() {
                first.get_or_insert_with(Instant::now);
            }
            if have.ends_with(b"\r\n") {
                let last = have[..have.len() - 2].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
                if have[last..].starts_with(mark.as_bytes()) {
                    total += have.len() as u64;
                    let status = have[last + mark.len()..].to_vec();
                    self.input.clear();
                    self.at = 0;
                    if !status.starts_with(b"OK") {
                        return Err(io::Error::other(String::from_utf8_lossy(&status).into_owned()));
                    }
                    return Ok((total, first.unwrap_or_else(Instant::now)));
                }
            }
            // Keep the tail, in which the beginning of the last line may stand.
            let keep = have.len().min(512);
            total += (have.len() - keep) as u64;
            let from = self.input.len() - keep;
            self.input.drain(..from);
            self.at = 0;
            self.fill()?;
        }
    }

    /// True when the server has closed: nothing more comes and a read ends.
    pub fn is_closed(&mut self) -> bool {
        self.at == self.input.len()
            && matches!(self.fill(), Err(e) if !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    fn fill(&mut self) -> io::Result<()> {
        // Kept from read to read: clearing 64 KiB each time would be measured along.
        let mut chunk = std::mem::take(&mut self.chunk);
        if self.quick_ack {
            // The kernel falls back to delayed acknowledgements by itself, so it is told each time.
            socket2::SockRef::from(self.tcp()).set_tcp_quickack(true)?;
        }
        let read = match &mut self.stream {
            Stream::Plain(tcp) => tcp.read(&mut chunk),
            Stream::Tls(tls) => tls.read(&mut chunk),
            Stream::None => panic!("no stream"),
        };
        if let Ok(n) = read {
            self.input.extend_from_slice(&chunk[..n]);
        }
        self.chunk = chunk;
        let n = read?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received += n as u64;
        Ok(())
    }

    fn try_send_line(&mut self, line: &str) -> io::Result<()> {
        self.note("C", line.as_bytes());
        self.try_send(format!("{line}\r\n").as_bytes())
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
            Stream::None => panic!("no stream"),
        }
    }

    fn note(&mut self, who: &str, bytes: &[u8]) {
        if self.spoken.len() == KEPT_LINES {
            self.spoken.pop_front();
        }
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let more = if bytes.len() > 200 { format!("… ({} bytes)", bytes.len()) } else { String::new() };
        self.spoken.push_back(format!("{who}: {shown}{more}"));
    }

    /// The last part of the conversation.
    pub fn transcript(&self) -> String {
        self.spoken.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn fail(&self, why: &str) -> ! {
        panic!("{why}\n--- conversation ---\n{}", self.transcript())
    }
}

/// A quoted string of the protocol.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Whether `text` looks like `pattern`, in which `<*>` stands for anything, nothing included.
pub fn like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split("<*>");
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn literal_size(line: &[u8]) -> Option<usize> {
    let open = line.iter().rposition(|b| *b == b'{')?;
    let digits = line[open + 1..].strip_suffix(b"}")?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn dial(addr: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect_timeout(&addr, PATIENCE)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    Ok(tcp)
}

pub(super) fn handshake(
    mut tcp: TcpStream,
    config: Arc<ClientConfig>,
    name: &str,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(tls, tcp))
}

#[test]
fn patterns() {
    let table = [
        ("* OK hello", "* OK<*>", true),
        ("* OK hello", "* OK hello", true),
        ("* OK hello", "* OK", false),
        ("* 3 FETCH (UID 9 FLAGS ())", "* 3 FETCH (<*>UID 9<*>)", true),
        ("* 3 FETCH (UID 9 FLAGS ())", "* 3 FETCH (<*>UID 8<*>)", false),
        ("ab", "a<*>ab", false),
    ];
    for (text, pattern, expected) in table {
        assert_eq!(like(text, pattern), expected, "{text} ~ {pattern}");
    }
}
