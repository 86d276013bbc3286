//! Where a mailbox of an unknown domain is: autoconfig documents, SRV records (RFC 6186, 8314), and whose mail exchangers it uses.
//!
//! What is found is an offer: a real login confirms it. A password is given only to a server that was found over TLS (the
//! document's), that is of the domain itself, or of a provider we know; any other, found by unauthenticated DNS, needs a person's yes
//! (RFC 6186 §6).

use std::time::Duration;

use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};

use crate::config::TlsMode;
use crate::net::http::exchange;
use crate::net::trust::Trust;
use crate::provider::{self, Preset};

/// How long one question may take; the sources are asked side by side, as a network that drops questions answers none.
const TIMEOUT: Duration = Duration::from_secs(8);

/// A server to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: TlsMode,
}

/// What a source knows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    Preset(&'static Preset),
    Servers {
        imap: Place,
        smtp: Option<Place>,
        /// If it is not the address.
        username: Option<String>,
    },
}

/// One offer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Offer {
    /// In plain words.
    pub(super) source: String,
    pub(super) found: Found,
    /// A password may go there without a person's yes.
    pub(super) vouched: bool,
}

/// Asks every source about the address's domain; the best first.
pub(super) async fn offers(
    address: &str,
    document: Option<&str>,
    nameserver: Option<std::net::SocketAddr>,
) -> Vec<Offer> {
    let Some((_, domain)) = address.rsplit_once('@') else { return Vec::new() };
    let own = [
        format!("https://autoconfig.{domain}/mail/config-v1.1.xml?emailaddress={address}"),
        format!("https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml"),
        format!("https://autoconfig.thunderbird.net/v1.1/{domain}"),
    ];
    let documents = document.map_or_else(|| own.to_vec(), |document| vec![document.to_owned()]);
    let by_document = join_all(documents.iter().map(|url| async move {
        let found = fetch(url).await.and_then(|text| read_document(&text, address))?;
        let source = url.split('?').next().unwrap_or_default().to_owned();
        Some(Offer { source, found, vouched: true })
    }));
    let resolver = resolver(nameserver);
    let by_srv = async { by_srv(resolver.as_ref()?, domain).await };
    let by_mx = async { by_mx(resolver.as_ref()?, domain).await };
    let (by_document, by_srv, by_mx) = Box::pin(async { tokio::join!(by_document, by_srv, by_mx) }).await;
    by_document.into_iter().flatten().take(1).chain(by_srv).chain(by_mx).collect()
}

async fn fetch(url: &str) -> Option<String> {
    let request = http::Request::get(url).body(Vec::new()).ok()?;
    let answer = exchange(request, &Trust::Platform, TIMEOUT).await;
    let answer = answer.inspect_err(|error| tracing::debug!(%error, "no autoconfig document")).ok()?;
    answer.status().is_success().then(|| String::from_utf8(answer.into_body()).ok()).flatten()
}

/// An autoconfig document (Thunderbird's format, version 1.1): the first IMAP server and the first for sending that are encrypted.
pub(super) fn read_document(text: &str, address: &str) -> Option<Found> {
    let (local, domain) = address.rsplit_once('@')?;
    let document = roxmltree::Document::parse(text).ok()?;
    let fill = |text: &str| {
        let text = text.replace("%EMAILADDRESS%", address).replace("%EMAILLOCALPART%", local);
        text.replace("%EMAILDOMAIN%", domain).trim().to_owned()
    };
    let servers = |element: &'static str, kind: &'static str| {
        let nodes = document
            .descendants()
            .filter(move |node| node.has_tag_name(element) && node.attribute("type") == Some(kind));
        let read = nodes.filter_map(|node| {
            let value = |name: &str| {
                let found = node.children().find(|child| child.has_tag_name(name))?;
                found.text().map(&fill)
            };
            let tls = match value("socketType")?.as_str() {
                "SSL" => TlsMode::Implicit,
                "STARTTLS" => TlsMode::StartTls,
                _ => return None,
            };
            Some((Place { host: value("hostname")?, port: value("port")?.parse().ok()?, tls }, value("username")))
        });
        read.collect::<Vec<_>>()
    };
    let (imap, username) = servers("incomingServer", "imap").into_iter().next()?;
    let smtp = servers("outgoingServer", "smtp").into_iter().next().map(|(place, _)| place);
    Some(Found::Servers { imap, smtp, username: username.filter(|name| name != address && !name.is_empty()) })
}

