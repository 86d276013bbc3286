//! The page at `/trust`: written whole here, no script, nothing fetched; readable on a phone and without its style.

use std::fmt::Write as _;

use qrcodegen::{QrCode, QrCodeEcc};
use url::form_urlencoded;

use crate::daemon::markup::escape;
use crate::daemon::setup::kit::{Kit, Visitor};
use crate::daemon::setup::{Offer, Protocol, Security, apple};

pub(super) const STYLE: &str = include_str!("trust.css");

/// The page for one visitor, who called us `host` (the value of Host).
pub(super) fn render(kit: &Kit, visitor: &Visitor, host: &str) -> String {
    let offer = kit.offer(host, visitor);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Set up your devices · mailweir</title><style>{STYLE}</style></head><body>\
         <header><h1>Set up your devices</h1><p class=\"lead\">This computer runs mailweir, your own mail server in front of your \
         provider. A device has to do two things once: trust its certificate, and learn where it is.</p></header><main>"
    );
    match kit.authority() {
        Some((_, fingerprint)) => trust(&mut out, visitor, &fingerprint),
        None => out.push_str(
            "<section class=\"card\"><h2>The certificate</h2><p>mailweir shows a certificate of its owner's own here. If your \
             devices trust whoever issued it, there is nothing to install.</p></section>",
        ),
    }
    phones(&mut out, kit, visitor);
    accounts(&mut out, kit, visitor, &offer);
    settings(&mut out, visitor, &offer);
    if kit.authority().is_some() {
        out.push_str(STEPS);
    }
    check(&mut out, visitor, host);
    out.push_str("</main><footer><p>There are no passwords on this page. It asks nothing of any other computer.</p></footer></body></html>\n");
    out
}

fn trust(out: &mut String, visitor: &Visitor, fingerprint: &str) {
    // In fours, as people read them out to each other.
    let bytes: Vec<&str> = fingerprint.split(':').collect();
    let groups = bytes.chunks(4).map(|group| group.join(":")).collect::<Vec<_>>().join(" ");
    let compare = if visitor.is_here() {
        "Compare it with the one your other device shows before it trusts the certificate."
    } else {
        "Compare it with the one on the computer that runs mailweir: open this page there, or type \
         <code>mailweir certs show</code>. This page came over the network; what it shows alone proves nothing."
    };
    // Writing to a String does not fail.
    let _ = write!(
        out,
        "<section class=\"card\"><h2>The certificate to trust</h2>\
         <p><a class=\"button\" href=\"/trust/ca.crt\">Certificate (.crt)</a>\
         <a class=\"button second\" href=\"/trust/ca.pem\">The same as .pem</a>\
         <a class=\"button second\" href=\"/trust/mailweir.mobileconfig\">Profile for Apple devices</a></p>\
         <p>Its SHA-256 fingerprint:</p><code class=\"fingerprint\">{}</code><p>{compare}</p>\
         <p>It was made on this computer for this computer alone, and it can vouch for servers in your own network only, not \
         for any web site.</p></section>",
        escape(&groups),
    );
}

fn phones(out: &mut String, kit: &Kit, visitor: &Visitor) {
    let urls = kit.urls("/trust");
    let Some(first) = urls.first() else {
        out.push_str(
            "<section class=\"card\"><h2>Phones and other computers</h2><p>mailweir serves this computer only. To serve the \
             devices of your local network too, write <code>lan = true</code> under <code>[listen]</code> in its configuration and \
             start it again; logins without encryption stay barred.</p></section>",
        );
        return;
    };
    let here = if visitor.is_here() {
        "Scan this with the phone's camera"
    } else {
        "To hand this page on, let the other device scan this"
    };
    let list: String = urls.iter().map(|url| format!("<li><code>{}</code></li>", escape(url))).collect();
    let _ = write!(
        out,
        "<section class=\"card pair\"><div><h2>Phones and other computers</h2><p>{here}, or type one of these addresses into \
         its browser. Mail programs are then told the name you came by: take the one that will stay.</p><ul class=\"plain\">{list}</ul></div>{}</section>",
        qr_code(first),
    );
}

/// As a drawing inside the page: black on white whatever the page's colours, or cameras do not see it. Empty for an address too long for a
/// code, which no name is.
fn qr_code(url: &str) -> String {
    let Ok(code) = QrCode::encode_text(url, QrCodeEcc::Medium) else { return String::new() };
    // Four modules of margin, as the standard wants.
    let size = code.size() + 8;
    let mut path = String::new();
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            let _ = write!(path, "M{} {}h1v1h-1z", x + 4, y + 4);
        }
    }
    format!(
        "<svg class=\"code\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 {size} {size}\" width=\"240\" height=\"240\" \
         shape-rendering=\"crispEdges\"><title>QR code of {}</title><path fill=\"#fff\" d=\"M0 0h{size}v{size}H0z\"/><path fill=\"#000\" d=\"{path}\"/></svg>",
        escape(url),
    )
}

