//! A POP3 client that follows the protocol byte by byte.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use super::{PATIENCE, ca, client};

/// One session.
pub struct Pop {
    stream: BufReader<Stream>,
    quick_ack: bool,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(space),
            Self::Tls(tls) => tls.read(space),
        }
    }
}

impl Pop {
    /// Connected; the greeting is read.
    pub fn connect(addr: SocketAddr) -> Self {
        Self::over(Stream::Plain(dial(addr)))
    }

    /// The same where the port speaks TLS.
    pub fn connect_tls(addr: SocketAddr, ca_file: &Path) -> Self {
        let tls = client::handshake(dial(addr), ca::trusting(ca_file), "localhost").expect("handshake");
        Self::over(Stream::Tls(Box::new(tls)))
    }

    fn over(stream: Stream) -> Self {
        let mut pop = Self { stream: BufReader::with_capacity(64 << 10, stream), quick_ack: false };
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
        match self.stream.get_ref() {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref(),
        }
    }

    pub fn set_timeout(&mut self, timeout: Duration) {
        self.tcp().set_read_timeout(Some(timeout)).unwrap();
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.stream.get_mut() {
            Stream::Plain(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
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
        const END: &[u8] = b".\r\n";
        // How much of the last line was seen, while this line may be it; it may come in pieces.
        let (mut octets, mut end) = (0, Some(0));
        loop {
            self.acknowledge();
            let buffer = self.stream.fill_buf().expect("an answer");
            assert!(!buffer.is_empty(), "the connection ended in the middle of an answer");
            let mut at = 0;
            while let Some(byte) = buffer.get(at) {
                match end {
                    Some(seen) if END[seen] == *byte => {
                        at += 1;
                        if seen + 1 == END.len() {
                            self.stream.consume(at);
                            return octets + (at as u64) - END.len() as u64;
                        }
                        end = Some(seen + 1);
                    }
                    _ => {
                        let line = buffer[at..].iter().position(|b| *b == b'\n');
                        at = line.map_or(buffer.len(), |line| at + line + 1);
                        end = line.map(|_| 0);
                    }
                }
            }
            octets += at as u64;
            self.stream.consume(at);
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

fn dial(addr: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(addr).expect("connect");
    tcp.set_nodelay(true).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.set_write_timeout(Some(PATIENCE)).unwrap();
    tcp
}

#[test]
fn an_answer_is_drained_to_its_end_however_it_comes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = b".. stuffed\r\n.\n\r\n.\r.\r\nend\r\n.\r\n+OK next\r\n";
    let server = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.write_all(b"+OK\r\n").unwrap();
        answer.iter().for_each(|byte| tcp.write_all(&[*byte]).unwrap());
    });
    let mut pop = Pop::connect(addr);
    // Read a byte at a time, whatever the kernel puts together.
    pop.stream = BufReader::with_capacity(1, Stream::Plain(pop.tcp().try_clone().unwrap()));
    assert_eq!(pop.drain(), answer.len() as u64 - 3 - 10);
    assert_eq!(pop.try_line().unwrap(), "+OK next");
    server.join().unwrap();
}
