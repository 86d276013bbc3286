//! Thunderbird's autoconfig document, version 1.1, which Thunderbird, K-9, FairEmail, eM Client and KMail read.
//!
//! Format: draft-ietf-mailmaint-autoconfig. The user name is told as the placeholder a program fills in itself, so nothing that a stranger
//! asks with comes back but the domain.

use super::xml::Element;
use super::{Offer, Protocol, Security, Service};

/// The document for the addresses of `domain`; `None` when no mail can be read here.
pub(crate) fn document(domain: &str, offer: &Offer) -> Option<String> {
    if !offer.serves() {
        return None;
    }
    let provider = Element::new("emailProvider")
        .with("id", domain)
        .child(Element::text("domain", domain))
        .child(Element::text("displayName", format!("{domain} by mailweir")))
        .child(Element::text("displayShortName", "mailweir"))
        .children(offer.of(Protocol::Imap).map(|service| server("incomingServer", "imap", &offer.host, service)))
        .children(offer.of(Protocol::Pop3).map(|service| {
            // Deleting hides from one login only; yet a program that deletes what it has fetched hides it from the next one's eyes.
            let leave = Element::new("pop3").child(Element::text("leaveMessagesOnServer", true));
            server("incomingServer", "pop3", &offer.host, service).child(leave)
        }))
        .children(offer.of(Protocol::Smtp).map(|service| server("outgoingServer", "smtp", &offer.host, service)));
    Some(Element::new("clientConfig").with("version", "1.1").child(provider).document())
}

fn server(element: &'static str, kind: &str, host: &str, service: Service) -> Element {
    let security = match service.security {
        Security::Tls => "SSL",
        Security::StartTls => "STARTTLS",
    };
    Element::new(element)
        .with("type", kind)
        .child(Element::text("hostname", host))
        .child(Element::text("port", service.port))
        .child(Element::text("socketType", security))
        .child(Element::text("username", "%EMAILADDRESS%"))
        .child(Element::text("authentication", "password-cleartext"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::full;
    use super::*;

    #[test]
    fn the_preferred_server_of_each_kind_stands_first() {
        let text = document("example.org", &full()).unwrap();
        let read = roxmltree::Document::parse(&text).unwrap();
        let ports = |kind: &str| -> Vec<String> {
            let servers = read.descendants().filter(|node| node.attribute("type") == Some(kind));
            servers
                .map(|server| {
                    let value =
                        |name| server.children().find(|child| child.has_tag_name(name)).unwrap().text().unwrap();
                    assert_eq!((value("hostname"), value("username")), ("mail.lan", "%EMAILADDRESS%"));
                    format!("{} {}", value("port"), value("socketType"))
                })
                .collect()
        };
        assert_eq!(ports("imap"), ["1993 SSL", "1143 STARTTLS"]);
        assert_eq!(ports("pop3"), ["1995 SSL", "1110 STARTTLS"]);
        assert_eq!(ports("smtp"), ["1465 SSL", "1587 STARTTLS"]);
        let nothing = Offer { host: "x".into(), services: Vec::new() };
        assert_eq!(document("example.org", &nothing), None);
    }
}