/// The profile with a mail account. Addresses are listed on this computer only: a stranger in the network has to know his own.
fn accounts(out: &mut String, kit: &Kit, visitor: &Visitor, offer: &Offer) {
    if !apple::can_serve(offer, Protocol::Imap) && !apple::can_serve(offer, Protocol::Pop3) {
        return;
    }
    out.push_str(
        "<section class=\"card\"><h2>iPhone, iPad and Mac: the account ready-made</h2><p>A profile with the certificate and the \
         mail account together; the device asks for the password, which is the one chosen for mailweir.</p>",
    );
    if visitor.is_owner() {
        out.push_str("<ul class=\"plain\">");
        for address in kit.addresses() {
            let query: String =
                form_urlencoded::Serializer::new(String::new()).append_pair("emailaddress", &address).finish();
            let _ = write!(
                out,
                "<li><a href=\"/trust/mailweir.mobileconfig?{}\">Profile for {}</a></li>",
                escape(&query),
                escape(&address),
            );
        }
        out.push_str("</ul><p>These are for this computer. For another device, open this page there.</p>");
    } else {
        out.push_str(
            "<form action=\"/trust/mailweir.mobileconfig\" method=\"get\"><label for=\"address\">Your mail address</label>\
             <input id=\"address\" name=\"emailaddress\" type=\"email\" autocomplete=\"email\" required> \
             <button>Get the profile</button></form>",
        );
    }
    out.push_str("</section>");
}

