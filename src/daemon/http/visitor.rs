//! From a connection to the pages its other end may see.
//!
//! The listener speaks TLS as well, on the same port, when that is how a connection begins: Outlook asks for its settings over TLS only,
//! and a person sees by it whether his device trusts the certificate.
//!
//! Who sees what: somebody on this computer sees everything, and on the trust page the accounts' addresses. Somebody in the network sees the
//! trust page without any address, the certificate (which every TLS connection shows anyway), and the answers for mail programs, which
//! tell ports and, to who names a domain, whether it is served here. All else wants the token ([`super::Door`]).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::HEAD_TIMEOUT;
use crate::daemon::setup::kit::Visitor;
use crate::net::stream::Stream;

/// How long a request's body may take to come, once it is wanted.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection, over TLS if it begins so; `None` when it came to nothing, or at `stop`: browsers open connections they may never use.
pub(in crate::daemon) async fn welcome(
    mut stream: Stream,
    tls: Arc<ServerConfig>,
    stop: &CancellationToken,
) -> Option<(Stream, Visitor)> {
    let begun = stop.run_until_cancelled(timeout(HEAD_TIMEOUT, stream.begins_with_tls())).await?;
    let Ok(Ok(encrypted)) = begun else {
        debug!("a connection to the pages said nothing");
        return None;
    };
    let (peer, ours) = (stream.peer_ip(), stream.local_addr().ip().to_canonical());
    let visitor = Visitor { peer, ours, tls: encrypted, handed_on: false };
    if !encrypted {
        return Some((stream, visitor));
    }
    match stop.run_until_cancelled(stream.start_tls_server(tls)).await? {
        Ok(stream) => Some((stream, visitor)),
        Err(error) => {
            debug!(%error, "a connection to the pages did not finish its TLS handshake");
            None
        }
    }
}
