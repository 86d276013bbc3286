//! A private Exim, set up as a provider's server for sending: logins only over its own user, one address that is nobody's, every message
//! written down as it came.
//!
//! Two ports more stand for its own network: what comes in on [`Exim::inside`] needs no login (Dovecot's submission service relays there).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::ca::TestCa;
use super::process::Server;
use super::{UPSTREAM_PASSWORD, UPSTREAM_USER, accepts, free_port, give_to_nobody, server_scratch, wait_for};

/// A running Exim.
pub struct Exim {
    // Dropped first: the server ends before its directories go.
    server: Server,
    home: tempfile::TempDir,
    ca: TestCa,
    _certs: tempfile::TempDir,
    pub smtp: SocketAddr,
    pub smtps: SocketAddr,
    pub inside: SocketAddr,
}

/// When a file of the maildir was written, in seconds and microseconds: its name begins with them, and is in no order within a second, for
/// there are no zeros before the microseconds.
fn delivered(file: &Path) -> (u64, u64) {
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    let mut numbers = name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
    (numbers.next().expect("seconds"), numbers.next().expect("microseconds"))
}

impl Exim {
    pub fn start() -> Self {
        let certs = server_scratch("certs");
        let ca = TestCa::make(certs.path());
        let home = server_scratch("exim");
        // A port can be taken between the look and the start: try again, not for ever.
        for _ in 0..5 {
            let ports = [free_port(), free_port(), free_port()];
            let config = home.path().join("exim.conf");
            std::fs::write(&config, configuration(home.path(), &ca, ports)).unwrap();
            for dir in ["spool", "log", "sent"] {
                let _ = std::fs::create_dir(home.path().join(dir));
                give_to_nobody(&home.path().join(dir));
            }
            let args = ["-C", config.to_str().unwrap(), "-bdf"];
            let dirs = [home.path(), certs.path()];
            let mut server = Server::start(Path::new("/usr/sbin/exim4"), &args, &[], home.path(), &dirs);
            let [smtp, smtps, inside] = ports.map(|p| SocketAddr::from(([127, 0, 0, 1], p)));
            let mut up = false;
            wait_for("Exim", || {
                up = accepts(smtp) && accepts(inside);
                up || server.ended().is_some()
            });
            if up {
                return Self { server, home, ca, _certs: certs, smtp, smtps, inside };
            }
        }
        panic!("Exim does not start (is exim4-daemon-light installed? tests/run does it)");
    }

    /// What its certificate is signed by.
    pub fn ca_file(&self) -> PathBuf {
        self.ca.ca_file.clone()
    }

    /// Every message it has taken and delivered, without the trace header of those before it.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        self.sent_whole().iter().map(|raw| without_trace(raw)).collect()
    }

    /// The same with them.
    pub fn sent_whole(&self) -> Vec<Vec<u8>> {
        let Ok(dir) = std::fs::read_dir(self.home.path().join("sent/new")) else { return Vec::new() };
        let mut files: Vec<_> = dir.map(|entry| entry.unwrap().path()).collect();
        files.sort_by_key(|file| delivered(file));
        files.iter().map(|file| std::fs::read(file).unwrap()).collect()
    }

    /// Waits until it has delivered `count` messages.
    pub fn wait_sent(&self, count: usize) -> Vec<Vec<u8>> {
        wait_for("the messages to be delivered", || self.sent().len() >= count);
        self.sent()
    }

    /// Messages it has taken and not delivered yet, and those it has: what it has said 250 to.
    pub fn taken(&self) -> usize {
        self.log().lines().filter(|line| line.contains(" <= ")).count()
    }

    /// How often it has delivered something to this address. (Under another configuration than its own it writes that to the terminal.)
    pub fn delivered(&self, address: &str) -> usize {
        let told = self.server.errors();
        told.lines().filter(|line| (line.contains("=> ") || line.contains("-> ")) && line.contains(address)).count()
    }

    /// Its main log: `<=` for each message taken.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log/mainlog")).unwrap_or_default()
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Exim's log ---\n{}", self.log());
            let panics = std::fs::read_to_string(self.home.path().join("log/paniclog")).unwrap_or_default();
            eprintln!("{panics}");
        }
    }
}

/// What stands behind the trace headers at the top: ours and those of servers in between.
fn without_trace(raw: &[u8]) -> Vec<u8> {
    let mut rest = raw;
    while rest.starts_with(b"Received:") {
        let mut end = 0;
        // To the end of the header and its continuations.
        loop {
            let Some(at) = rest[end..].windows(2).position(|two| two == b"\r\n") else { return rest.to_vec() };
            end += at + 2;
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        rest = &rest[end..];
    }
    rest.to_vec()
}

fn configuration(home: &Path, ca: &TestCa, [smtp, smtps, inside]: [u16; 3]) -> String {
    let home = home.display();
    let (cert, key) = (ca.cert_file.display(), ca.key_file.display());
    format!(
        r#"
primary_hostname = provider.test
exim_user = 65534
exim_group = 65534
spool_directory = {home}/spool
log_file_path = {home}/log/%slog
pid_file_path = {home}/spool/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {smtp} : {smtps} : {inside}
tls_on_connect_ports = {smtps}
tls_advertise_hosts = *
tls_certificate = {cert}
tls_privatekey = {key}
auth_advertise_hosts = ${{if eq{{$received_port}}{{{inside}}}{{}}{{*}}}}
smtputf8_advertise_hosts = *
chunking_advertise_hosts = *
dsn_advertise_hosts = *
accept_8bitmime = true
message_size_limit = 40M
recipients_max = 2000
smtp_accept_max_nonmail = 1000
smtp_accept_queue_per_connection = 0
rfc1413_hosts =
host_lookup =
received_header_text =
message_id_header_text =
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
never_users =
queue_run_max = 1
split_spool_directory = false
begin acl
rcpt:
  accept condition = ${{if eq{{$received_port}}{{{inside}}}}}
  deny message = log in first
       !authenticated = *
  deny message = no such user
       local_parts = nobody
  defer message = later please
       local_parts = later
  accept
begin routers
all:
  driver = accept
  transport = written
begin transports
written:
  driver = appendfile
  directory = {home}/sent
  maildir_format
  use_crlf
  user = 65534
  group = 65534
  batch_max = 2000
  delivery_date_add = false
  envelope_to_add = false
  return_path_add = false
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{UPSTREAM_USER}}}}}{{eq{{$auth3}}{{{UPSTREAM_PASSWORD}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{UPSTREAM_USER}}}}}{{eq{{$auth2}}{{{UPSTREAM_PASSWORD}}}}}}}}}
  server_set_id = $auth1
"#
    )
}
