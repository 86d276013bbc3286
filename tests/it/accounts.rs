//! `mailweir account add`, `list` and `remove` beside a running daemon, against Dovecot; the first five minutes of somebody new.

mod sending;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, PROGRAM, Setup};
use crate::harness::dovecot::{Dovecot, Options};
use crate::harness::oauth::{AuthServer, Browser, Login};
use crate::harness::process::Server;
use crate::harness::search::Searched as _;
use crate::harness::{UPSTREAM_PASSWORD, UPSTREAM_USER, accepts, free_port, scratch, straight_run, wait_for};

fn mailweir(config: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).arg("--config").arg(config).output_searched().expect("mailweir")
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// A file only we can read.
fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// What was printed behind `password`.
fn password(words: &str) -> String {
    let line = words.lines().find(|line| line.trim_start().starts_with("password ")).expect("a password");
    line.split_whitespace().nth(1).unwrap().to_owned()
}

fn reads_mail(daemon: &Daemon, address: &str, password: &str) {
    let login = format!("LOGIN {address} {password}");
    let mut client = Client::connect(daemon.imap);
    wait_for("the daemon to know the account", || {
        client = Client::connect(daemon.imap);
        client.cmd(&login).is_ok()
    });
    wait_for("the mailbox", || client.cmd("SELECT INBOX").is_ok());
    assert_eq!(client.cmd_ok("UID FETCH 1 BODY.PEEK[TEXT]").by_uid().len(), 1);
}

#[test]
fn an_account_is_added_beside_a_running_daemon_and_taken_out_again() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    dovecot.client().append("INBOX", "", b"Subject: a\r\n\r\na\r\n");
    let daemon = Daemon::start(Setup::new(Account::of("bob", dovecot.imap)));
    let config = daemon.config_file();
    let before = std::fs::read_to_string(&config).unwrap() + "# the last word is mine\n";
    std::fs::write(&config, &before).unwrap();
    // The daemon's group may read it, and it is reached by a link.
    std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let home = scratch("accounts");
    let (config, real) = (config.with_file_name("link.toml"), config);
    std::os::unix::fs::symlink(&real, &config).unwrap();
    let as_it_was = || {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&real).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o640);
        assert!(std::fs::symlink_metadata(&config).unwrap().is_symlink());
    };
    let (right, wrong) = (home.path().join("right"), home.path().join("wrong"));
    private(&right, UPSTREAM_PASSWORD);
    private(&wrong, "not-the-password");
    let server = format!("localhost:{}", dovecot.imap.port());
    let add = |file: &Path| {
        let file = file.to_str().unwrap();
        let who = ["account", "add", "ann@example.org", "--non-interactive", "--username", UPSTREAM_USER];
        let at = ["--imap", &server, "--imap-tls", "none", "--upstream-password-file", file];
        mailweir(&config, &[&who[..], &at].concat())
    };
    // What the provider refuses is not written.
    let out = add(&wrong);
    assert!(out.status.code() == Some(1) && said(&out).contains("the provider says"), "{}", said(&out));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), before);
    std::fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let out = add(&wrong);
    assert!(out.status.code() == Some(1) && said(&out).contains("chmod 600"), "{}", said(&out));

    let out = add(&right);
    let words = said(&out);
    assert!(out.status.success() && words.contains("takes the login") && words.contains("takes it over"), "{words}");
    assert!(words.contains(&format!("port {}, SSL/TLS", daemon.imaps.port())), "{words}");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.starts_with(&before) && !text[before.len()..].contains(UPSTREAM_PASSWORD), "{text}");
    as_it_was();
    let local = password(&words);
    assert!(local.len() > 20 && !text.contains(&local), "only its hash is kept");
    reads_mail(&daemon, "ann@example.org", &local);

    // Twice is once.
    let again = add(&right);
    assert!(again.status.success() && said(&again).contains("nothing was changed"), "{}", said(&again));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), text);
    let list = said(&mailweir(&config, &["account", "list"]));
    assert!(list.contains("ann@example.org") && list.contains("bob@example.org") && list.contains(&server), "{list}");

    let out = mailweir(&config, &["account", "remove", "ANN@example.org"]);
    assert!(out.status.success(), "{}", said(&out));
    let left = std::fs::read_to_string(&config).unwrap();
    assert!(!left.contains("ann@example.org") && left.contains("# the last word is mine"), "{left}");
    as_it_was();
    wait_for("the daemon to let it go", || {
        !Client::connect(daemon.imap).cmd(&format!("LOGIN ann@example.org {local}")).is_ok()
    });
    assert_eq!(mailweir(&config, &["account", "remove", "ann@example.org"]).status.code(), Some(2));
    assert!(right.exists(), "a file that was only referred to is its owner's");
}

