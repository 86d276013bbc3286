//! A POP3 client that follows the protocol byte by byte.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// One session.
pub struct Pop {
    stream: BufReader<TcpStream>,
    quick_ack: bool,
}

impl Pop {
    /// Connected; the greeting is read.
    pub fn connect(addr: SocketAddr) -> Self {
        let tcp = TcpStream::connect(addr).expect("connect");
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut pop = Self { stream: BufReader::with_capacity(64 << 10, tcp), quick_ack: false };
        let greeting = pop.line();
        assert!(greeting.starts_with("+OK"), "{greeting}");
        pop
    }

    /// The kernel acknowledges at once: what is measured is the server, not 40 ms of waiting.
    pub fn quick_ack(mut self) -> Self {
        self.quick_ack = true;
        self
    }

    pub fn login(mut self, user: &str, password: &str) -> Self {
        self.ok(&format!("USER {user}"));
        self.ok(&format!("PASS {password}"));
        self
    }

    pub fn tcp(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    pub fn set_timeout(&mut self, timeout: Duration) {
        self.tcp().set_read_timeout(Some(timeout)).unwrap();
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tcp().write_all(bytes)
    }

    /// The next line without its end.
    pub fn try_line(&mut self) -> io::Result<String> {
        self.acknowledge();
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the connection ended after {line:?}"))),
        }
    }

    fn line(&mut self) -> String {
        self.try_line().expect("a line")
    }

    fn acknowledge(&self) {
        if self.quick_ack {
            let _ = socket2::SockRef::from(self.tcp()).set_tcp_quickack(true);
        }
    }

    /// Sends a command and gives the first line of the answer.
    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes()).expect("send");
        self.line()
    }

    pub fn ok(&mut self, command: &str) -> String {
        let answer = self.ask(command);
        assert!(answer.starts_with("+OK"), "{command}: {answer}");
        answer
    }

    pub fn err(&mut self, command: &str) -> String {
        let answer = self.ask(command);
        assert!(answer.starts_with("-ERR"), "{command}: {answer}");
        answer
    }

    /// A multi-line answer as it is sent, dots taken away, the last one too.
    pub fn multi(&mut self, command: &str) -> Vec<u8> {
        self.ok(command);
        self.rest()
    }

    /// What follows a `+OK` that was read.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            self.acknowledge();
            let begin = all.len();
            self.stream.read_until(b'\n', &mut all).expect("a line");
            assert!(all.ends_with(b"\r\n"), "the connection ended in the middle of an answer");
            if &all[begin..] == b".\r\n" {
                all.truncate(begin);
                return all;
            }
            if all[begin] == b'.' {
                all.remove(begin);
            }
        }
    }

    /// Reads to the dot and keeps nothing; octets of the answer.
    pub fn drain(&mut self) -> u64 {
        let (mut octets, mut line_begins) = (0, true);
        loop {
            self.acknowledge();
            let buffer = self.stream.fill_buf().expect("an answer");
            assert!(!buffer.is_empty(), "the connection ended in the middle of an answer");
            if line_begins && buffer.starts_with(b".\r\n") {
                self.stream.consume(3);
                return octets;
            }
            let end = buffer.iter().position(|b| *b == b'\n').map_or(buffer.len(), |at| at + 1);
            line_begins = buffer[end - 1] == b'\n';
            octets += end as u64;
            self.stream.consume(end);
        }
    }

    /// The lines of LIST or UIDL: number and what follows it.
    pub fn list(&mut self, command: &str) -> Vec<(u32, String)> {
        let text = String::from_utf8(self.multi(command)).expect("ASCII");
        let lines = text.lines().map(|line| line.split_once(' ').expect("a number and a value"));
        lines.map(|(number, value)| (number.parse().expect("a number"), value.to_owned())).collect()
    }

    /// Number of messages, and their octets.
    pub fn stat(&mut self) -> (u32, u64) {
        let answer = self.ok("STAT");
        let mut words = answer.split(' ').skip(1);
        let mut next = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
        (next() as u32, next())
    }

    /// Whether the other end has closed; what it says before that is passed over.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }
}
