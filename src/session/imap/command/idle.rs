//! IDLE (RFC 2177): changes are told the moment they are published. Also before SELECT, as Outlook sends it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::session::backend::Mailbox as _;
use crate::session::imap::Login;
use crate::session::imap::io::{ReadError, Stop};
use crate::session::imap::render;
use crate::session::imap::reply::{Reply, untagged};
use crate::session::imap::state::{Failure, Session, Telling};
use crate::wire::imap::framer::Frame;

/// How often an idling client hears a word: home routers forget a connection after five minutes, and writing to a client that is
/// gone is how we find out. It also takes the place of a limit on IDLE itself.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// Why the wait ended.
enum Woken {
    Read(Result<(), Stop>),
    Changed(bool),
    Silence,
    Shutdown,
}

impl<L: Login> Session<L> {
    pub(crate) async fn idle(&mut self) -> Result<Reply, Failure> {
        self.account()?;
        render::text(&mut self.io.out, "+ idling\r\n");
        let _attends = self.selected.as_deref().map(|selected| selected.mailbox.attend());
        let telling = Telling { expunge: true, uid: false };
        let mut next_word = Instant::now() + KEEP_ALIVE;
        loop {
            self.catch_up(telling, None)?;
            self.tell_alert();
            match self.io.buffered_frame() {
                Ok(None) => {}
                Ok(Some(Frame::Message(line))) if line.eq_ignore_ascii_case(b"DONE") => {
                    return Ok(Reply::ok("Idle completed"));
                }
                Ok(Some(frame)) => {
                    if !matches!(frame, Frame::Message(_)) {
                        self.io.refuse_literal();
                    }
                    return Ok(Reply::bad("Expected DONE"));
                }
                Err(ReadError::Framing(_)) if self.io.is_broken() => {
                    return Err(Stop::Bye { code: None, text: "Expected DONE" }.into());
                }
                Err(ReadError::Framing(_)) => return Ok(Reply::bad("Expected DONE")),
                Err(ReadError::Stop(stop)) => return Err(stop.into()),
            }
            if !self.io.out.is_empty() {
                next_word = Instant::now() + KEEP_ALIVE;
                self.io.flush().await?;
            }
            match self.idle_wait(next_word).await {
                Woken::Read(read) => read?,
                Woken::Changed(true) => {}
                // The engine is gone: the account was removed or the process ends.
                Woken::Changed(false) => {
                    return Err(Stop::Bye { code: Some("UNAVAILABLE"), text: "Account was closed" }.into());
                }
                Woken::Silence => untagged(&mut self.io.out, "OK", None, "Still here"),
                Woken::Shutdown => {
                    return Err(Stop::Bye { code: Some("UNAVAILABLE"), text: "Server is shutting down" }.into());
                }
            }
        }
    }

    async fn idle_wait(&mut self, next_word: Instant) -> Woken {
        let shutdown = self.io.shutdown().clone();
        let (io, watch) = (&mut self.io, self.selected.as_deref_mut().map(|selected| &mut selected.watch));
        let changed = async {
            match watch {
                Some(watch) => watch.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Woken::Shutdown,
            read = io.read() => Woken::Read(read),
            changed = changed => Woken::Changed(changed),
            () = sleep_until(next_word) => Woken::Silence,
        }
    }
}
