//! What a person is told of accounts: the settings for mail programs, and the list.

use std::net::SocketAddr;

use crate::config::{Account, Config};

/// The settings for mail programs: a table, and the words of each program for it. `password` only when it was just made.
pub(super) fn settings(config: &Config, account: &Account, password: Option<&str>) -> String {
    let mut out = format!("\nSettings for mail programs of {}:\n\n", account.address);
    let mut row = |name: &str, value: &str| out.push_str(&format!("  {name:<22} {value}\n"));
    row("user name", &account.address);
    row("password", password.unwrap_or("the one you chose for mailweir (not the provider's)"));
    let listen = &config.listen;
    let served: [(&str, &[SocketAddr], &str); 6] = [
        ("IMAP", &listen.imaps, "SSL/TLS"),
        ("IMAP", &listen.imap, "STARTTLS"),
        ("POP3", &listen.pop3s, "SSL/TLS"),
        ("POP3", &listen.pop3, "STARTTLS"),
        ("sending (SMTP)", &listen.submissions, "SSL/TLS"),
        ("sending (SMTP)", &listen.submission, "STARTTLS"),
    ];
    for (name, addresses, security) in served {
        for address in addresses.iter().take(1) {
            let host = if address.ip().is_loopback() { "localhost".to_owned() } else { host_of(address) };
            row(name, &format!("{host}, port {}, {security}", address.port()));
        }
    }
    row("authority to trust", &config.tls.dir.join("ca.pem").display().to_string());
    if let Some(http) = listen.http.first() {
        row("files and steps", &format!("http://localhost:{}/trust", http.port()));
    }
    out.push_str(CLIENTS);
    out
}

fn host_of(address: &SocketAddr) -> String {
    if address.ip().is_unspecified() { "this computer's name".to_owned() } else { address.ip().to_string() }
}

/// What each calls it, and where it asks.
const CLIENTS: &str = "
  Thunderbird    Account Setup > Configure manually; \"Normal password\"; import the authority under Settings > Certificates
  Outlook        File > Add Account > Let me set up my account manually > IMAP (classic Outlook; the new one goes through Microsoft)
  Apple Mail     Add Other Mail Account; the authority into the keychain, always trusted
  iOS, Android   only with `lan = true` under [listen]; \"Other\" account, IMAP; install the authority first
  The Bat!       Account > New > IMAP with TLS; the authority into \"Trusted Root CA\"

";

/// One line an account.
pub(super) fn list(config: &Config) -> String {
    if config.accounts.is_empty() {
        return "no account yet; `mailweir account add ADDRESS` makes one\n".to_owned();
    }
    let rows = config.accounts.iter().map(|account| {
        let provider = account.provider.map_or("-", |preset| preset.name.as_str());
        let way = if account.oauth2.is_some() { "oauth2" } else { "password" };
        let server = format!("{}:{}", account.imap.host, account.imap.port);
        let id = crate::metrics::account_id(&account.address);
        format!("{:<32} {id:<11} {provider:<10} {way:<9} {server}\n", account.address)
    });
    // The id is what metrics call it.
    let head = format!("{:<32} {:<11} {:<10} {:<9} {}\n", "address", "id", "provider", "login", "server");
    head + &rows.collect::<String>()
}
