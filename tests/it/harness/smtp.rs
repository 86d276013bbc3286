//! A mail program's side of SMTP, line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use super::PATIENCE;
use super::ca::trusting;

trait Both: Read + Write {}

impl<T: Read + Write> Both for T {}

/// One connection.
pub struct Smtp {
    stream: BufReader<Box<dyn Both>>,
}

impl Smtp {
    /// Reads the greeting.
    pub fn greeted(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self { stream: BufReader::new(Box::new(tcp)) };
        let greeting = client.reply();
        assert!(greeting.starts_with("220 "), "{greeting}");
        client
    }

    /// TLS on a connection that is ready for it, the certificate verified.
    pub fn tls(tcp: TcpStream, ca_file: &Path) -> Self {
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(&trusting(ca_file)), name).unwrap();
        Self { stream: BufReader::new(Box::new(StreamOwned::new(connection, tcp))) }
    }

    /// Octets as they are.
    pub fn raw(&mut self, octets: &[u8]) {
        self.try_raw(octets).expect("the connection takes what is sent");
    }

    pub fn try_raw(&mut self, octets: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(octets)?;
        self.stream.get_mut().flush()
    }

    /// The next reply, its lines joined by `\n`; empty at the end of the connection.
    pub fn reply(&mut self) -> String {
        self.try_reply().unwrap_or_default()
    }

    pub fn try_reply(&mut self) -> std::io::Result<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Ok(lines.join("\n"));
            }
            assert!(line.ends_with("\r\n") && line.len() <= 512, "a line of SMTP: {line:?}");
            let more = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line.trim_end().to_owned());
            if !more {
                return Ok(lines.join("\n"));
            }
        }
    }

    /// Sends a line and reads the reply.
    pub fn ask(&mut self, line: &str) -> String {
        self.raw(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// The same, and the reply begins so.
    pub fn says(&mut self, line: &str, begins: &str) {
        let reply = self.ask(line);
        assert!(reply.starts_with(begins), "{line}: {reply:?}, not {begins}");
    }

    /// EHLO; the keywords.
    pub fn ehlo(&mut self) -> Vec<String> {
        let reply = self.ask("EHLO pc.local");
        assert!(reply.starts_with("250-"), "{reply}");
        reply.lines().skip(1).map(|line| line[4..].to_owned()).collect()
    }

    /// A whole transaction; every step must be taken.
    pub fn send(&mut self, from: &str, to: &[&str], message: &str) {
        self.says(&format!("MAIL FROM:<{from}>"), "250");
        for to in to {
            self.says(&format!("RCPT TO:<{to}>"), "250");
        }
        self.says("DATA", "354");
        self.raw(dotted(message.as_bytes()).as_slice());
        let reply = self.reply();
        assert!(reply.starts_with("250"), "{reply}");
    }
}

/// A message as DATA sends it, its end included.
pub fn dotted(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b".\r\n");
    out
}