#[test]
fn the_first_account_makes_the_configuration_and_a_consent_is_part_of_it() {
    if straight_run() {
        return;
    }
    let auth = AuthServer::start(3600);
    let dovecot = Dovecot::with(Options { introspection: Some(auth.introspection_url()), ..Options::default() });
    let home = scratch("accounts");
    let config = home.path().join("new/mailweir.toml");
    let (server, addr) = (format!("localhost:{}", dovecot.imap.port()), auth.addr);
    let [token, device] = ["token", "device/auth"].map(|path| format!("http://{addr}/{path}"));
    let who =
        ["account", "add", "ann@example.org", "--username", UPSTREAM_USER, "--imap", &server, "--imap-tls", "none"];
    let consent =
        ["--client-id", "mailweir", "--token-url", &token, "--device-url", &device, "--scope", "mail", "--device"];
    // The data directory of somebody new, too.
    let mut adding = Login::run_at(home.path(), &config, &[&who[..], &consent].concat());
    let address = adding.line("On any device, visit ").split(' ').next_back().unwrap().to_owned();
    let code = adding.line("and type the code ").split(' ').next_back().unwrap().to_owned();
    Browser::new().type_code(&address, &code, UPSTREAM_USER);
    let (done, words) = adding.end();
    assert!(done && words.contains("takes the login") && words.contains("mailweir run"), "{words}");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("[listen]") && text.contains("client_id = \"mailweir\""), "{text}");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).arg("--config").arg(&config).env("HOME", home.path()).env_remove("XDG_DATA_HOME");
        command.output_searched().unwrap()
    };
    let out = run(&["check"]);
    assert!(out.status.success() && said(&out).contains("takes the login"), "{}", said(&out));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&config).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Its tokens go with it: were it there again, it would need a new consent.
    let out = run(&["account", "remove", "ann@example.org"]);
    assert!(out.status.success(), "{}", said(&out));
    std::fs::write(&config, &text).unwrap();
    let out = run(&["check"]);
    assert!(!out.status.success() && said(&out).contains("account login"), "{}", said(&out));
}

/// A name server of the tests' own: dnsmasq, knowing a few records and asking nobody.
fn name_server(dir: &Path, records: &[String]) -> (Server, SocketAddr) {
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let port = format!("--port={}", addr.port());
    let mut args = vec![
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
    ];
    args.extend(["--bind-interfaces", "--listen-address=127.0.0.1", port.as_str()]);
    args.extend(records.iter().map(String::as_str));
    let server = Server::start(Path::new("/usr/sbin/dnsmasq"), &args, &[], dir, &[]);
    wait_for("dnsmasq (tests/run installs it)", || accepts(addr));
    (server, addr)
}

#[test]
fn servers_are_found_by_dns_and_those_of_another_domain_need_a_yes() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    let home = scratch("accounts");
    let records = [
        format!("--srv-host=_imap._tcp.example.org,localhost,{}", dovecot.imap.port()),
        "--mx-host=firm.example,aspmx.l.google.com,10".to_owned(),
    ];
    let (_dns, addr) = name_server(home.path(), &records);
    let config = home.path().join("mailweir.toml");
    let file = home.path().join("password");
    private(&file, UPSTREAM_PASSWORD);
    let (addr, ca, file) = (addr.to_string(), dovecot.ca_file().to_str().unwrap(), file.to_str().unwrap());
    // Nobody listens at port 1: there is no autoconfig document.
    let from = ["--nameserver", &addr, "--autoconfig", "http://127.0.0.1:1/", "--upstream-password-file", file];
    fn add<'a>(address: &'a str, from: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        [&["account", "add", address, "--username", UPSTREAM_USER][..], from, more].concat()
    }

    let out = mailweir(&config, &add("ann@example.org", &from, &["--ca-file", ca, "--non-interactive"]));
    assert!(!out.status.success() && said(&out).contains("servers of another domain"), "{}", said(&out));
    assert!(!config.exists());
    // Nor does a token go there.
    let oauth = ["--client-id", "us", "--token-url", "https://id.example.org/token", "--no-test", "--non-interactive"];
    let out = mailweir(&config, &add("ann@example.org", &from[..4], &oauth));
    assert!(!out.status.success() && said(&out).contains("servers of another domain"), "{}", said(&out));
    assert!(!config.exists());
    let mut adding = Login::run(&config, &add("ann@example.org", &from, &["--ca-file", ca]));
    // While it waits for the answer, the file is edited.
    adding.line("Looking for the servers");
    std::fs::write(&config, "# not lost\n[listen]\nimap = [\"127.0.0.1:1143\"]\n").unwrap();
    adding.paste("y");
    let (done, words) = adding.end();
    assert!(done && words.contains("By SRV records of example.org") && words.contains("takes the login"), "{words}");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.starts_with("# not lost\n"), "{text}");
    assert!(text.contains("host = \"localhost\"") && text.contains("tls = \"starttls\""), "{text}");

    let none = mailweir(&config, &add("ann@nowhere.example", &from, &["--non-interactive"]));
    assert!(!none.status.success() && said(&none).contains("name its server with --imap"), "{}", said(&none));
    let firm = mailweir(&config, &add("ann@firm.example", &from, &["--non-interactive", "--no-test"]));
    assert!(firm.status.success() && said(&firm).contains("which are Gmail's"), "{}", said(&firm));
    assert!(std::fs::read_to_string(&config).unwrap().contains("provider = \"gmail\""));

    // A password in the file that is made for one that is typed goes with its account.
    let own = home.path().join("ann@example.org.pw");
    private(&own, UPSTREAM_PASSWORD);
    std::fs::write(&config, text.replace(file, own.to_str().unwrap())).unwrap();
    let out = mailweir(&config, &["account", "remove", "ann@example.org"]);
    assert!(out.status.success() && said(&out).contains("ann@example.org.pw, with"), "{}", said(&out));
    assert!(!own.exists() && Path::new(file).exists());
}
