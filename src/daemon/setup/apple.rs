//! Apple's configuration profile (`.mobileconfig`): the authority to trust and the mail accounts in one file, for iOS, iPadOS and macOS.
//!
//! Keys as in Apple's Device Management reference (Top Level, Certificate Root, Mail). There is none for STARTTLS, so only what speaks TLS
//! from the first byte is told. Identifiers and UUIDs are drawn from the authority and the address: a profile installed once more
//! replaces itself, and two daemons' or two accounts' profiles stand side by side.

use plist::{Dictionary, Value};

use super::{Offer, Protocol, Service};
use crate::secret::Secret;

/// As browsers must be told it.
pub(crate) const CONTENT_TYPE: &str = "application/x-apple-aspen-config";

/// What identifiers are drawn with; another text would make every profile a new one.
const CONTEXT: &str = "mailweir configuration profile, identifiers";

/// One account in a profile.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    pub(crate) address: String,
    /// Only when a person wants it in the file; else the device asks.
    pub(crate) password: Option<Secret>,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error(
        "a profile with a mail account needs listen.{0}: Apple's programs are told only of servers that speak TLS from the start"
    )]
    NotServed(&'static str),
    #[error("the password of {0} is not text")]
    Password(String),
    #[error("the profile cannot be written: {0}")]
    Writing(#[from] plist::Error),
}

/// Whether the profile can hold accounts that read their mail by `incoming`.
pub(crate) fn can_serve(offer: &Offer, incoming: Protocol) -> bool {
    services(offer, incoming).is_ok()
}

/// The profile: the authority if there is one of ours (in DER), and the accounts, read by `incoming`.
pub(crate) fn profile(
    authority: Option<&[u8]>,
    offer: &Offer,
    incoming: Protocol,
    mailboxes: &[Mailbox],
) -> Result<Vec<u8>, ProfileError> {
    let ids = Ids { install: authority.unwrap_or_default() };
    let addresses = mailboxes.iter().map(|mailbox| mailbox.address.to_lowercase()).collect::<Vec<_>>().join(" ");
    let mut content = Vec::new();
    if let Some(der) = authority {
        let mut root = ids.payload("com.apple.security.root", "authority", "", "mailweir's certificate authority");
        root.insert("PayloadCertificateFileName".into(), "mailweir-ca.crt".into());
        root.insert("PayloadContent".into(), Value::Data(der.to_vec()));
        content.push(Value::Dictionary(root));
    }
    for mailbox in mailboxes {
        content.push(Value::Dictionary(mail(&ids, offer, incoming, mailbox)?));
    }
    let title = if addresses.is_empty() { "mailweir" } else { "Mail by mailweir" };
    let mut top = ids.payload("Configuration", "profile", &addresses, title);
    let words = match (authority, mailboxes) {
        (_, []) => "Lets this device trust the certificate of your own mailweir.",
        (None, _) => "Sets up mail on your own mailweir.",
        (Some(_), _) => "Sets up mail on your own mailweir, and lets this device trust its certificate.",
    };
    top.insert("PayloadDescription".into(), words.into());
    top.insert("PayloadContent".into(), Value::Array(content));
    let mut out = Vec::new();
    Value::Dictionary(top).to_writer_xml(&mut out)?;
    Ok(out)
}

fn mail(ids: &Ids<'_>, offer: &Offer, incoming: Protocol, mailbox: &Mailbox) -> Result<Dictionary, ProfileError> {
    let (reading, sending) = services(offer, incoming)?;
    let address = mailbox.address.as_str();
    let kind = if incoming == Protocol::Pop3 { "pop3" } else { "mail" };
    let mut payload = ids.payload("com.apple.mail.managed", kind, &address.to_lowercase(), address);
    let mut put = |key: &str, value: Value| {
        payload.insert(key.into(), value);
    };
    put("EmailAccountType", if incoming == Protocol::Pop3 { "EmailTypePOP" } else { "EmailTypeIMAP" }.into());
    put("EmailAccountDescription", address.into());
    put("EmailAddress", address.into());
    for (side, service) in [("Incoming", reading), ("Outgoing", sending)] {
        put(&format!("{side}MailServerAuthentication"), "EmailAuthPassword".into());
        put(&format!("{side}MailServerHostName"), offer.host.as_str().into());
        put(&format!("{side}MailServerPortNumber"), i64::from(service.port).into());
        put(&format!("{side}MailServerUseSSL"), true.into());
        put(&format!("{side}MailServerUsername"), address.into());
    }
    // Asked once, for both.
    put("OutgoingPasswordSameAsIncomingPassword", true.into());
    if let Some(password) = &mailbox.password {
        let text = std::str::from_utf8(password.expose()).map_err(|_| ProfileError::Password(address.into()))?;
        put("IncomingPassword", text.into());
        put("OutgoingPassword", text.into());
    }
    Ok(payload)
}

fn services(offer: &Offer, incoming: Protocol) -> Result<(Service, Service), ProfileError> {
    let key = if incoming == Protocol::Pop3 { "pop3s" } else { "imaps" };
    let reading = offer.over_tls(incoming).ok_or(ProfileError::NotServed(key))?;
    let sending = offer.over_tls(Protocol::Smtp).ok_or(ProfileError::NotServed("submissions"))?;
    Ok((reading, sending))
}

/// Where identifiers come from.
struct Ids<'a> {
    /// What tells this installation from others.
    install: &'a [u8],
}