/// The system's resolver, or the name server given.
fn resolver(nameserver: Option<std::net::SocketAddr>) -> Option<TokioResolver> {
    let builder = match nameserver {
        None => TokioResolver::builder_tokio().inspect_err(|error| tracing::debug!(%error, "no name server")).ok()?,
        Some(address) => {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = address.port());
            let server = NameServerConfig::new(address.ip(), true, connections);
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    builder.build().ok()
}

async fn records(resolver: &TokioResolver, name: &str, kind: RecordType) -> Vec<RData> {
    // With a dot at its end, so that no search domain is put behind it.
    let looked = tokio::time::timeout(TIMEOUT, resolver.lookup(format!("{name}."), kind)).await;
    match looked {
        Ok(Ok(found)) => found.answers().iter().map(|record| record.data.clone()).collect(),
        _ => Vec::new(),
    }
}

async fn by_srv(resolver: &TokioResolver, domain: &str) -> Option<Offer> {
    let imap = [("_imaps", TlsMode::Implicit), ("_imap", TlsMode::StartTls)];
    let smtp = [("_submissions", TlsMode::Implicit), ("_submission", TlsMode::StartTls)];
    let (imap, smtp) = tokio::join!(first_srv(resolver, domain, imap), first_srv(resolver, domain, smtp));
    let imap = imap?;
    let under = |place: &Place| place.host == domain || place.host.ends_with(&format!(".{domain}"));
    let vouched = under(&imap) && smtp.as_ref().is_none_or(under);
    Some(Offer {
        source: format!("SRV records of {domain}"),
        found: Found::Servers { imap, smtp, username: None },
        vouched,
    })
}

async fn first_srv(resolver: &TokioResolver, domain: &str, services: [(&str, TlsMode); 2]) -> Option<Place> {
    let asked = services.map(|(service, tls)| async move {
        (tls, records(resolver, &format!("{service}._tcp.{domain}"), RecordType::SRV).await)
    });
    for (tls, found) in join_all(asked).await {
        let mut places: Vec<_> = found
            .into_iter()
            .filter_map(|data| match data {
                RData::SRV(srv) => Some((srv.priority, srv.port, srv.target.to_ascii())),
                _ => None,
            })
            .collect();
        places.sort();
        // A target of "." is the word that the service is not there (RFC 6186 §3.4).
        let best = places.into_iter().find(|(_, port, target)| target != "." && *port > 0);
        if let Some((_, port, target)) = best {
            return Some(Place { host: target.trim_end_matches('.').to_ascii_lowercase(), port, tls });
        }
    }
    None
}

async fn by_mx(resolver: &TokioResolver, domain: &str) -> Option<Offer> {
    let exchangers = records(resolver, domain, RecordType::MX).await;
    let known = exchangers.into_iter().find_map(|data| match data {
        RData::MX(mx) => provider::by_exchanger(&mx.exchange.to_ascii()),
        _ => None,
    })?;
    let source = format!("the mail exchangers of {domain}, which are {}'s", known.title);
    Some(Offer { source, found: Found::Preset(known), vouched: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_and_plain_servers_passed_over() {
        let text = r#"<?xml version="1.0"?><clientConfig version="1.1"><emailProvider id="example.org">
            <incomingServer type="pop3"><hostname>pop.example.org</hostname><port>995</port><socketType>SSL</socketType></incomingServer>
            <incomingServer type="imap"><hostname>plain.example.org</hostname><port>143</port><socketType>plain</socketType></incomingServer>
            <incomingServer type="imap"><hostname>imap.%EMAILDOMAIN%</hostname><port>993</port><socketType>SSL</socketType>
              <username>%EMAILLOCALPART%</username><authentication>password-cleartext</authentication></incomingServer>
            <outgoingServer type="smtp"><hostname>smtp.example.org</hostname><port>587</port><socketType>STARTTLS</socketType>
              <username>%EMAILADDRESS%</username></outgoingServer></emailProvider></clientConfig>"#;
        let want = Found::Servers {
            imap: Place { host: "imap.example.org".into(), port: 993, tls: TlsMode::Implicit },
            smtp: Some(Place { host: "smtp.example.org".into(), port: 587, tls: TlsMode::StartTls }),
            username: Some("ann".into()),
        };
        assert_eq!(read_document(text, "ann@example.org"), Some(want));
        for bad in ["", "<html>Not found</html>", "<a><b></a>", "<!DOCTYPE x [<!ENTITY a \"b\">]><x>&a;</x>"] {
            assert_eq!(read_document(bad, "ann@example.org"), None, "{bad}");
        }
    }
}
