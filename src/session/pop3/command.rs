//! What the commands do. Those that only look at the maildrop are here; login, fetching and QUIT have files of their own.

mod login;
mod quit;
mod retrieve;

use super::Login;
use super::reply::{Reply, messages};
use super::state::{Failure, Session};
use crate::wire::pop3::{self, Command};

/// Languages of our words (RFC 6856 §3): English only.
const LANGUAGES: [(&str, &str); 2] = [("en", "English"), ("i-default", "English")];

impl<L: Login> Session<L> {
    /// Does what a command asks. `None`: all of the answer is written.
    pub(crate) async fn run(&mut self, command: Command) -> Result<Option<Reply>, Failure> {
        match command {
            Command::Capa => {
                self.capabilities();
                Ok(None)
            }
            Command::Stls => self.stls().map(Some),
            Command::User(user) => self.user(user).map(Some),
            Command::Pass(password) => Box::pin(self.pass(&password)).await.map(Some),
            Command::Apop => Err(Reply::err("APOP is not served; use USER and PASS, or AUTH").into()),
            Command::Auth { mechanism, initial } => Box::pin(self.auth(mechanism, initial)).await,
            Command::Utf8 if self.open.is_some() => Err(Reply::err("UTF8 belongs before the login").into()),
            // Messages are sent as they are, and words of ours are ASCII: there is nothing to switch.
            Command::Utf8 => Ok(Some(Reply::ok("UTF-8 enabled"))),
            Command::Lang(tag) => self.language(tag.as_deref()),
            Command::Stat => {
                let (_, open) = self.opened()?;
                let (count, octets) = open.maildrop.left();
                Ok(Some(Reply::ok(format!("{count} {octets}"))))
            }
            Command::List(Some(number)) => {
                let (_, open) = self.opened()?;
                let message = open.maildrop.message(number)?;
                Ok(Some(Reply::ok(format!("{number} {}", open.maildrop.octets(message)))))
            }
            Command::List(None) => self.list().await,
            Command::Uidl(Some(number)) => {
                let (_, open) = self.opened()?;
                let message = open.maildrop.message(number)?;
                Ok(Some(Reply::ok(format!("{number} {}", open.maildrop.id(message)))))
            }
            Command::Uidl(None) => self.unique_ids().await,
            Command::Retr(number) => Box::pin(self.retrieve(number)).await,
            Command::Top { number, lines } => Box::pin(self.top(number, lines)).await,
            Command::Dele(number) => {
                let (_, open) = self.opened()?;
                open.maildrop.delete(number)?;
                Ok(Some(Reply::ok("Deleted")))
            }
            Command::Noop => {
                self.opened()?;
                Ok(Some(Reply::ok("")))
            }
            Command::Rset => {
                let (_, open) = self.opened()?;
                open.maildrop.reset();
                let (count, octets) = open.maildrop.left();
                Ok(Some(Reply::ok(format!("{} ({octets} octets)", messages(count)))))
            }
            Command::Quit => Ok(Some(Box::pin(self.quit()).await)),
        }
    }

    /// RFC 2449 §5. What is told is served whole.
    fn capabilities(&mut self) {
        let (may_login, may_upgrade) = (self.may_login(), self.server.tls.is_some() && !self.io.is_tls());
        let out = &mut self.io.out;
        pop3::ok(out, "Capability list follows");
        // EXPIRE NEVER: what is on the server stays there, whatever is fetched or deleted here.
        for line in ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "UTF8 USER", "LANG"] {
            pop3::line(out, line);
        }
        // Told before and after login alike (RFC 2449 §5), wherever they are of use.
        if may_upgrade {
            pop3::line(out, "STLS");
        }
        if may_login {
            pop3::line(out, "USER");
            pop3::line(out, "SASL PLAIN LOGIN");
        }
        pop3::line(out, &format!("IMPLEMENTATION {}", self.server.name));
        pop3::end(out);
    }

    /// RFC 6856 §3.
    fn language(&mut self, tag: Option<&str>) -> Result<Option<Reply>, Failure> {
        let Some(tag) = tag else {
            let out = &mut self.io.out;
            pop3::ok(out, "Language listing follows");
            for (tag, name) in LANGUAGES {
                pop3::line(out, &format!("{tag} {name}"));
            }
            pop3::end(out);
            return Ok(None);
        };
        // A tag with more to it (`en-GB`) is met by the language alone.
        let range = tag.split('-').next().unwrap_or(tag);
        let found = LANGUAGES.iter().find(|(known, _)| known.eq_ignore_ascii_case(tag));
        let found = found.or_else(|| LANGUAGES.iter().find(|(known, _)| known.eq_ignore_ascii_case(range)));
        match (tag, found) {
            ("*", _) => Ok(Some(Reply::ok("i-default The default language is English"))),
            (_, Some((known, _))) => Ok(Some(Reply::ok(format!("{known} Language is English")))),
            (_, None) => Err(Reply::err("No words in that language").into()),
        }
    }

    async fn list(&mut self) -> Result<Option<Reply>, Failure> {
        let (io, open) = self.opened()?;
        let (count, octets) = open.maildrop.left();
        pop3::ok(&mut io.out, &format!("{} ({octets} octets)", messages(count)));
        let mut from = 1;
        while let Some((number, message)) = open.maildrop.next(from) {
            pop3::numbered(&mut io.out, number, itoa::Buffer::new().format(open.maildrop.octets(message)));
            io.flush_if_full().await?;
            from = number.saturating_add(1);
        }
        pop3::end(&mut io.out);
        Ok(None)
    }

    async fn unique_ids(&mut self) -> Result<Option<Reply>, Failure> {
        let (io, open) = self.opened()?;
        pop3::ok(&mut io.out, "Unique-ids follow");
        let mut from = 1;
        while let Some((number, message)) = open.maildrop.next(from) {
            pop3::numbered(&mut io.out, number, &open.maildrop.id(message).to_string());
            io.flush_if_full().await?;
            from = number.saturating_add(1);
        }
        pop3::end(&mut io.out);
        Ok(None)
    }
}
