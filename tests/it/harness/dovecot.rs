//! A private Dovecot: own directory, own ports, own users, own certificate; stopped when dropped.
//!
//! Runs as root like the packaged one, with the mail owned by user 65534. `bare()` is a second instance on the same
//! mail that says it is plain IMAP4rev1, for the bottom of the capability ladder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::ca::TestCa;
use super::client::Client;
use super::process::Server;
use super::{
    UPSTREAM_PASSWORD, UPSTREAM_USER, accepts, free_port, give_to_nobody, open_to_all, server_scratch, wait_for,
};

/// Users besides `ann` and `bob`: see [`user`].
const MORE_USERS: usize = 100;

/// The `n`-th user, for tests that need many accounts.
pub fn user(n: usize) -> String {
    assert!(n < MORE_USERS, "there are {MORE_USERS} users");
    format!("u{n}")
}

/// What differs from one private Dovecot to another.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `imap_capability`, replacing what it would say.
    pub capability: Option<&'static str>,
    /// `mail_max_userip_connections`; none means no cap that a test meets.
    pub max_connections: Option<u32>,
    /// The owner lacks the ACL right `w` (RFC 4314 §2.1), but in `Free` and below: PERMANENTFLAGS is `(\Deleted \Seen)`, and other flags
    /// are not kept.
    pub few_flags: bool,
    /// Special mailboxes have the names a provider gives them elsewhere: `Отправленные`, `[Gmail]/Papierkorb`, `Entwürfe`. And there is a
    /// quota, which names mailboxes too.
    pub localised: bool,
    /// Serves submission ([`Dovecot::submission`]) and hands what it takes to this server.
    pub relay: Option<SocketAddr>,
    /// Takes access tokens, and asks there about each (RFC 7662).
    pub introspection: Option<String>,
    /// What of the answer is the user's name; `sub` if not said.
    pub token_user: Option<&'static str>,
    /// Takes no tokens by XOAUTH2, only by OAUTHBEARER.
    pub bearer_only: bool,
    /// A mailbox named Junk is the one for unwanted mail.
    pub junk: bool,
    /// There is a quota: one message.
    pub one_message: bool,
    /// Offers COMPRESS=DEFLATE (RFC 4978).
    pub compress: bool,
}

/// A running Dovecot.
pub struct Dovecot {
    // Dropped first: the server ends before its directories go.
    server: Server,
    home: tempfile::TempDir,
    mail: Arc<tempfile::TempDir>,
    ca: Arc<(tempfile::TempDir, TestCa)>,
    pub imap: SocketAddr,
    pub imaps: SocketAddr,
    pub pop3: SocketAddr,
    pub pop3s: SocketAddr,
    pub submission: SocketAddr,
}

