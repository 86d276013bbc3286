//! Outlook's Autodiscover, in its plain old XML form (MS-OXDSCLI): classic Outlook's way to settings for IMAP, POP3 and SMTP.
//!
//! What comes is read without document type declarations, so no entity grows, and with a bound on its nodes. Element names are taken
//! whatever their case and namespace: programs differ.

use super::xml::Element;
use super::{Offer, Protocol, Security, Service, domain_of};

/// The longest request taken: real ones have some 400 octets.
pub(crate) const MAX_REQUEST: usize = 16 * 1024;
/// Nodes of a request: real ones have five.
const MAX_NODES: u32 = 256;

/// The only form of answer for IMAP, POP3 and SMTP.
const SCHEMA: &str = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a";
const ENVELOPE: &str = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006";

/// Why there are no settings, as MS-OXDSCLI §2.2.4.1.1.3.2 numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoSuchAddress = 500,
    InvalidRequest = 600,
    /// Another schema is wanted: that of phones (ActiveSync), for instance.
    OtherSchema = 601,
}

/// The address asked for.
pub(crate) fn read(request: &[u8]) -> Result<String, Refusal> {
    let text = std::str::from_utf8(request).map_err(|_| Refusal::InvalidRequest)?;
    let options = roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text.trim_start_matches('\u{feff}'), options);
    let document = document.map_err(|_| Refusal::InvalidRequest)?;
    let value = |name: &str| {
        let found = document.descendants().find(|node| node.tag_name().name().eq_ignore_ascii_case(name))?;
        found.text().map(str::trim)
    };
    if value("AcceptableResponseSchema").is_some_and(|schema| schema != SCHEMA) {
        return Err(Refusal::OtherSchema);
    }
    let address = value("EMailAddress").filter(|address| domain_of(address).is_some());
    address.map(str::to_owned).ok_or(Refusal::InvalidRequest)
}

/// The settings for `address`.
pub(crate) fn settings(address: &str, offer: &Offer) -> String {
    let protocols = [Protocol::Imap, Protocol::Pop3, Protocol::Smtp];
    // Of each one, or Outlook takes the last.
    let best = protocols.into_iter().filter_map(|protocol| offer.of(protocol).next());
    let account = Element::new("Account")
        .child(Element::text("AccountType", "email"))
        .child(Element::text("Action", "settings"))
        .children(best.map(|service| protocol(address, &offer.host, service)));
    let user = Element::new("User").child(Element::text("DisplayName", address));
    let response = Element::new("Response").with("xmlns", SCHEMA).child(user).child(account);
    Element::new("Autodiscover").with("xmlns", ENVELOPE).child(response).document()
}

fn protocol(address: &str, host: &str, service: Service) -> Element {
    let name = match service.protocol {
        Protocol::Imap => "IMAP",
        Protocol::Pop3 => "POP3",
        Protocol::Smtp => "SMTP",
    };
    // It overrides SSL where it is known: Outlook 2010 and later.
    let encryption = match service.security {
        Security::Tls => "SSL",
        Security::StartTls => "TLS",
    };
    let element = Element::new("Protocol")
        .child(Element::text("Type", name))
        .child(Element::text("Server", host))
        .child(Element::text("Port", service.port))
        .child(Element::text("LoginName", address))
        .child(Element::text("DomainRequired", "off"))
        .child(Element::text("SPA", "off"))
        .child(Element::text("Encryption", encryption))
        .child(Element::text("SSL", "on"))
        .child(Element::text("AuthRequired", "on"));
    match service.protocol {
        // The same user and password; no reading before sending.
        Protocol::Smtp => element.child(Element::text("UsePOPAuth", "on")).child(Element::text("SMTPLast", "off")),
        Protocol::Imap | Protocol::Pop3 => element,
    }
}

/// No settings. `time` is the time of day, as in `10:48:31.0000000`.
pub(crate) fn refusal(refusal: Refusal, time: &str) -> String {
    let words = match refusal {
        Refusal::NoSuchAddress => "The e-mail address cannot be found.",
        Refusal::InvalidRequest => "Invalid Request",
        Refusal::OtherSchema => "Provider is not available",
    };
    let error = Element::new("Error")
        .with("Time", time)
        .with("Id", 1)
        .child(Element::text("ErrorCode", refusal as u16))
        .child(Element::text("Message", words))
        .child(Element::new("DebugData"));
    Element::new("Autodiscover").with("xmlns", ENVELOPE).child(Element::new("Response").child(error)).document()
}

#[cfg(test)]
mod tests {
    use super::super::tests::full;
    use super::*;

    fn request(address: &str, schema: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006\"><Request><EMailAddress>{address}</EMailAddress><AcceptableResponseSchema>{schema}</AcceptableResponseSchema></Request></Autodiscover>"
        )
    }

    #[test]
    fn requests() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbbbbbbbb\">]><Autodiscover><EMailAddress>&b;@example.org</EMailAddress></Autodiscover>";
        let many = format!("<a>{}<EMailAddress>ann@example.org</EMailAddress></a>", "<b/>".repeat(300));
        let deep = format!("{}{}", "<a>".repeat(5000), "</a>".repeat(5000));
        let table = [
            (request("ann@example.org", SCHEMA), Ok("ann@example.org")),
            (request(" ann@example.org\n", SCHEMA), Ok("ann@example.org")),
            (format!("\u{feff}{}", request("ann@example.org", SCHEMA)), Ok("ann@example.org")),
            ("<autodiscover><request><emailaddress>a@b.c</emailaddress></request></autodiscover>".into(), Ok("a@b.c")),
            (
                request(
                    "ann@example.org",
                    "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006",
                ),
                Err(Refusal::OtherSchema),
            ),
            (request("", SCHEMA), Err(Refusal::InvalidRequest)),
            (request("&lt;ann@example.org&gt;", SCHEMA), Err(Refusal::InvalidRequest)),
            (bomb.into(), Err(Refusal::InvalidRequest)),
            (many, Err(Refusal::InvalidRequest)),
            (deep, Err(Refusal::InvalidRequest)),
            ("not xml".into(), Err(Refusal::InvalidRequest)),
            (String::new(), Err(Refusal::InvalidRequest)),
        ];
        for (text, want) in table {
            assert_eq!(read(text.as_bytes()), want.map(str::to_owned), "{text}");
        }
        assert_eq!(read(b"<a>\xff</a>"), Err(Refusal::InvalidRequest));
    }

    #[test]
    fn one_protocol_of_each_kind_is_told() {
        let text = settings("ann@example.org", &full());
        let read = roxmltree::Document::parse(&text).unwrap();
        let protocols = read.descendants().filter(|node| node.has_tag_name((SCHEMA, "Protocol")));
        let told: Vec<String> = protocols
            .map(|node| {
                let value =
                    |name| node.children().find(|child| child.has_tag_name((SCHEMA, name))).unwrap().text().unwrap();
                assert_eq!((value("Server"), value("LoginName")), ("mail.lan", "ann@example.org"));
                format!("{} {} {}", value("Type"), value("Port"), value("Encryption"))
            })
            .collect();
        assert_eq!(told, ["IMAP 1993 SSL", "POP3 1995 SSL", "SMTP 1465 SSL"]);
        assert!(refusal(Refusal::OtherSchema, "10:48:31.0000000").contains("<ErrorCode>601</ErrorCode>"));
    }
}
