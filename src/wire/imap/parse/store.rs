//! STORE and UID STORE, and lists of flags.

use super::{Cursor, Fault, fault, numbers};
use crate::model::{FlagOp, Flags, Keyword, ModSeq};
use crate::wire::imap::command::{Command, Store};

/// Most flags in one command: a mailbox of Dovecot has at most a few hundred keywords.
const MAX_FLAGS: usize = 512;

/// RFC 9051 §6.4.6, RFC 7162 §3.1.3.
pub(super) fn store(at: &mut Cursor<'_>, uid: bool) -> Result<Command, Fault> {
    let numbers = numbers(at, uid)?;
    at.space()?;
    let mut unchanged_since = None;
    if at.peek() == Some(b'(') {
        at.list(1, |at| {
            if !at.eat_word("UNCHANGEDSINCE") {
                return fault("unknown modifier");
            }
            at.space()?;
            unchanged_since = Some(ModSeq(at.number64()?));
            Ok(())
        })?;
        at.space()?;
    }
    let name = at.word()?.to_ascii_uppercase();
    let (name, silent) = match name.strip_suffix(".SILENT") {
        Some(name) => (name, true),
        None => (name.as_str(), false),
    };
    let op = match name {
        "FLAGS" => FlagOp::Replace,
        "+FLAGS" => FlagOp::Add,
        "-FLAGS" => FlagOp::Remove,
        _ => return fault("expected FLAGS, +FLAGS or -FLAGS"),
    };
    at.space()?;
    let mut names = Vec::new();
    if at.peek() == Some(b'(') {
        names = flag_list(at)?;
    } else {
        while names.is_empty() || !at.at_end() {
            if names.len() == MAX_FLAGS {
                return fault("too many flags");
            }
            names.push(flag(at)?);
            at.skip_spaces();
        }
    }
    if names.iter().any(|name| name.eq_ignore_ascii_case("\\Recent")) {
        // RFC 3501 §2.3.2: no client alters it. Left out, it would make of `FLAGS (\Recent)` a STORE that takes all flags away.
        return fault("\\Recent is not the client's to change");
    }
    let flags = Flags::parse(names.iter().map(String::as_str));
    Ok(Command::Store(Store { numbers, op, silent, flags, unchanged_since }))
}

/// `(\Seen $Forwarded)`; the names.
pub(super) fn flag_list(at: &mut Cursor<'_>) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    at.list(MAX_FLAGS, |at| {
        names.push(flag(at)?);
        Ok(())
    })?;
    Ok(names)
}

/// One flag name. Backslash flags that nobody knows are let through, and left out by [`Flags::parse`].
fn flag(at: &mut Cursor<'_>) -> Result<String, Fault> {
    if at.eat(b'\\') {
        return Ok(format!("\\{}", at.word()?));
    }
    let name = at.astring()?;
    let name = std::str::from_utf8(&name).ok().filter(|name| Keyword::new(name).is_some());
    name.map_or_else(|| fault("malformed flag"), |name| Ok(name.to_owned()))
}
