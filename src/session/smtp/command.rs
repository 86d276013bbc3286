//! What the commands do. Those that need nobody are here; login, the envelope and the message have files of their own.

mod envelope;
mod login;
mod message;

use super::state::{Failure, Session, Way};
use super::{Login, Passage as _};
use crate::wire::smtp::{Command, Reply};

impl<L: Login> Session<L> {
    /// Does what a command asks. `None`: it is answered, or will be in its turn.
    pub(crate) async fn run(&mut self, command: Command) -> Result<Option<Reply>, Failure> {
        match command {
            Command::Ehlo(_) => {
                self.reset().await;
                self.greeted = Some(true);
                Ok(Some(self.capabilities()))
            }
            Command::Helo(_) => {
                self.reset().await;
                self.greeted = Some(false);
                Ok(Some(Reply::new(250, "", self.server.name)))
            }
            Command::Starttls => self.starttls().map(Some),
            Command::Auth { mechanism, initial } => Box::pin(self.auth(&mechanism, initial)).await.map(Some),
            Command::Mail(mail) => Box::pin(self.mail(mail)).await.map(Some),
            Command::Rcpt(rcpt) => Box::pin(self.rcpt(rcpt)).await,
            Command::Data => Box::pin(self.data()).await.map(Some),
            Command::Bdat { octets, last } => Box::pin(self.bdat(octets, last)).await.map(Some),
            Command::Rset => {
                self.reset().await;
                Ok(Some(Reply::new(250, "2.0.0", "Reset")))
            }
            Command::Noop => Ok(Some(Reply::new(250, "2.0.0", "OK"))),
            Command::Vrfy => Ok(Some(Reply::new(252, "2.5.2", "Send it, and the provider will say"))),
            Command::Expn => Ok(Some(Reply::new(502, "5.5.1", "There are no lists here"))),
            Command::Help => Ok(Some(Reply::new(214, "2.0.0", "This is a mail submission server: log in, then send"))),
            Command::Quit => {
                self.reset().await;
                Ok(Some(Reply::new(221, "2.0.0", "Bye")))
            }
        }
    }

    /// Ends the open transaction, if there is one, without a message.
    async fn reset(&mut self) {
        // A message that has begun is given up with its connection.
        if let Some(Way::Envelope(passage)) = self.mail.take().map(|mail| mail.way) {
            passage.rest(false).await;
        }
    }
}
