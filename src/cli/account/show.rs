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
            row(name, &format!("{}, port {}, {security}", host(address), address.port()));
        }
    }
    let no_sending = listen.submissions.is_empty() && listen.submission.is_empty();
    if no_sending && account.smtp.is_some() {
        row(
            "sending (SMTP)",
            "not served yet: `submissions = [\"127.0.0.1:1465\"]` under [listen], then restart mailweir",
        );
    }
    row("authority to trust", &config.tls.dir.join("ca.pem").display().to_string());
    if let Some(http) = listen.http.first() {
        row("files and steps", &format!("http://localhost:{}/trust", http.port()));
    }
    out.push_str(&clients(config));
    out
}

/// What each program calls it, and where it asks, with what to type there.
fn clients(config: &Config) -> String {
    let listen = &config.listen;
    let place = |tls: &[SocketAddr], plain: &[SocketAddr]| match (tls.first(), plain.first()) {
        (Some(at), _) => Some(format!("{} {} SSL/TLS", host(at), at.port())),
        (None, Some(at)) => Some(format!("{} {} STARTTLS", host(at), at.port())),
        (None, None) => None,
    };
    let imap = place(&listen.imaps, &listen.imap);
    let pop3 = place(&listen.pop3s, &listen.pop3);
    let (kind, reading) = match (imap, pop3) {
        (Some(imap), _) => ("IMAP", imap),
        (None, Some(pop3)) => ("POP3", pop3),
        (None, None) => return "\nNo mail program can read yet: [listen] serves neither IMAP nor POP3.\n\n".to_owned(),
    };
    let sending = place(&listen.submissions, &listen.submission).unwrap_or_else(|| "none".to_owned());
    let near = [&listen.imaps, &listen.imap, &listen.pop3s, &listen.pop3];
    let near = near.iter().flat_map(|list| list.iter()).all(|address| address.ip().is_loopback());
    let phone = if near {
        "only with `lan = true` under [listen]; then \"Other\" account".to_owned()
    } else {
        format!("install the authority first; \"Other\" account, {kind}")
    };
    let rows = [
        (
            "Thunderbird",
            format!(
                "Account Setup > Configure manually; {kind}, \"Normal password\"; import the authority under Settings > Certificates"
            ),
        ),
        (
            "Outlook",
            format!(
                "File > Add Account > Let me set up my account manually > {kind} (classic Outlook; the new one goes through Microsoft)"
            ),
        ),
        ("Apple Mail", format!("Add Other Mail Account, {kind}; the authority into the keychain, always trusted")),
        ("iOS", phone.clone()),
        ("Android", phone),
        ("The Bat!", format!("Account > New > {kind} with TLS; the authority into \"Trusted Root CA\"")),
    ];
    let rows = rows.map(|(program, words)| {
        format!("  {program:<14} {words}\n                 incoming: {reading}; outgoing: {sending}\n")
    });
    format!("\n{}\n", rows.concat())
}

fn host(address: &SocketAddr) -> String {
    if address.ip().is_loopback() { "localhost".to_owned() } else { host_of(address) }
}

fn host_of(address: &SocketAddr) -> String {
    if address.ip().is_unspecified() { "this computer's name".to_owned() } else { address.ip().to_string() }
}

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
