//! The answer to a command, and the one map from what goes wrong below to what the client reads.
//!
//! The codes are RFC 2449's and RFC 3206's. `[AUTH]` makes programs ask for the password again, so nothing but a wrong one says
//! it; what waiting may mend is `[SYS/TEMP]`. `[IN-USE]` is never said: any number of sessions share a maildrop.

use std::borrow::Cow;

use bytes::BytesMut;

use super::maildrop::NoMessage;
use crate::engine::Error;
use crate::session::front::LoginError;
use crate::wire::pop3;

/// The program's password is wrong, or may not be given this way.
pub(crate) const AUTH: &str = "AUTH";
/// Waiting may mend it.
pub(crate) const TEMP: &str = "SYS/TEMP";
/// A person has to mend it.
pub(crate) const PERM: &str = "SYS/PERM";

/// One status line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    ok: bool,
    code: Option<&'static str>,
    text: Cow<'static, str>,
}

impl Reply {
    pub(crate) fn ok(text: impl Into<Cow<'static, str>>) -> Self {
        Self { ok: true, code: None, text: text.into() }
    }

    pub(crate) fn err(text: impl Into<Cow<'static, str>>) -> Self {
        Self { ok: false, code: None, text: text.into() }
    }

    pub(crate) fn with(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    pub(crate) fn render(&self, out: &mut BytesMut) {
        if self.ok { pop3::ok(out, &self.text) } else { pop3::err(out, self.code, &self.text) }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The outcome as metrics tell it.
    pub(crate) fn outcome(&self) -> &'static str {
        if self.ok { "ok" } else { "no" }
    }
}

impl From<NoMessage> for Reply {
    fn from(no: NoMessage) -> Self {
        match no {
            NoMessage::Beyond(0) => Self::err("No such message, no messages in maildrop"),
            NoMessage::Beyond(count) => Self::err(format!("No such message, only {} in maildrop", messages(count))),
            NoMessage::Deleted => Self::err("Message is deleted"),
        }
    }
}

impl From<&Error> for Reply {
    fn from(error: &Error) -> Self {
        let text = || Cow::Owned(error.to_string());
        match error {
            Error::NoSuchMailbox(name) => Self::err(format!("The account has no mailbox {name}")).with(PERM),
            Error::Exists(_) | Error::Cannot(_) | Error::TooBig { .. } => Self::err(text()).with(PERM),
            // Of this one message only: the others can be had.
            Error::Expunged => Self::err("Message was deleted by another program"),
            Error::Gone => Self::err("The mailbox was put in order; connect again").with(TEMP),
            Error::Unavailable(_) | Error::Limit(_) | Error::Internal(_) => Self::err(text()).with(TEMP),
            Error::Refused { text, .. } => Self::err(format!("The provider says: {text}")).with(TEMP),
        }
    }
}

impl From<LoginError> for Reply {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Wrong => Self::err("Wrong user name or password").with(AUTH),
            LoginError::Slowed => Self::err("Too many failed logins from your address; wait a little").with(TEMP),
            LoginError::Unavailable => Self::err("This account cannot be served now").with(TEMP),
            LoginError::Refused { text, .. } => Self::err(text).with(TEMP),
        }
    }
}

/// `1 message`, `5 messages`.
pub(crate) fn messages(count: impl Into<u64>) -> String {
    match count.into() {
        1 => "1 message".to_owned(),
        count => format!("{count} messages"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(reply: &Reply) -> String {
        let mut out = BytesMut::new();
        reply.render(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn every_failure_has_its_code_and_none_but_a_wrong_password_says_auth() {
        let table = [
            (Error::NoSuchMailbox("X".into()), "-ERR [SYS/PERM] The account has no mailbox X\r\n"),
            (Error::Exists("X".into()), "-ERR [SYS/PERM] mailbox exists already: X\r\n"),
            (Error::Cannot("it cannot".into()), "-ERR [SYS/PERM] it cannot\r\n"),
            (Error::Expunged, "-ERR Message was deleted by another program\r\n"),
            (Error::TooBig { limit: 5 }, "-ERR [SYS/PERM] the message is larger than 5 octets\r\n"),
            (Error::Gone, "-ERR [SYS/TEMP] The mailbox was put in order; connect again\r\n"),
            (Error::Unavailable("away".into()), "-ERR [SYS/TEMP] away\r\n"),
            (
                Error::Refused { code: Some("AUTHENTICATIONFAILED".into()), text: "no\r\n+OK".into() },
                "-ERR [SYS/TEMP] The provider says: no??+OK\r\n",
            ),
            (Error::Limit("spent".into()), "-ERR [SYS/TEMP] spent\r\n"),
            (Error::Internal("ours".into()), "-ERR [SYS/TEMP] ours\r\n"),
        ];
        for (error, want) in table {
            assert_eq!(line(&Reply::from(&error)), want);
        }
        let table = [
            (LoginError::Wrong, "-ERR [AUTH] "),
            (LoginError::Slowed, "-ERR [SYS/TEMP] "),
            (LoginError::Unavailable, "-ERR [SYS/TEMP] "),
            (LoginError::Refused { code: None, text: "x" }, "-ERR [SYS/TEMP] x"),
        ];
        for (error, want) in table {
            assert!(line(&error.into()).starts_with(want), "{error:?}");
        }
    }

    #[test]
    fn numbers_that_are_no_messages() {
        let table = [
            (NoMessage::Beyond(0), "-ERR No such message, no messages in maildrop\r\n"),
            (NoMessage::Beyond(1), "-ERR No such message, only 1 message in maildrop\r\n"),
            (NoMessage::Beyond(1000), "-ERR No such message, only 1000 messages in maildrop\r\n"),
            (NoMessage::Deleted, "-ERR Message is deleted\r\n"),
        ];
        for (no, want) in table {
            assert_eq!(line(&no.into()), want);
        }
    }
}
