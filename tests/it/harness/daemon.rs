//! The daemon under test: the built binary with a configuration of the test's own.
//!
//! Ready means what the contract says: it has printed its listeners. Every configured address must have appeared on
//! standard output, whatever the words around it, for example `imap 127.0.0.1:12345`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::client::Client;
use super::process::Server;
use super::search::Searched as _;
use super::search::Wanted;
use super::{ADDRESS, LOCAL_PASSWORD, PATIENCE, UPSTREAM_PASSWORD, UPSTREAM_USER, free_port, scratch};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mailweir");

/// How one account reaches its upstream.
#[derive(Clone, Debug)]
pub struct Account {
    pub address: String,
    pub local_password: String,
    pub upstream: SocketAddr,
    /// `none`, `starttls` or `implicit`.
    pub tls: &'static str,
    pub ca_file: Option<PathBuf>,
    /// Whether the certificate is to be verified.
    pub verify: bool,
    pub username: String,
    pub password: String,
    pub connections: u32,
    /// More lines of `[[account]]` itself.
    pub more: String,
    /// More lines of `[account.limits]`.
    pub limits_more: String,
    /// The lines of `[account.pop3]`.
    pub pop3: String,
    /// The lines of `[account.smtp]`; none, no server for sending.
    pub smtp: String,
}

impl Account {
    /// The usual one: `ann`, in clear, three connections.
    pub fn at(upstream: SocketAddr) -> Self {
        Self {
            address: ADDRESS.to_owned(),
            local_password: LOCAL_PASSWORD.to_owned(),
            upstream,
            tls: "none",
            ca_file: None,
            verify: true,
            username: UPSTREAM_USER.to_owned(),
            password: UPSTREAM_PASSWORD.to_owned(),
            connections: 3,
            more: String::new(),
            limits_more: String::new(),
            pop3: String::new(),
            smtp: String::new(),
        }
    }

    /// The same for another user of the upstream, with the address `user@example.org`.
    pub fn of(user: &str, upstream: SocketAddr) -> Self {
        Self { address: format!("{user}@example.org"), username: user.to_owned(), ..Self::at(upstream) }
    }
}