impl Dovecot {
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let mail = server_scratch("mail");
        give_to_nobody(mail.path());
        let certs = server_scratch("certs");
        let ca = TestCa::make(certs.path());
        Self::on(Arc::new(mail), Arc::new((certs, ca)), options)
    }

    /// A second instance on the same mail that says and is asked for IMAP4rev1 only.
    pub fn bare(&self) -> Self {
        self.beside(Options { capability: Some("IMAP4rev1"), ..Options::default() })
    }

    /// A second instance on the same mail.
    pub fn beside(&self, options: Options) -> Self {
        Self::on(self.mail.clone(), self.ca.clone(), options)
    }

    fn on(mail: Arc<tempfile::TempDir>, ca: Arc<(tempfile::TempDir, TestCa)>, options: Options) -> Self {
        let home = server_scratch("dovecot");
        // A port can be taken between the look and the start: try again, not for ever.
        for _ in 0..5 {
            let ports = [free_port(), free_port(), free_port(), free_port(), free_port()];
            write_config(home.path(), mail.path(), &ca.1, ports, &options);
            let config = home.path().join("dovecot.conf");
            let args = ["-F", "-c", config.to_str().unwrap()];
            let mut server = Server::start(
                Path::new("/usr/sbin/dovecot"),
                &args,
                &[],
                home.path(),
                &[home.path(), mail.path(), ca.0.path()],
            );
            let [imap, imaps, pop3, pop3s, submission] = ports.map(|p| SocketAddr::from(([127, 0, 0, 1], p)));
            let mut up = false;
            wait_for("Dovecot", || {
                up = accepts(imap);
                up || server.ended().is_some()
            });
            if up {
                return Self { server, home, mail, ca, imap, imaps, pop3, pop3s, submission };
            }
        }
        let log = std::fs::read_to_string(home.path().join("log")).unwrap_or_default();
        panic!("Dovecot does not start (is dovecot-imapd installed? tests/run does it):\n{log}");
    }

    /// A session logged in, plain.
    pub fn client(&self) -> Client {
        Client::connect(self.imap).login(UPSTREAM_USER, UPSTREAM_PASSWORD)
    }

    /// A session of another user: there are `bob` besides `ann`, and many by number ([`user`]).
    pub fn client_as(&self, user: &str) -> Client {
        Client::connect(self.imap).login(user, UPSTREAM_PASSWORD)
    }

    /// What its certificate is signed by.
    pub fn ca_file(&self) -> &Path {
        &self.ca.1.ca_file
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// How many IMAP sessions are logged in now, as it counts them itself.
    pub fn sessions(&self) -> usize {
        let config = self.home.path().join("dovecot.conf");
        let out = Command::new("doveadm").arg("-c").arg(config).args(["who", "-1"]).output().expect("doveadm");
        String::from_utf8_lossy(&out.stdout).lines().filter(|l| l.contains(" imap ")).count()
    }

    /// Runs doveadm on this instance; its output.
    pub fn admin(&self, args: &[&str]) -> String {
        let config = self.home.path().join("dovecot.conf");
        let out = Command::new("doveadm").arg("-c").arg(config).args(args).output().expect("doveadm");
        assert!(out.status.success(), "doveadm {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// All processes of this instance: the master and its children.
    pub fn pids(&self) -> Vec<u32> {
        descendants(self.server.pid())
    }

    /// Stops it for good; the mail stays for instances beside it.
    pub fn stop(&mut self) {
        self.server.stop(std::time::Duration::from_secs(10));
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("--- Dovecot's log, its end ---");
            tail.iter().rev().for_each(|l| eprintln!("{l}"));
        }
    }
}

/// A process and all below it.
pub fn descendants(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let Some(parent) = rest.split(' ').nth(1).and_then(|p| p.parse::<u32>().ok()) else { continue };
        parents.push((pid, parent));
    }
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

fn write_config(home: &Path, mail: &Path, ca: &TestCa, ports: [u16; 5], options: &Options) -> PathBuf {
    let [imap, imaps, pop3, pop3s, submission] = ports;
    let (more, relay) = match options.relay {
        None => ("", String::new()),
        Some(at) => {
            let (ip, port) = (at.ip(), at.port());
            let relay = format!(
                "hostname = provider.test\nsubmission_relay_host = {ip}\nsubmission_relay_port = {port}\nservice submission-login {{\n  inet_listener submission {{\n    port = {submission}\n  }}\n  chroot =\n}}"
            );
            (" submission", relay)
        }
    };
    let (home_s, mail_s) = (home.display(), mail.display());
    let (cert, key) = (ca.cert_file.display(), ca.key_file.display());
    let capability = options.capability.map(|c| format!("imap_capability = {c}")).unwrap_or_default();
    let cap = options.max_connections.unwrap_or(10_000);
    let [drafts, sent, trash] = match options.localised {
        true => ["Entwürfe", "Отправленные", "[Gmail]/Papierkorb"],
        false => ["Drafts", "Sent", "Trash"],
    }
    .map(|name| format!("\"{name}\""));
    let acl = home.join("acl");
    let (most, all) = ("lrstipekxa", "lrwstipekxa");
    let lines = [("*", most), ("Free", all), ("Free/*", all)].map(|(name, rights)| format!("{name} owner {rights}\n"));
    std::fs::write(&acl, lines.concat()).unwrap();
    let acl = match options.few_flags {
        true => format!("mail_plugins = acl\nplugin {{\n  acl = vfile:{}\n}}", acl.display()),
        false => String::new(),
    };
    let quota = match options.localised {
        true => {
            "mail_plugins = quota\nprotocol imap {\n  mail_plugins = $mail_plugins imap_quota\n}\nplugin {\n  quota = count:All\n  quota_vsizes = yes\n  quota_rule = *:storage=1G\n}"
        }
        false if options.one_message => {
            "mail_plugins = quota\nprotocol imap {\n  mail_plugins = $mail_plugins imap_quota\n}\nplugin {\n  quota = count:All\n  quota_vsizes = yes\n  quota_rule = *:messages=1\n}"
        }
        false => "",
    };
    let junk = if options.junk { "mailbox Junk {\n    special_use = \\Junk\n  }" } else { "" };
    let (mechanisms, tokens) = match &options.introspection {
        Some(url) => (
            if options.bearer_only { "oauthbearer" } else { "xoauth2 oauthbearer" },
            token_passdb(home, url, options.token_user.unwrap_or("sub")),
        ),
        None => ("", String::new()),
    };
    let compress = match options.compress {
        true => "mail_plugins = zlib\nprotocol imap {\n  mail_plugins = $mail_plugins imap_zlib\n}",
        false => "",
    };
    for dir in ["base", "state"] {
        let dir = home.join(dir);
        let _ = std::fs::create_dir(&dir);
        open_to_all(&dir);
    }
    let users = [UPSTREAM_USER, "bob"].into_iter().map(str::to_owned).chain((0..MORE_USERS).map(user));
    let users: String = users.map(|user| format!("{user}:{{PLAIN}}{UPSTREAM_PASSWORD}\n")).collect();
    std::fs::write(home.join("users"), users).unwrap();
    // Hundreds of sessions of one user from one address, so every limit is lifted; nothing is flushed, as nothing
    // here is to be kept.
    let config = format!(
        r"
instance_name = mailweir-test-{imap}
base_dir = {home_s}/base
state_dir = {home_s}/state
log_path = {home_s}/log
info_log_path = {home_s}/log
protocols = imap pop3{more}
listen = 127.0.0.1
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = nobody
mail_uid = 65534
mail_gid = 65534
first_valid_uid = 1
first_valid_gid = 1
mail_location = mdbox:{mail_s}/%u
mail_fsync = never
mailbox_list_index = yes
mdbox_rotate_size = 64M
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = plain login {mechanisms}
auth_username_chars = abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@+:
auth_failure_delay = 1 secs
mail_max_userip_connections = {cap}
imap_id_log =
{capability}
{acl}
{relay}
{quota}
{tokens}
{compress}
passdb {{
  driver = passwd-file
  args = {home_s}/users
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home={mail_s}/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox {drafts} {{
    special_use = \Drafts
    auto = create
  }}
  mailbox {sent} {{
    special_use = \Sent
    auto = create
  }}
  mailbox {trash} {{
    special_use = \Trash
    auto = create
  }}
  # Only in tests that make it.
  mailbox Attic {{
    special_use = \Archive
  }}
  {junk}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
  service_count = 0
  client_limit = 5000
  process_min_avail = 1
  chroot =
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
  service_count = 0
  client_limit = 5000
  chroot =
}}
service imap {{
  process_limit = 5000
}}
service anvil {{
  client_limit = 20000
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  client_limit = 20000
}}
service stats {{
  client_limit = 20000
}}
"
    );
    let path = home.join("dovecot.conf");
    std::fs::write(&path, config).unwrap();
    path
}

/// Dovecot's own OAuth 2 passdb, which introspects every token.
fn token_passdb(home: &Path, url: &str, user: &str) -> String {
    let file = home.join("oauth2.conf");
    let text = format!(
        "introspection_mode = post\nintrospection_url = {url}\nusername_attribute = {user}\nactive_attribute = active\nactive_value = true\n"
    );
    std::fs::write(&file, text).unwrap();
    format!("passdb {{\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args = {}\n}}", file.display())
}
