//! A small IMAP client for `demo --compare`: one command at a time, literals read by their length, every wait with an end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest an answer may keep us waiting: cold reads through the daemon take seconds at most.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longest line, and longest literal: twice the largest sample message.
const MAX_LINE: u64 = 64 * 1024;
const MAX_LITERAL: usize = 16 << 20;

/// One answer, its literals in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The line with each literal's octets left out: `* 1 FETCH (BODY[] {5})`.
    pub(super) line: String,
    pub(super) literals: Vec<Vec<u8>>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) ok: bool,
    /// What followed the tag.
    pub(super) text: String,
    pub(super) untagged: Vec<Answer>,
}

/// A client connected to a server in the clear.
#[derive(Debug)]
pub(super) struct Client {
    stream: BufReader<TcpStream>,
    tags: u32,
}

impl Client {
    /// Connects and reads the greeting.
    pub(super) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = timeout(TIMEOUT, TcpStream::connect(address)).await.map_err(|_| too_slow())??;
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufReader::new(stream), tags: 0 };
        let greeting = client.answer().await?;
        if greeting.line.starts_with("* OK") { Ok(client) } else { Err(io::Error::other(greeting.line)) }
    }

    pub(super) async fn login(&mut self, user: &str, password: &str) -> io::Result<Done> {
        self.command(&format!("LOGIN {} {}", quoted(user), quoted(password))).await
    }

    /// Sends a command of one line and reads up to its tagged answer.
    pub(super) async fn command(&mut self, command: &str) -> io::Result<Done> {
        let tag = self.send(command).await?;
        self.until(&tag).await
    }

    /// Sends a command; its tag.
    pub(super) async fn send(&mut self, command: &str) -> io::Result<String> {
        self.tags += 1;
        let tag = format!("c{}", self.tags);
        self.stream.get_mut().write_all(format!("{tag} {command}\r\n").as_bytes()).await?;
        Ok(tag)
    }

    /// Sends octets as they are.
    #[cfg(test)]
    pub(super) async fn raw(&mut self, octets: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(octets.as_bytes()).await
    }

    async fn until(&mut self, tag: &str) -> io::Result<Done> {
        let mut untagged = Vec::new();
        loop {
            let answer = self.answer().await?;
            match answer.line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                Some(text) => return Ok(Done { ok: text.starts_with("OK"), text: text.to_owned(), untagged }),
                None => untagged.push(answer),
            }
        }
    }

    /// The next answer, whole.
    pub(super) async fn answer(&mut self) -> io::Result<Answer> {
        timeout(TIMEOUT, self.read_answer()).await.map_err(|_| too_slow())?
    }

    async fn read_answer(&mut self) -> io::Result<Answer> {
        let mut answer = Answer::default();
        loop {
            let mut line = Vec::new();
            (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
            let Some(text) = line.strip_suffix(b"\r\n") else {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
            };
            answer.line.push_str(&String::from_utf8_lossy(text));
            let Some(len) = literal_len(text) else { return Ok(answer) };
            if len > MAX_LITERAL {
                return Err(io::Error::other("a literal is too long"));
            }
            let mut literal = vec![0; len];
            self.stream.read_exact(&mut literal).await?;
            answer.literals.push(literal);
        }
    }
}

/// The number of a literal announced at the end of a line.
fn literal_len(line: &[u8]) -> Option<usize> {
    let open = line.iter().rposition(|b| *b == b'{')?;
    let digits = line.get(open + 1..)?.strip_suffix(b"}")?;
    let digits = std::str::from_utf8(digits).ok().filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn literals_are_recognised_at_the_end_only() {
        for (line, want) in [
            (&b"* 1 FETCH (BODY[] {12}"[..], Some(12)),
            (b"* OK {12} words", None),
            (b"* OK {}", None),
            (b"* OK {+1}", None),
            (b"{99999999999999999999999}", None),
            (b"", None),
        ] {
            assert_eq!(literal_len(line), want, "{}", String::from_utf8_lossy(line));
        }
        assert_eq!(quoted(r#"a"\b"#), r#""a\"\\b""#);
    }

    #[tokio::test]
    async fn a_literal_may_look_like_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"* OK hello\r\n").await.unwrap();
            let mut line = vec![0; 9];
            stream.read_exact(&mut line).await.unwrap();
            assert_eq!(line, b"c1 NOOP\r\n");
            stream.write_all(b"* 1 FETCH (A {7}\r\nc1 OK\r\n B {0}\r\n)\r\nc1 NO [ALERT] no\r\n").await.unwrap();
        });
        let mut client = Client::connect(address).await.unwrap();
        let done = client.command("NOOP").await.unwrap();
        let fetch =
            Answer { line: "* 1 FETCH (A {7} B {0})".into(), literals: vec![b"c1 OK\r\n".to_vec(), Vec::new()] };
        assert_eq!(done, Done { ok: false, text: "NO [ALERT] no".into(), untagged: vec![fetch] });
        server.await.unwrap();
        assert_eq!(client.answer().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
