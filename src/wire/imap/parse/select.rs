//! SELECT and EXAMINE, and the readers behind the codec for LOGIN, ID and ENABLE as odd clients write them.

use super::{Cursor, Fault, fault};
use crate::model::{ModSeq, UidSet, UidValidity};
use crate::secret::Secret;
use crate::wire::imap::command::{Command, Qresync, Select};

/// Most pairs in ID (RFC 2971 §3.3 allows 30), and names in ENABLE.
const MAX_WORDS: usize = 64;

/// `SELECT box [(CONDSTORE QRESYNC (…))]`, the parameters in one list, as eM Client writes them.
pub(super) fn select(at: &mut Cursor<'_>, read_only: bool) -> Result<Command, Fault> {
    let mut select = Select { mailbox: at.spaced_mailbox()?, read_only, condstore: false, qresync: None };
    at.skip_spaces();
    if at.peek() == Some(b'(') {
        at.list(MAX_WORDS, |at| {
            match at.word()?.to_ascii_uppercase().as_str() {
                "CONDSTORE" => select.condstore = true,
                "QRESYNC" => {
                    at.space()?;
                    select.qresync = Some(qresync(at)?);
                }
                _ => return fault("unknown parameter"),
            }
            Ok(())
        })?;
    }
    Ok(Command::Select(select))
}

/// RFC 7162 §7 `select-param`: `(uidvalidity modseq [known-uids] [(seqs uids)])`.
fn qresync(at: &mut Cursor<'_>) -> Result<Qresync, Fault> {
    at.expect(b'(')?;
    at.skip_spaces();
    let uid_validity = UidValidity(at.number()?);
    at.space()?;
    let modseq = ModSeq(at.number64()?);
    let mut qresync = Qresync { uid_validity, modseq, known: None, matches: None };
    at.skip_spaces();
    if at.peek().is_some_and(|b| b.is_ascii_digit()) {
        qresync.known = Some(uids(at)?);
        at.skip_spaces();
    }
    if at.eat(b'(') {
        at.skip_spaces();
        let seqs = uids(at)?;
        at.space()?;
        let uids = uids(at)?;
        at.skip_spaces();
        at.expect(b')')?;
        at.skip_spaces();
        if seqs.len() != uids.len() {
            return fault("QRESYNC sequence numbers and UIDs differ in number");
        }
        qresync.matches = Some((seqs, uids));
    }
    at.expect(b')')?;
    Ok(qresync)
}

fn uids(at: &mut Cursor<'_>) -> Result<UidSet, Fault> {
    UidSet::parse(at.set_text()).map_or_else(|| fault("malformed set of numbers"), Ok)
}

/// LOGIN with 8-bit characters in quotes, which the codec takes only as UTF-8.
pub(super) fn login(at: &mut Cursor<'_>) -> Result<Command, Fault> {
    let user = at.spaced_astring()?.into_owned();
    let password = Secret::new(at.spaced_astring()?);
    Ok(Command::Login { user, password })
}

pub(super) fn id(at: &mut Cursor<'_>) -> Result<Command, Fault> {
    at.space()?;
    if at.eat_word("NIL") {
        return Ok(Command::Id(None));
    }
    let mut pairs = Vec::new();
    at.list(MAX_WORDS, |at| {
        let key = String::from_utf8_lossy(&at.astring()?).into_owned();
        at.space()?;
        let value = if at.eat_word("NIL") { None } else { Some(String::from_utf8_lossy(&at.astring()?).into_owned()) };
        pairs.push((key, value));
        Ok(())
    })?;
    Ok(Command::Id(Some(pairs)))
}

pub(super) fn enable(at: &mut Cursor<'_>) -> Result<Command, Fault> {
    let mut names = Vec::new();
    while names.is_empty() || !at.at_end() {
        if names.len() == MAX_WORDS {
            return fault("too many names");
        }
        at.space()?;
        names.push(at.word()?.to_ascii_uppercase());
    }
    Ok(Command::Enable(names))
}