impl Ids<'_> {
    /// The keys every payload must have, and its name for people.
    fn payload(&self, kind: &str, part: &str, of: &str, title: &str) -> Dictionary {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        for text in [self.install, part.as_bytes(), of.as_bytes()] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        let hash = hasher.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(hash.as_bytes().split_at(16).0);
        let mark: String = bytes.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let mut payload = Dictionary::new();
        payload.insert("PayloadType".into(), kind.into());
        payload.insert("PayloadVersion".into(), 1.into());
        payload.insert("PayloadIdentifier".into(), format!("arpa.home.mailweir.{part}.{mark}").into());
        payload.insert("PayloadUUID".into(), uuid(bytes).into());
        payload.insert("PayloadDisplayName".into(), title.into());
        payload
    }
}

/// A UUID of content of one's own choice (RFC 9562 §5.8, version 8).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default().to_owned();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::super::tests::full;
    use super::*;

    fn mailbox(address: &str) -> Mailbox {
        Mailbox { address: address.into(), password: None }
    }

    fn read(bytes: &[u8]) -> Vec<Dictionary> {
        let top = Value::from_reader_xml(bytes).unwrap().into_dictionary().unwrap();
        let inner = top.get("PayloadContent").unwrap().as_array().unwrap();
        let inner = inner.iter().map(|value| value.as_dictionary().unwrap().clone()).collect::<Vec<_>>();
        [vec![top.clone()], inner].concat()
    }

    fn ids(payloads: &[Dictionary]) -> Vec<String> {
        let text = |payload: &Dictionary, key: &str| payload.get(key).unwrap().as_string().unwrap().to_owned();
        payloads.iter().flat_map(|p| [text(p, "PayloadUUID"), text(p, "PayloadIdentifier")]).collect()
    }

    #[test]
    fn a_profile_made_again_is_the_same_and_another_one_stands_beside_it() {
        let make = |ca: &[u8], addresses: &[&str]| {
            let mailboxes: Vec<_> = addresses.iter().map(|address| mailbox(address)).collect();
            profile(Some(ca), &full(), Protocol::Imap, &mailboxes).unwrap()
        };
        let ann = make(b"ca", &["ann@example.org"]);
        assert_eq!(ann, make(b"ca", &["ann@example.org"]));
        let (ann, bob, other) =
            (read(&ann), read(&make(b"ca", &["bob@example.org"])), read(&make(b"CA", &["ann@example.org"])));
        assert_eq!(ids(&ann[1..2]), ids(&bob[1..2]), "the same authority");
        for (n, (a, b)) in ids(&ann).into_iter().zip(ids(&bob)).enumerate() {
            assert_eq!(a == b, (2..4).contains(&n), "{a} {b}");
        }
        assert!(ids(&ann).iter().zip(ids(&other)).all(|(a, b)| *a != b), "another installation");
        let mut all = ids(&read(&make(b"ca", &["ann@example.org", "bob@example.org"])));
        let before = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), before, "unique within the profile");
    }

    #[test]
    fn a_password_stands_in_it_only_when_wanted() {
        let with = Mailbox { password: Some(Secret::new("hunter<2>")), ..mailbox("ann@example.org") };
        let without = profile(None, &full(), Protocol::Imap, &[mailbox("ann@example.org")]).unwrap();
        assert!(!String::from_utf8(without).unwrap().contains("<key>IncomingPassword"));
        let payloads = read(&profile(None, &full(), Protocol::Pop3, &[with]).unwrap());
        let value = |key: &str| payloads[1].get(key).unwrap().as_string().unwrap();
        assert_eq!((value("IncomingPassword"), value("OutgoingPassword")), ("hunter<2>", "hunter<2>"));
        assert_eq!(value("EmailAccountType"), "EmailTypePOP");
    }

    #[test]
    fn what_is_not_served_is_told() {
        let offer = Offer { services: full().services.into_iter().filter(|s| s.port != 1465).collect(), ..full() };
        let error = profile(None, &offer, Protocol::Imap, &[mailbox("ann@example.org")]).unwrap_err().to_string();
        assert!(error.contains("listen.submissions"), "{error}");
        assert!(!can_serve(&offer, Protocol::Imap) && can_serve(&full(), Protocol::Pop3));
        assert_eq!(read(&profile(Some(b"ca"), &offer, Protocol::Imap, &[]).unwrap()).len(), 2, "the authority alone");
    }
}
