//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (RFC 9051 §6.3.4 to §6.3.8; RFC 6154 §3).

use crate::model::Role;
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::{Session, nothing};

impl Session {
    /// CREATE, with `USE` where upstream can (CREATE-SPECIAL-USE); elsewhere the role is left out.
    pub async fn create(&mut self, mailbox: &str, role: Option<Role>) -> Result<(), Error> {
        let mut line = Line::new("CREATE ").string(mailbox.as_bytes());
        if let Some(role) = role
            && self.caps().has("CREATE-SPECIAL-USE")
        {
            line = line.text(format!(" (USE ({}))", role.attribute()));
        }
        self.run(line, &mut nothing).await.map(|_| ())
    }

    /// DELETE. A mailbox selected here is left first: deleting it under oneself is answered differently everywhere.
    pub async fn delete(&mut self, mailbox: &str) -> Result<(), Error> {
        self.leave(mailbox).await?;
        self.run(Line::new("DELETE ").string(mailbox.as_bytes()), &mut nothing).await.map(|_| ())
    }

    /// RENAME.
    pub async fn rename(&mut self, from: &str, to: &str) -> Result<(), Error> {
        self.leave(from).await?;
        let line = Line::new("RENAME ").string(from.as_bytes()).text(" ").string(to.as_bytes());
        self.run(line, &mut nothing).await.map(|_| ())
    }

    /// SUBSCRIBE or UNSUBSCRIBE.
    pub async fn subscribe(&mut self, mailbox: &str, on: bool) -> Result<(), Error> {
        let command = if on { "SUBSCRIBE " } else { "UNSUBSCRIBE " };
        self.run(Line::new(command).string(mailbox.as_bytes()), &mut nothing).await.map(|_| ())
    }

    async fn leave(&mut self, mailbox: &str) -> Result<(), Error> {
        if self.selected().is_some_and(|(name, _)| name == mailbox) { self.close_mailbox().await } else { Ok(()) }
    }
}