/// What a test asks of the daemon.
#[derive(Clone, Debug)]
pub struct Setup {
    pub accounts: Vec<Account>,
    /// `cache.prefetch`.
    pub prefetch: &'static str,
    /// `cache.max_size`.
    pub cache_size: &'static str,
    /// `plaintext_login`, as TOML.
    pub plaintext_login: &'static str,
    /// More lines, put at the end of `[listen]`.
    pub listen_more: String,
    /// More tables of the configuration: `[http]`, `[log]`.
    pub more: String,
    /// `$MAILWEIR_LOG`, and more arguments of `run`.
    pub log: (&'static str, &'static [&'static str]),
    /// What is run.
    pub program: PathBuf,
}

impl Setup {
    pub fn new(account: Account) -> Self {
        Self {
            accounts: vec![account],
            prefetch: "none",
            cache_size: "2GB",
            plaintext_login: "\"loopback\"",
            listen_more: String::new(),
            more: String::new(),
            log: ("", &[]),
            program: PROGRAM.into(),
        }
    }
}

/// A running daemon, or one that has been stopped and can be started again on the same data.
pub struct Daemon {
    server: Option<Server>,
    home: tempfile::TempDir,
    setup: Setup,
    pub imap: SocketAddr,
    pub imaps: SocketAddr,
    pub pop3: SocketAddr,
    pub pop3s: SocketAddr,
    pub http: SocketAddr,
}

impl Daemon {
    /// Everything but the process: what [`super::inside::Inside`] runs.
    pub(super) fn prepare(setup: Setup) -> Self {
        let home = scratch("daemon");
        let free = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (imap, imaps, pop3, pop3s, http) = (free(), free(), free(), free(), free());
        let daemon = Self { server: None, home, setup, imap, imaps, pop3, pop3s, http };
        daemon.write_config();
        daemon
    }

    /// Starts it on an empty data directory.
    pub fn start(setup: Setup) -> Self {
        // A port can be taken between the look and the start: try again, not for ever.
        for _ in 0..5 {
            let mut daemon = Self::prepare(setup.clone());
            match daemon.try_start() {
                Ok(()) => return daemon,
                Err(printed) if printed.to_lowercase().contains("in use") => {}
                Err(printed) => panic!("the daemon did not get ready:\n{printed}"),
            }
        }
        panic!("no free ports for the daemon");
    }

    /// Starts it again, on the ports and data it had.
    pub fn restart(&mut self) {
        assert!(self.server.is_none(), "stop it first");
        if let Err(printed) = self.try_start() {
            panic!("the daemon did not start again:\n{printed}");
        }
    }

    fn try_start(&mut self) -> Result<(), String> {
        let config = self.config_file();
        let (level, more) = self.setup.log;
        let args = [&["run", "--config", config.to_str().unwrap()], more].concat();
        let env = [("RUST_LOG", "info"), ("MAILWEIR_LOG", level)];
        let server = Server::start(&self.setup.program, &args, &env, self.home.path(), &[]);
        let ports = [self.imap, self.imaps, self.pop3, self.pop3s, self.http];
        let ports: Vec<_> = ports.iter().map(|a| format!(":{}", a.port())).collect();
        let ready = server.wait_output(PATIENCE, |out| ports.iter().all(|p| out.iter().any(|l| names_port(l, p))));
        if !ready {
            return Err(server.printed());
        }
        self.server = Some(server);
        Ok(())
    }

    fn write_config(&self) {
        let (imap, imaps, pop3, pop3s, http) = (self.imap, self.imaps, self.pop3, self.pop3s, self.http);
        let Setup { accounts, prefetch, cache_size, plaintext_login, listen_more, more, log: _, program: _ } =
            &self.setup;
        let mut text = format!(
            "data_dir = \"data\"\n\n[listen]\nimap = [\"{imap}\"]\nimaps = [\"{imaps}\"]\npop3 = [\"{pop3}\"]\npop3s = [\"{pop3s}\"]\nhttp = [\"{http}\"]\n\
             plaintext_login = {plaintext_login}\n{listen_more}\n[tls]\ndir = \"certs\"\nnames = [\"localhost\", \
             \"127.0.0.1\"]\n\n[cache]\nmax_size = \"{cache_size}\"\nprefetch = \"{prefetch}\"\n{more}\n"
        );
        for a in accounts {
            let (host, port) = ("localhost", a.upstream.port());
            write!(
                text,
                "\n[[account]]\naddress = \"{}\"\npassword = {{ plain = \"{}\" }}\n{}\n[account.imap]\nhost = \
                 \"{host}\"\nport = {port}\ntls = \"{}\"\nusername = \"{}\"\npassword = {{ plain = \"{}\" }}\n",
                a.address, a.local_password, a.more, a.tls, a.username, a.password
            )
            .unwrap();
            if let Some(ca) = &a.ca_file {
                writeln!(text, "ca_file = \"{}\"", ca.display()).unwrap();
            }
            if !a.verify {
                writeln!(text, "verify = false").unwrap();
            }
            writeln!(text, "[account.limits]\nconnections = {}\n{}", a.connections, a.limits_more).unwrap();
            writeln!(text, "[account.pop3]\n{}", a.pop3).unwrap();
            if !a.smtp.is_empty() {
                writeln!(text, "[account.smtp]\n{}", a.smtp).unwrap();
            }
        }
        std::fs::write(self.config_file(), text).unwrap();
    }

    /// Changes the configuration file of a daemon that may run; it is told by [`Self::reload`], or at its next start.
    pub fn change(&mut self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.setup);
        self.write_config();
    }

    /// SIGHUP, and back when the daemon has said `said` once more.
    pub fn reload(&self, said: &str) {
        let count = || self.server().errors().lines().filter(|line| line.contains(said)).count();
        let before = count();
        self.server().signal("HUP");
        super::wait_for(said, || count() > before);
    }

    pub fn config_file(&self) -> PathBuf {
        self.home.path().join("mailweir.toml")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The exported CA clients verify against.
    pub fn ca_file(&self) -> PathBuf {
        self.home.path().join("certs/ca.pem")
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the daemon runs")
    }

    pub fn pid(&self) -> u32 {
        self.server().pid()
    }

    /// SIGTERM; its exit status, which must come within the grace time.
    pub fn stop(&mut self) -> i32 {
        let mut server = self.server.take().expect("the daemon runs");
        server.stop(PATIENCE).expect("the daemon ends within the grace time when asked")
    }

    /// Kill -9.
    pub fn kill(&mut self) {
        self.server.take().expect("the daemon runs").kill();
    }

    /// A session logged in, plain.
    pub fn client(&self) -> Client {
        Client::connect(self.imap).login(ADDRESS, LOCAL_PASSWORD)
    }

    /// A session of the account of that address, plain.
    pub fn client_of(&self, address: &str) -> Client {
        Client::connect(self.imap).login(address, LOCAL_PASSWORD)
    }

    /// Deletes the disposable class: everything but the durable state, by the daemon's own command.
    pub fn drop_cache(&self) {
        let out = Command::new(PROGRAM)
            .args(["cache", "drop", "--config"])
            .arg(self.config_file())
            .output_searched()
            .expect("mailweir cache drop");
        assert!(out.status.success(), "cache drop: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Deletes the whole data directory, as a person would.
    pub fn delete_data(&self) {
        assert!(self.server.is_none(), "stop it first");
        std::fs::remove_dir_all(self.data_dir()).expect("data directory");
    }

    /// GET of one path of the HTTP listener: status and body.
    pub fn http_get(&self, path: &str) -> (u16, String) {
        let mut tcp = TcpStream::connect(self.http).expect("HTTP listener");
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(tcp, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        tcp.read_to_string(&mut text).expect("HTTP answer");
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("HTTP status");
        (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    /// The same of a daemon that may not listen yet.
    pub fn http_get_if_up(&self, path: &str) -> Option<(u16, String)> {
        super::accepts(self.http).then(|| self.http_get(path))
    }

    /// All samples of `/metrics`, by name with labels.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let (status, body) = self.http_get("/metrics");
        assert_eq!(status, 200, "/metrics: {body}");
        let lines = body.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
        lines.filter_map(|l| l.rsplit_once(' ')).filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?))).collect()
    }

    /// The sum over all samples of one metric whose labels contain every one of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let all = self.metrics();
        let of_name = all.iter().filter(|(k, _)| k.split('{').next() == Some(name));
        of_name.filter(|(k, _)| labels.iter().all(|l| k.contains(l))).map(|(_, v)| v).sum()
    }

    /// Bytes of upstream bodies that were fetched because nothing local had them.
    pub fn bodies_filled(&self) -> f64 {
        self.metric("mailweir_body_reads_total", &["outcome=\"filled\""])
    }

    pub fn resources(&self) -> Resources {
        Resources::of(&[self.pid()])
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Whatever a test is about: no password of its own is in what the daemon keeps (Law 12).
        if !std::thread::panicking() && self.data_dir().exists() {
            let found = Wanted::of_all_tests().files_below(&self.data_dir());
            assert!(found.is_empty(), "a password stands in {found:?}");
        }
    }
}

/// Whether the line names the port and not a longer number that begins with it.
fn names_port(line: &str, port: &str) -> bool {
    line.match_indices(port).any(|(at, _)| !line[at + port.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

/// What a set of processes uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resources {
    pub rss_kib: u64,
    pub pss_kib: u64,
    pub cpu: Duration,
}

impl Resources {
    /// Adds up over `pids`; a process that has gone counts nothing.
    pub fn of(pids: &[u32]) -> Self {
        let mut sum = Self::default();
        for pid in pids {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            sum.rss_kib += kib(&read("status"), "VmRSS:");
            sum.pss_kib += kib(&read("smaps_rollup"), "Pss:");
            let stat = read("stat");
            let ticks = stat
                .rsplit_once(") ")
                .map(|(_, rest)| rest.split(' ').skip(11).take(2))
                .map(|f| f.filter_map(|n| n.parse::<u64>().ok()).sum::<u64>());
            // USER_HZ is 100 on every Linux there is.
            sum.cpu += Duration::from_millis(ticks.unwrap_or(0) * 10);
        }
        sum
    }
}

fn kib(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(key));
    line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}