fn settings(out: &mut String, visitor: &Visitor, offer: &Offer) {
    out.push_str("<section class=\"card\"><h2>Settings for any mail program</h2>");
    if !offer.serves() {
        out.push_str("<p>No mail is served at the address you came by.</p></section>");
        return;
    }
    out.push_str("<table><tbody>");
    let mut row = |name: &str, value: &str| {
        let _ = write!(out, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
    };
    let whose =
        if visitor.is_here() { ", for programs on this computer; for others, open this page there" } else { "" };
    row("Server", &format!("<code>{}</code>{whose}", escape(&offer.host)));
    for (protocol, name) in [(Protocol::Imap, "IMAP"), (Protocol::Pop3, "POP3"), (Protocol::Smtp, "Sending (SMTP)")] {
        let ways: Vec<String> = offer
            .of(protocol)
            .map(|service| {
                let security = match service.security {
                    Security::Tls => "SSL/TLS",
                    Security::StartTls => "STARTTLS",
                };
                format!("port {}, {security}", service.port)
            })
            .collect();
        if !ways.is_empty() {
            row(name, &ways.join("<br>or "));
        }
    }
    row("User name", "your whole mail address");
    row("Password", "the one chosen for mailweir, not the provider&#39;s");
    row("Method", "normal password");
    out.push_str("</tbody></table></section>");
}

fn check(out: &mut String, visitor: &Visitor, host: &str) {
    let words = if host.is_empty() {
        return;
    } else if visitor.tls {
        "This page came encrypted. If your browser shows no warning, this device trusts the certificate.".to_owned()
    } else {
        let url = format!("https://{host}/trust");
        format!(
            "Then open <a href=\"{0}\">{0}</a>: no warning means that this device trusts it. (Firefox keeps a list of its own.)",
            escape(&url)
        )
    };
    let _ = write!(out, "<section class=\"card\"><h2>Did it work?</h2><p>{words}</p></section>");
}

/// What to press on each system.
const STEPS: &str = "<section class=\"card\"><h2>Step by step</h2>\
<details><summary>Windows (Outlook, Windows Mail, eM Client)</summary><ol>\
<li>Download the <a href=\"/trust/ca.crt\">certificate</a>.</li>\
<li>To compare: type <code>certutil -hashfile mailweir-ca.crt SHA256</code> in the folder it is in. It must print the fingerprint above.</li>\
<li>Open it; choose Install Certificate, Current User, then \u{201c}Place all certificates in the following store\u{201d}: Trusted Root Certification Authorities.</li>\
<li>Outlook: File, Add Account, \u{201c}Let me set up my account manually\u{201d}, IMAP; the settings stand above. The new Outlook reads mail through its maker&#39;s servers, which cannot reach this computer: take the classic one.</li></ol></details>\
<details><summary>macOS (Apple Mail, Outlook for Mac)</summary><ol>\
<li>Open the profile from this page, then System Settings, General, Device Management (before macOS 15: Privacy &amp; Security, Profiles); its certificate shows the fingerprint. Install it.</li>\
<li>If Mail still warns: Keychain Access, find \u{201c}mailweir local CA\u{201d}, open it, Trust, \u{201c}Always Trust\u{201d}.</li></ol></details>\
<details><summary>iPhone and iPad</summary><ol>\
<li>Open this page in Safari and tap the profile; allow the download.</li>\
<li>Settings, Profile Downloaded. \u{201c}More Details\u{201d} shows the certificate and its fingerprint: compare. Then Install.</li>\
<li>Settings, General, About, Certificate Trust Settings: switch \u{201c}mailweir local CA\u{201d} on. Without this step nothing trusts it.</li>\
<li>If the profile had no account: Settings, Apps, Mail, Mail Accounts, Add Account, Other, with the settings above.</li></ol></details>\
<details><summary>Android</summary><ol>\
<li>Download the <a href=\"/trust/ca.crt\">certificate</a>.</li>\
<li>Settings, Security &amp; privacy, More security settings, Encryption &amp; credentials, Install a certificate, CA certificate, \u{201c}Install anyway\u{201d}; choose the file. Makers name these places differently: search the settings for \u{201c}CA certificate\u{201d}.</li>\
<li>To compare: the same place, Trusted credentials, User, shows the fingerprint.</li>\
<li>Thunderbird and K-9 Mail trust what is installed so; other programs may not.</li></ol></details>\
<details><summary>Thunderbird (any computer)</summary><ol>\
<li>Download the certificate as <a href=\"/trust/ca.pem\">.pem</a>.</li>\
<li>Settings, Privacy &amp; Security, Certificates, Manage Certificates, Authorities, Import; tick \u{201c}Trust this CA to identify websites\u{201d}. \u{201c}View\u{201d} there shows the fingerprint to compare.</li>\
<li>Account Settings, Account Actions, Add Mail Account; \u{201c}Configure manually\u{201d} takes the settings above. Where <code>autoconfig.</code> and your domain lead to this computer, it finds them by itself.</li></ol></details>\
<details><summary>The Bat!</summary><ol>\
<li>Options, S/MIME and TLS: with \u{201c}Microsoft CryptoAPI\u{201d} do as under Windows.</li>\
<li>With \u{201c}Internal\u{201d}: at the first connection it shows the certificate; compare the authority&#39;s fingerprint, then \u{201c}Add to Trusted\u{201d}.</li>\
<li>Account, New; server and ports as above, connection \u{201c}Secure to dedicated port (TLS)\u{201d}.</li></ol></details>\
<details><summary>Linux (Evolution, KMail, Geary, mutt)</summary><ol>\
<li>Debian and Ubuntu: <code>sudo cp mailweir-ca.pem /usr/local/share/ca-certificates/mailweir.crt &amp;&amp; sudo update-ca-certificates</code>. Fedora: <code>sudo trust anchor mailweir-ca.pem</code>.</li>\
<li>To compare: <code>openssl x509 -in mailweir-ca.pem -noout -fingerprint -sha256</code>.</li></ol></details></section>";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::setup::kit::tests::{here, kit, phone};

    #[test]
    fn the_page_follows_what_is_served() {
        let dir = tempfile::tempdir().unwrap();
        let local = kit(dir.path(), &["localhost"], &[("imaps", "127.0.0.1:1993"), ("http", "127.0.0.1:1080")]);
        let page = render(&local, &here(), "localhost:1080");
        assert!(page.contains("lan = true") && !page.contains("<svg") && !page.contains("ready-made"), "{page}");
        assert!(page.contains("https://localhost:1080/trust") && page.contains("port 1993, SSL/TLS"));
        let lan = [("imaps", "0.0.0.0:1993"), ("submissions", "0.0.0.0:1465"), ("http", "0.0.0.0:1080")];
        let lan = kit(dir.path(), &["mail.lan"], &lan);
        let page = render(&lan, &phone(), "mail.lan:1080");
        assert!(
            page.contains("<title>QR code of http://mail.lan:1080/trust</title>") && page.contains("<form"),
            "{page}"
        );
        let page = render(&lan, &Visitor { tls: true, ..phone() }, "mail.lan:1080");
        assert!(page.contains("came encrypted"));
    }

    #[test]
    fn what_a_browser_says_stays_text() {
        let dir = tempfile::tempdir().unwrap();
        let kit = kit(dir.path(), &[], &[("imaps", "0.0.0.0:1993")]);
        let page = render(&kit, &phone(), "x\"><script>y");
        assert!(!page.contains("<script"), "{page}");
    }
}
