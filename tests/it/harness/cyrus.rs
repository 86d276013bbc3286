//! A private Cyrus, run from where `tests/run` has unpacked Debian's packages (they conflict with Dovecot's).

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::client::Client;
use super::process::Server;
use super::{
    UPSTREAM_PASSWORD, UPSTREAM_USER, accepts, ca::TestCa, free_port, give_to_nobody, server_scratch, servers_dir,
};
use super::{open_to_all, wait_for};

/// A running Cyrus.
pub struct Cyrus {
    server: Server,
    home: tempfile::TempDir,
    ca: TestCa,
    pub imap: SocketAddr,
    pub imaps: SocketAddr,
    pub pop3: SocketAddr,
}

impl Cyrus {
    pub fn start() -> Self {
        let root = servers_dir().join("cyrus");
        let master = root.join("usr/lib/cyrus/bin/master");
        assert!(master.exists(), "no Cyrus in {}: tests/run unpacks it there", root.display());
        for _ in 0..5 {
            let home = server_scratch("cyrus");
            let ca = TestCa::make(home.path());
            let ports = [free_port(), free_port(), free_port()];
            write_config(home.path(), &root, &ca, ports);
            let libs = libraries(&root);
            let sasl = root.join("usr/lib/x86_64-linux-gnu/sasl2");
            let env = [("LD_LIBRARY_PATH", libs.as_str()), ("SASL_PATH", sasl.to_str().unwrap())];
            add_user(home.path(), &root, &env);
            give_to_nobody(home.path());
            let file = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
            let (conf, services, pid) = (file("imapd.conf"), file("cyrus.conf"), file("master.pid"));
            let args = ["-C", &conf, "-M", &services, "-p", &pid, "-D"];
            let mut server = Server::start(&master, &args, &env, home.path(), &[home.path()]);
            let [imap, imaps, pop3] = ports.map(|p| SocketAddr::from(([127, 0, 0, 1], p)));
            let mut up = false;
            wait_for("Cyrus", || {
                up = accepts(imap);
                up || server.ended().is_some()
            });
            if up {
                return Self { server, home, ca, imap, imaps, pop3 };
            }
        }
        panic!("Cyrus does not start");
    }

    /// A session logged in, plain.
    pub fn client(&self) -> Client {
        Client::connect(self.imap).login(UPSTREAM_USER, UPSTREAM_PASSWORD)
    }

    pub fn ca_file(&self) -> &Path {
        &self.ca.ca_file
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    pub fn stop(&mut self) {
        self.server.stop(std::time::Duration::from_secs(10));
    }
}

fn libraries(root: &Path) -> String {
    let dirs = ["usr/lib/x86_64-linux-gnu", "usr/lib", "lib/x86_64-linux-gnu"];
    dirs.map(|d| root.join(d).display().to_string()).join(":")
}

fn add_user(home: &Path, root: &Path, env: &[(&str, &str)]) {
    let tool = root.join("usr/sbin/saslpasswd2");
    let mut child = Command::new(tool)
        .arg("-f")
        .arg(home.join("sasldb"))
        .args(["-c", "-p", "-u", "localhost", UPSTREAM_USER])
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .spawn()
        .expect("saslpasswd2");
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), UPSTREAM_PASSWORD.as_bytes()).unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "saslpasswd2 failed");
}

fn write_config(home: &Path, root: &Path, ca: &TestCa, ports: [u16; 3]) {
    for dir in ["conf", "conf/socket", "conf/db", "conf/proc", "conf/lock", "spool", "run", "sieve"] {
        fs::create_dir(home.join(dir)).unwrap();
        open_to_all(&home.join(dir));
    }
    let h = home.display();
    // An option given twice or left empty ends Cyrus without a word.
    fs::write(
        home.join("imapd.conf"),
        format!(
            "configdirectory: {h}/conf
partition-default: {h}/spool
cyrus_user: nobody
cyrus_group: nogroup
admins: cyrus
allowplaintext: yes
sasl_mech_list: PLAIN LOGIN
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {h}/sasldb
servername: localhost
altnamespace: yes
unixhierarchysep: yes
autocreate_quota: 0
autocreate_post: yes
autocreate_inbox_folders: Drafts | Sent | Trash
autocreate_subscribe_folders: Drafts | Sent | Trash
proc_path: {h}/run/proc
mboxname_lockpath: {h}/run/lock
lmtpsocket: {h}/run/lmtp
idlesocket: {h}/run/idle
notifysocket: {h}/run/notify
sievedir: {h}/sieve
delete_mode: immediate
expunge_mode: immediate
imapidlepoll: 60
maxlogins_per_user: 0
tls_server_cert: {cert}
tls_server_key: {key}
",
            cert = ca.cert_file.display(),
            key = ca.key_file.display(),
        ),
    )
    .unwrap();
    let bin = root.join("usr/lib/cyrus/bin");
    let bin = bin.display();
    let [imap, imaps, pop3] = ports;
    // Programs are named in full: the search path is where Debian would have put them.
    fs::write(
        home.join("cyrus.conf"),
        format!(
            r#"START {{
  recover cmd="{bin}/ctl_cyrusdb -C {h}/imapd.conf -r"
  idled cmd="{bin}/idled -C {h}/imapd.conf"
}}
SERVICES {{
  imap cmd="{bin}/imapd -C {h}/imapd.conf -U 100" listen="127.0.0.1:{imap}" prefork=1
  imaps cmd="{bin}/imapd -C {h}/imapd.conf -s -U 100" listen="127.0.0.1:{imaps}" prefork=0
  pop3 cmd="{bin}/pop3d -C {h}/imapd.conf -U 100" listen="127.0.0.1:{pop3}" prefork=0
}}
EVENTS {{
}}
"#
        ),
    )
    .unwrap();
}
