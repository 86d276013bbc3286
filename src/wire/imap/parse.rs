//! A client's message to a [`Command`].
//!
//! imap-codec's grammar reads what it covers whole and what carries credentials (AUTHENTICATE, LOGIN, ID, ENABLE,
//! quota); the families it lacks half of (LIST with options, FETCH as clients really write it, SEARCH RETURN, SELECT
//! with QRESYNC) have readers of our own, one file each, so that one reader decides what a command means. The codec's
//! types end here (Law 3). Spaces are counted generously, words in any case; what is left over at the end is an error.
//!
//! A message is what the framer gave: inline literals in it as `{n}` CRLF bytes. Errors never repeat the client's
//! bytes, which may hold a password (Law 12).

mod append;
mod codec;
mod cursor;
mod fetch;
mod list;
mod search;
mod select;
mod store;

use std::borrow::Cow;

pub use append::{append_head, append_tail};

use super::command::{Command, Numbers, Tagged};
use cursor::Cursor;

/// A command that cannot be carried out; answered with BAD.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CommandError {
    /// The tag to answer with; none when there is no well-formed one (answered `* BAD`).
    pub tag: Option<String>,
    /// What to say, without `BAD` and a tag.
    pub text: String,
    /// No command of this name exists (the session counts these before login).
    pub unknown: bool,
}

/// What is wrong with a command, in words for its BAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault(Cow<'static, str>);

fn fault<T>(text: impl Into<Cow<'static, str>>) -> Result<T, Fault> {
    Err(Fault(text.into()))
}

/// Reads one command.
pub fn command(message: &[u8]) -> Result<Tagged, CommandError> {
    let (tag, rest) = tag(message)?;
    let known = |fault: Fault| CommandError { tag: Some(tag.to_owned()), text: fault.0.into_owned(), unknown: false };
    let mut cursor = Cursor::new(rest);
    cursor.skip_spaces();
    let name = cursor.word().map_err(|_| known(Fault("Command name missing".into())))?.to_ascii_uppercase();
    let (name, uid) = if name == "UID" {
        cursor.space().map_err(known)?;
        (cursor.word().map_err(known)?.to_ascii_uppercase(), true)
    } else {
        (name, false)
    };
    if uid && !matches!(name.as_str(), "FETCH" | "STORE" | "COPY" | "MOVE" | "SEARCH" | "EXPUNGE" | "SORT" | "THREAD") {
        return Err(CommandError {
            tag: Some(tag.to_owned()),
            text: "Unknown command after UID".to_owned(),
            unknown: true,
        });
    }
    let command = match arguments(&name, uid, message, &mut cursor) {
        Ok(Some(command)) => command,
        Ok(None) => {
            return Err(CommandError { tag: Some(tag.to_owned()), text: "Unknown command".to_owned(), unknown: true });
        }
        Err(fault) => return Err(known(Fault(format!("{name}: {}", fault.0).into()))),
    };
    Ok(Tagged { tag: tag.to_owned(), command })
}

/// The tag and what follows it.
fn tag(message: &[u8]) -> Result<(&str, &[u8]), CommandError> {
    let end = message.iter().position(|b| *b == b' ').unwrap_or(message.len());
    let (tag, rest) = message.split_at_checked(end).unwrap_or_default();
    match std::str::from_utf8(tag) {
        Ok(text) if super::is_tag(tag) => Ok((text, rest)),
        _ => Err(CommandError { tag: None, text: "Tag missing or malformed".to_owned(), unknown: false }),
    }
}

/// Reads what follows the name; nothing for a name we do not know.
fn arguments(name: &str, uid: bool, message: &[u8], at: &mut Cursor<'_>) -> Result<Option<Command>, Fault> {
    let simple = match name {
        "CAPABILITY" => Some(Command::Capability),
        "NOOP" => Some(Command::Noop),
        "LOGOUT" => Some(Command::Logout),
        "STARTTLS" => Some(Command::Starttls),
        "NAMESPACE" => Some(Command::Namespace),
        "IDLE" => Some(Command::Idle),
        "CHECK" => Some(Command::Check),
        "CLOSE" => Some(Command::Close),
        "UNSELECT" => Some(Command::Unselect),
        "EXPUNGE" if !uid => Some(Command::Expunge),
        _ => None,
    };
    if let Some(command) = simple {
        at.end()?;
        return Ok(Some(command));
    }
    if matches!(name, "LOGIN" | "AUTHENTICATE" | "ID" | "ENABLE" | "GETQUOTA" | "GETQUOTAROOT")
        && let Some(command) = codec::command(message)
    {
        return Ok(Some(command));
    }
    let command = match name {
        "AUTHENTICATE" => return fault("expected a mechanism and at most one base64 response"),
        "LOGIN" => select::login(at)?,
        "ID" => select::id(at)?,
        "ENABLE" => select::enable(at)?,
        "GETQUOTA" => Command::GetQuota(String::from_utf8_lossy(&at.spaced_astring()?).into_owned()),
        "GETQUOTAROOT" => Command::GetQuotaRoot(at.spaced_mailbox()?),
        "SELECT" => select::select(at, false)?,
        "EXAMINE" => select::select(at, true)?,
        "CREATE" => list::create(at)?,
        "DELETE" => Command::Delete(at.spaced_mailbox()?),
        "RENAME" => Command::Rename { from: at.spaced_mailbox()?, to: at.spaced_mailbox()? },
        "SUBSCRIBE" => Command::Subscribe(at.spaced_mailbox()?),
        "UNSUBSCRIBE" => Command::Unsubscribe(at.spaced_mailbox()?),
        "LIST" | "LSUB" | "XLIST" => list::list(at, name)?,
        "STATUS" => list::status(at)?,
        "APPEND" => return fault("expected a message literal"),
        "FETCH" => fetch::fetch(at, uid)?,
        "STORE" => store::store(at, uid)?,
        "COPY" => Command::Copy { numbers: numbers(at, uid)?, mailbox: at.spaced_mailbox()? },
        "MOVE" => Command::Move { numbers: numbers(at, uid)?, mailbox: at.spaced_mailbox()? },
        "SEARCH" => search::search(at, uid)?,
        "SORT" => search::sort(at, uid)?,
        "THREAD" => search::thread(at, uid)?,
        "EXPUNGE" => Command::UidExpunge(numbers(at, uid)?.set),
        _ => return Ok(None),
    };
    at.end()?;
    Ok(Some(command))
}

fn numbers(at: &mut Cursor<'_>, uid: bool) -> Result<Numbers, Fault> {
    at.space()?;
    Ok(Numbers { set: at.sequence()?, uid })
}

#[cfg(test)]
mod tests;
